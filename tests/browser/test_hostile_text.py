"""Whatever services, callers and the database send, the pages show it as text: bounded, in its place, and never run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from aiohttp import ClientSession
from playwright.async_api import Page

from tentaculo.model.page import PageInfo, ServiceInfo
from tentaculo.model.text import printable
from tentaculo.web.viewer import Viewer
from tests.browser.chromium import CHROMIUM, NEEDED, complaints_of, opened, overflow, shared
from tests.browser.pages import PAGES, Shown, signed_in
from tests.conftest import TOKEN, living
from tests.support.databases import sqlite
from tests.support.native_gateway import State
from tests.support.needs import need
from tests.support.wire import answering, ok, upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

LONG = "W" * 1_000_000
ATTACKS = (
    "שלום<script>window.taken = 1</script>",
    "שלום\"><img src=x onerror='window.taken = 1'>",
    "שלום\u202e\u2066'--></style></title></script><svg onload=window.taken=1>",
    "שלום</bdi></p><a href=javascript:window.taken=1>here</a><iframe srcdoc=a>",
    "שלום{{7*7}}{%raw%}${7*7}\x00\x1b[31m\x9b\u2028\u2069\u2068\u200f\r\nSet-Cookie: a=b",
    "שלום" + "e" + "\u0301" * 3000,
)
ADDRESS = 'https://a/?"><script>window.taken=1</script>'
FREE = frozenset({
    *("reason", "snippet", "endpoint", "maintenance", "author", "text", "note", "ending", "about", "owner", "group"),
    *("title", "issuer", "names", "source", "type", "message", "error", "last_failure", "correlation_id", "label"),
})  # fmt: skip
"""Fields in which somebody else's text stands."""
FOUND = """() => {
    const texts = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walk.nextNode());) if (!["STYLE", "SCRIPT"].includes(node.parentElement.tagName)) texts.push(node);
    const isolating = node => { let one = node.parentElement;
        const alone = style => style.display !== "inline" || style.unicodeBidi !== "normal";
        while (!alone(getComputedStyle(one))) one = one.parentElement;
        return one; };
    const mixed = texts.filter(node => node.data.includes("שלום") && !isolating(node).textContent.trim().startsWith("שלום"))
        .filter(node => !isolating(node).closest("[lang='']") && !/^[^\\u05d0-\\u05ea]*\\u2068/.test(node.data));
    const tall = [...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().height > 9000);
    return {
        taken: window.taken ?? null,
        hostile: texts.filter(node => node.data.includes("שלום")).length,
        elements: [...document.querySelectorAll("img, iframe, object, embed, base, meta[http-equiv], main script, main style, main title:not(svg title)")]
            .map(e => e.outerHTML.slice(0, 100)),
        attributes: [...document.querySelectorAll("*")].flatMap(e => [...e.attributes])
            .filter(a => /^on/.test(a.name) || /^\\s*javascript:/i.test(a.value)).map(a => a.name + "=" + a.value.slice(0, 50)),
        unprintable: texts.map(node => node.data).filter(text => /[\\0-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066\\u2067]/.test(text)),
        mixed: mixed.map(node => isolating(node).textContent.trim().slice(0, 120)),
        size: document.documentElement.outerHTML.length,
        height: document.documentElement.scrollHeight,
        tall: tall.length,
    };
}"""


def spoiled(value: Any, attacks: Iterator[str], own: frozenset[str], name: str = "") -> Any:
    """`value` with somebody else's text in each field that may have it, however deep. `own` are names that stay."""
    if isinstance(value, Enum) or (
        isinstance(value, str) and (name not in FREE or value in own or "gateway." in value)
    ):
        return value
    if isinstance(value, str):
        return next(attacks) + LONG
    if is_dataclass(value) and not isinstance(value, type):
        changed = {
            one.name: spoiled(getattr(value, one.name), attacks, own, one.name) for one in fields(value) if one.init
        }
        return replace(value, **changed)
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
        return type(value)(**{one: spoiled(getattr(value, one), attacks, own, one) for one in names})
    if isinstance(value, tuple) and (keys := getattr(value, "_fields", None)):
        return type(value)(*(spoiled(one, attacks, own, key) for key, one in zip(keys, value, strict=True)))
    if isinstance(value, tuple | list):
        return type(value)(spoiled(one, attacks, own, name) for one in value)
    if isinstance(value, Mapping):
        if name == "payload":
            return {"message": next(attacks) + LONG, next(attacks): [next(attacks) + LONG] * 3}
        return {key: spoiled(one, attacks, own, name) for key, one in value.items()}
    return value


def hostile(state: State, *, is_signed_in: bool) -> State:
    """The same fleet, of which each text is an attack."""
    attacks = cycle(ATTACKS)
    own = frozenset(view.name for view in state.services)
    for name in (
        "services",
        "results",
        "seen_certificates",
        "changes",
        "earlier",
        "just_before",
        "events",
        "log_page",
        "report",
    ):
        setattr(state, name, spoiled(getattr(state, name), attacks, own))
    books = state.books
    for name in ("incidents", "notes", "planned"):
        setattr(books, name, spoiled(getattr(books, name), attacks, own))
    # The configuration takes a bounded line without control characters.
    said = [printable(attack, 60) for attack in ATTACKS]
    state.info = PageInfo(
        said[0],
        services={name: ServiceInfo(said[1], said[2], said[3], ADDRESS) for name in own},
    )
    state.route_counts = {
        service: {next(attacks) + LONG: count for count in counts.values()}
        for service, counts in state.route_counts.items()
    }
    state.viewer = Viewer(is_signed_in=is_signed_in)
    return state


