"""Signing in and out in a real browser, also where nothing is encrypted and it tells less about its requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import BrowserContext, ConsoleMessage, Page, Route, async_playwright

from tests.browser.chromium import ARGUMENTS, CHROMIUM, NEEDED
from tests.conftest import TOKEN, Live, Start
from tests.gateway.test_actions import broken, incident_of
from tests.support.databases import sqlite
from tests.support.needs import need
from tests.support.wire import Reader, Request, Upstream, Writer, ok, read_request, upstream

STREAMS = """async () => {
    const socket = new WebSocket(`ws://${location.host}/ws`), events = new EventSource("/events/stream");
    const first = await Promise.all([
        new Promise(done => { socket.onmessage = message => done(JSON.parse(message.data).type);
                              socket.onerror = () => done("refused"); }),
        new Promise(done => { events.addEventListener("start", () => done("start"));
                              events.onerror = () => done("refused"); }),
        fetch("/events").then(response => response.status),
    ]);
    socket.close();
    events.close();
    return first;
}"""
PAGE = ok(b"<!doctype html><title>page</title>", b"Content-Type: text/html; charset=utf-8")


@asynccontextmanager
async def browsing(*, javascript: bool = True) -> AsyncIterator[BrowserContext]:
    need(CHROMIUM, NEEDED)
    # The names lead here. To a name that is not `localhost` a browser without TLS sends no Sec-Fetch-Site.
    rules = ["--host-resolver-rules=MAP gate.example 127.0.0.1"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *rules])
        try:
            yield await browser.new_context(java_script_enabled=javascript)
        finally:
            await browser.close()


def note(message: ConsoleMessage, complaints: list[str]) -> None:
    if message.type in ("error", "warning"):
        complaints.append(message.text)


async def private(start: Start, file: Path, **sections: Any) -> Live:
    return await start(
        sections.pop("services", {}),
        auth={"open_status": False},
        database={"url": sqlite(file), "auto_upgrade": False},
        **sections,
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "gate.example"])
@pytest.mark.parametrize("javascript", [True, False], ids=["script", "no script"])
async def test_signing_in_and_out(start: Start, file: Path, host: str, *, javascript: bool) -> None:
    live = await private(start, file)
    gateway = f"http://{host}:{live.port}"
    async with browsing(javascript=javascript) as context:
        page = await context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: note(message, complaints))
        await page.goto(f"{gateway}/status?range=7d")
        assert page.url == f"{gateway}/status/sign-in?next=/status%3Frange%3D7d"
        await page.fill("input[name=token]", "wrong")
        await page.click("button")
        assert "does not accept the token" in await page.inner_text("main")
        complaints.clear()  # the browser notes each 403
        await page.fill("input[name=token]", TOKEN)
        await page.click("button")
        assert page.url == f"{gateway}/status?range=7d"
        (cookie,) = await context.cookies()
        assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("tentaculo_session", True, "Lax")
        if javascript:
            assert await page.evaluate(STREAMS) == ["connected", "start", 200]
            assert await page.evaluate("document.cookie") == ""
        await page.get_by_role("banner").get_by_role("button").click()
        assert "You are signed out." in await page.inner_text("main")
        assert await context.cookies() == []
        await page.go_back()
        assert page.url.startswith(f"{gateway}/status/sign-in"), "nothing of the page is shown again"
        # The browser notes a 401 where the page looked for changes just before it was left.
        assert [one for one in complaints if "401 (Unauthorized)" not in one] == []


async def test_a_page_whose_stream_ends_does_not_overtake_the_form_that_ended_it(start: Start, file: Path) -> None:
    """The session ends before the browser has the response, so the page may see that it is signed out."""
    live = await private(start, file)
    gateway = f"http://127.0.0.1:{live.port}"

    async def late(route: Route) -> None:
        async with page.expect_response(lambda seen: seen.status in (303, 401)):
            response = await route.fetch(max_redirects=0)
        await asyncio.sleep(0.3)
        await route.fulfill(response=response)

    async with browsing() as context:
        page = await context.new_page()
        await page.goto(f"{gateway}/status")
        await page.fill("input[name=token]", TOKEN)
        async with page.expect_response(lambda response: "event-stream" in response.headers.get("content-type", "")):
            await page.click("button")
        await page.route("**/status/sign-out", late)
        await page.get_by_role("banner").get_by_role("button").click()
        await page.wait_for_url("**/status/sign-in*")
        assert "You are signed out." in await page.inner_text("main")


async def test_a_page_of_another_port_has_no_use_for_the_sign_in_of_its_visitor(start: Start, file: Path) -> None:
    """It is the same site, so that the browser sends the cookie; but another origin, even one that is listed for CORS."""

    async def application(reader: Reader, writer: Writer, state: Upstream) -> None:
        while True:
            request: Request = await read_request(reader)
            state.requests.append(request)
            writer.write(PAGE)
            await writer.drain()

    script = """async gateway => Promise.all([
        fetch(`${gateway}/events`, {credentials: "include"}).then(response => response.status, () => "refused"),
        new Promise(done => { const socket = new WebSocket(`${gateway.replace("http", "ws")}/ws`);
                              socket.onopen = () => done("open"); socket.onerror = () => done("refused"); }),
        new Promise(done => { const events = new EventSource(`${gateway}/events/stream`, {withCredentials: true});
                              events.onopen = () => done("open"); events.onerror = () => done("refused"); }),
        fetch(`${gateway}/status/sign-out`, {method: "POST", credentials: "include", mode: "no-cors",
                                             body: new URLSearchParams({form: "x"})}).then(() => "sent"),
    ])"""
    async with upstream(application) as other, browsing() as context:
        foreign = f"http://gate.example:{other.port}"
        live = await private(start, file, cors={"origins": [foreign]})
        gateway = f"http://gate.example:{live.port}"
        page = await context.new_page()
        await page.goto(f"{gateway}/status/sign-in")
        await page.fill("input[name=token]", TOKEN)
        await page.click("button")
        await page.goto(foreign)
        assert await page.evaluate(script, gateway) == [401, "refused", "refused", "sent"]
        assert [record.status for record in live.records if record.target == "/status/sign-out"] == [403]
        assert "tentaculo_session" in str(other.requests[0].headers), "what docs/threat-model.md says of other ports"
        await page.goto(f"{gateway}/status")
        assert page.url == f"{gateway}/status"


@pytest.mark.parametrize("javascript", [True, False], ids=["script", "no script"])
async def test_acting_on_an_incident(start: Start, file: Path, refusing_port: int, *, javascript: bool) -> None:
    live = await broken(start, file, refusing_port)
    number = str((await incident_of(live))["id"])
    gateway = f"http://127.0.0.1:{live.port}"
    async with browsing(javascript=javascript) as context:
        page = await context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: note(message, complaints))
        await page.goto(f"{gateway}/status/services/hermes")
        assert await page.locator("form[action='/status/actions']").count() == 0
        await page.get_by_role("link", name="Sign in").click()
        await page.fill("input[name=token]", TOKEN)
        await page.click("main button")
        assert page.url == f"{gateway}/status/services/hermes", "back where the link was"
        await page.goto(f"{gateway}/status/incidents/{number}")
        assert await page.locator("meta[http-equiv=refresh]").count() == 0, "it would take what is typed"
        await page.click(f"#act-{number} summary")
        await page.fill("textarea", "The disk is full.")
        if javascript:
            # The page follows meanwhile: what is typed and opened stays.
            await live_update(page)
            assert await page.input_value("textarea") == "The disk is full."
        await page.get_by_role("button", name="Add note").click()
        assert page.url == f"{gateway}/status/incidents/{number}"
        assert "The disk is full." in await page.inner_text("main")
        await page.click(f"#act-{number} summary")
        await page.get_by_role("button", name="Mute alerts").click()
        assert "Alerts are muted until the incident ends." in await page.inner_text("main")
        await page.goto(f"{gateway}/status")
        await page.click("#maintain summary")
        await page.select_option("select[name=services]", "hermes")
        await page.fill("input[name=reason]", "a new disk")
        await page.get_by_role("button", name="Plan", exact=True).click()
        assert page.url == f"{gateway}/status"
        assert "a new disk" in await page.inner_text("main")
        assert complaints == []


async def live_update(page: Page) -> None:
    """Wait until the page has followed by itself."""
    before = await page.locator("#fresh time").get_attribute("datetime")
    await page.wait_for_function(
        "before => document.querySelector('#fresh time').getAttribute('datetime') !== before",
        arg=before,
        timeout=20_000,
    )