async def look(page: Page, complaints: list[str]) -> int:
    """Check what the browser made of the page. Returns how many hostile texts it shows."""
    await page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    found = await page.evaluate(FOUND)
    assert complaints == []
    assert found["taken"] is None
    assert (found["elements"], found["attributes"], found["unprintable"]) == ([], [], [])
    assert found["mixed"] == [], "text of another direction turns ours around"
    assert found["size"] < 300_000
    assert found["height"] < 25_000
    for width in (1280, 320):
        await page.set_viewport_size({"width": width, "height": 844})
        assert await overflow(page) <= 0, width
    return int(found["hostile"])


@pytest.mark.parametrize("is_signed_in", [True, False], ids=["signed in", "public"])
@pytest.mark.parametrize("shown", [one for one in PAGES if one.state.__name__ != "many"], ids=str)
async def test_every_text_stays_text(shown: Shown, is_signed_in: bool) -> None:
    async with opened(hostile(shown.state(), is_signed_in=is_signed_in), path=shown.path) as (page, complaints):
        await look(page, [said for said in complaints if str(shown.status) not in said])


async def test_the_attacks_reach_the_pages() -> None:
    """Without this a page that shows none of them would pass."""
    for path, least in (("/status", 20), ("/status/services/hermes", 15)):
        async with opened(hostile(signed_in(), is_signed_in=True), path=path) as (page, complaints):
            assert await look(page, complaints) >= least


async def test_what_comes_through_a_whole_gateway_stays_text(file: Path, tmp_path: Path) -> None:
    """A service, a producer of events and the author of a note who send attacks, to a gateway with a real database."""
    need(CHROMIUM, NEEDED)
    answers = cycle(ATTACKS)
    services: dict[str, dict[str, Any]] = {
        "hostile": {
            "probe": {"interval": 0.5, "failures": 1},
            **{name: printable(attack, 60) for name, attack in zip(("about", "owner", "group"), ATTACKS, strict=False)},
            "runbook": "https://a/?%22%3E%3Cscript%3Ewindow.taken=1%3C/script%3E",
        },
        "child": {"depends_on": ["hostile"]},
    }
    headers = {"X-VX11-Token": TOKEN}
    async with (
        upstream(answering(lambda _: ok((next(answers) + LONG).encode(), status=b"503 Oh"))) as up,
        living(
            tmp_path,
            {name: {"url": f"http://127.0.0.1:{up.port}", **more} for name, more in services.items()},
            probes=True,
            database={"url": sqlite(file)},
            page={"title": printable(ATTACKS[0], 60)},
        ) as live,
        ClientSession(f"http://127.0.0.1:{live.port}", headers=headers) as client,
    ):
        for attack in ATTACKS:
            event = {"source": printable(attack, 60), "type": printable(attack, 60), "payload": {attack: attack * 2}}
            async with client.post("/events/ingest", json=event) as response:
                assert response.status == 201, await response.text()
        incidents: list[dict[str, Any]] = []
        async with asyncio.timeout(20):
            while not incidents:
                await asyncio.sleep(0.1)
                async with client.get("/vx11/incidents") as response:
                    incidents = (await response.json())["incidents"]
        number = incidents[0]["id"]
        for attack in ATTACKS:
            note = {"author": printable(attack, 40), "text": printable(attack, 1000) * 3}
            async with client.post(f"/vx11/incidents/{number}/notes", json=note) as response:
                assert response.status == 201, await response.text()
            window = {"services": ["child"], "minutes": 9, "reason": printable(attack, 190)}
            async with client.post("/vx11/maintenance", json=window) as response:
                assert response.status == 201, await response.text()
        said = {"author": printable(ATTACKS[1], 40), "note": printable(ATTACKS[2], 500)}
        async with client.post(f"/vx11/incidents/{number}/acknowledgements", json=said) as response:
            assert response.status == 201, await response.text()
        wanted = quote(ATTACKS[1][:70])
        paths = {
            "/status": 8,
            f"/status?filter={wanted}": 1,
            "/status/services/hostile": 5,
            "/status/incidents": 1,
            f"/status/incidents/{number}": 8,
            "/status/events?range=3h": 12,
            f"/status/events?text={wanted}&type={wanted}&source={wanted}&correlation={wanted}": 0,
            f"/status/sign-in?next={wanted}&said={wanted}": 0,
            f"/status/services/{wanted}": 0,
            f"/status?group={wanted}": 0,
        }
        (browser,) = shared
        for is_signed_in in (True, False):
            for path, least in paths.items():
                context = await browser.new_context(extra_http_headers=headers if is_signed_in else {})
                page = await context.new_page()
                complaints = complaints_of(page)
                shown = await page.goto(f"http://127.0.0.1:{live.port}{path}")
                assert shown is not None
                refused = [one for one in complaints if str(shown.status) in one and shown.status >= 400]
                found = await look(page, [one for one in complaints if one not in refused])
                assert not is_signed_in or found >= least, path
                await context.close()
