"""The status page, as it comes over HTTP."""

from __future__ import annotations

import asyncio
import base64
import re
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from tentaculo.model.health import Counts, Endpoint, EndpointView, Health
from tentaculo.model.history import HistorySummary, UptimeShare
from tentaculo.web.status_page import event_row
from tests.support.native_gateway import CLOSED, OPEN, TOKEN, Gateway, event, view

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'>"


class Outline(HTMLParser):
    """The elements of a page, and the text that people read."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._hidden = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)
        self._hidden = tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += f" {data}"


async def page(gateway: Gateway) -> str:
    async with gateway.client.get("/status") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        return await answer.text()


def words(text: str) -> str:
    return " ".join(Outline(text).text.split())


async def test_the_page_says_it_in_words(gateway: Gateway) -> None:
    gateway.state.events = [event(1), event(2, type="system.alert", payload={"severity": "critical"})]
    said = words(await page(gateway))
    assert "2 of 6 services are healthy." in said
    assert "hermes is down since 12:09 UTC: connection refused" in said
    assert "mcp is up with an open circuit breaker: connection refused 5 times in a row" in said
    assert "switch is degraded since 12:09 UTC: slow: 1840 ms" in said
    for state in ("Up", "Degraded", "Down", "Off", "Maintenance", "Unknown"):
        assert f" {state} for 3 h" in said
    assert "Open, next try in 6 s" in said
    assert "madre Up for 3 h 8001 4 ms 3 s ago /health answered 200 Closed" in said
    assert "system.alert madre critical 20 s ago" in said
    assert "Version 8.0.0 Running for 2 days Database connected" in said


async def test_times_are_there_for_machines_too(gateway: Gateway) -> None:
    text = await page(gateway)
    assert '<time datetime="2026-03-14T15:09:23+00:00" title="2026-03-14 15:09:23 UTC">3 s ago</time>' in text


async def test_what_comes_from_outside_is_text(gateway: Gateway) -> None:
    gateway.state.services = (
        view(HOSTILE, health=Health.DOWN, reason=HOSTILE, endpoint=f"/{HOSTILE}", snippet=HOSTILE),
    )
    gateway.state.events = [event(1, source=HOSTILE, type=HOSTILE, payload={"severity": HOSTILE, HOSTILE: HOSTILE})]
    text = await page(gateway)
    outline = Outline(text)
    assert outline.tags.count("script") == 1
    assert "img" not in outline.tags
    assert not [name for name, _ in outline.attributes if name.startswith("on")]
    assert HOSTILE in outline.text
    assert text.count("<script>alert(1)") == 0


async def test_unprintable_bytes_and_endless_text_are_cut(gateway: Gateway) -> None:
    gateway.state.services = (view("madre", snippet="\x1b[31m\x00\u202ered\ud800" + "x" * 10_000),)
    gateway.state.events = [event(1, payload={"text": "\ud800" + "y" * 60_000})]
    text = await page(gateway)
    assert not set(text) & {"\x1b", "\x00", "\u202e", "\ufffd"}
    assert "x" * 100 in text
    assert "x" * 121 not in text
    assert "y" * 161 not in text


async def test_the_policy_allows_this_style_and_script_and_no_other(gateway: Gateway) -> None:
    async with gateway.client.get("/status") as answer:
        text, policy = await answer.text(), answer.headers["Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for element, rule in (("style", "style-src"), ("script", "script-src")):
        found = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(sha256(found[0].encode()).digest()).decode()
        assert len(found) == 1
        assert rules[rule] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "'self' data:"
    assert not [name for name, _ in Outline(text).attributes if name == "style"]


async def test_the_page_is_small_and_holds_no_secret(gateway: Gateway) -> None:
    gateway.state.services = tuple(view(f"service-{n}", 8000 + n, snippet="x" * 200) for n in range(12))
    gateway.state.events = [event(n, payload={"text": "x" * 500}) for n in range(40)]
    text = await page(gateway)
    assert len(text.encode()) < 60_000
    assert "10.9.8.7" not in text
    assert TOKEN not in text


async def test_a_lost_database_is_said_in_words_and_the_services_stay(gateway: Gateway) -> None:
    gateway.state.lost = "The database file tentaculo.db is read-only."
    said = words(await page(gateway))
    assert "The database is lost. The database file tentaculo.db is read-only." in said
    assert "The events cannot be read now: the database is not available." in said
    assert "Database lost" in said
    assert "hermes is down" in said


@pytest.mark.parametrize("fault", [OSError("disk"), RuntimeError("a defect"), KeyError("id")])
async def test_a_store_that_fails_in_any_way_does_not_take_the_page_down(gateway: Gateway, fault: Exception) -> None:
    gateway.state.fault = fault
    said = words(await page(gateway))
    assert "The events cannot be read now" in said
    assert "hermes is down" in said


async def test_a_store_that_hangs_costs_a_bounded_time(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tentaculo.web.status_page._STORE_WAIT", 0.1)
    gateway.state.hangs = True
    async with asyncio.timeout(5):
        said = words(await page(gateway))
    assert "The events cannot be read now" in said
    assert "The last day It cannot be read now" in said
    assert "hermes is down" in said


async def test_no_events_yet(gateway: Gateway) -> None:
    assert "None yet. Services send them to /events/ingest" in words(await page(gateway))


async def test_a_flood_is_rendered_once_a_second(gateway: Gateway) -> None:
    first = await page(gateway)
    gateway.state.services = (view("madre"),)
    for _ in range(5):
        assert await page(gateway) == first
    assert gateway.state.asked_for_events == 1
    gateway.state.clock += 1.0
    assert "madre is healthy." in words(await page(gateway))
    assert gateway.state.asked_for_events == 2


async def test_several_addresses_are_counted_and_not_shown(gateway: Gateway) -> None:
    upstreams = tuple(
        EndpointView(Endpoint("madre", f"10.9.8.{n}", 8001), health, breaker)
        for n, (health, breaker) in enumerate([(Health.UP, CLOSED), (Health.DOWN, CLOSED), (Health.UP, OPEN)])
    )
    gateway.state.services = (view("madre", upstreams=upstreams),)
    text = await page(gateway)
    assert "1 of 3 addresses healthy" in words(text)
    assert "10.9.8" not in text


async def test_what_probes_and_requests_met_and_what_is_behind_a_failure(gateway: Gateway) -> None:
    seen = EndpointView(Endpoint("operator", "10.9.8.7", 8011), Health.DOWN, CLOSED, Counts(812, 3), Counts(4000, 31))
    gateway.state.services = (
        view("operator", health=Health.DOWN, reason="answered 503", root="switch", upstreams=(seen,)),
        view("switch", health=Health.DOWN, reason="connection refused"),
    )
    said = words(await page(gateway))
    assert "Down for 3 h because of switch" in said
    assert "815 probes, 3 failed" in said
    assert "Closed 4,031 requests, 31 failed" in said
    assert "operator is down since 12:09 UTC: answered 503; it depends on switch, which is down" in said
    assert said.index("switch is down") < said.index("operator is down"), "the root is told first"


async def test_no_services_at_all(gateway: Gateway) -> None:
    gateway.state.services = ()
    assert "No services are configured yet." in words(await page(gateway))


async def test_many_troubles_are_told_in_short(gateway: Gateway) -> None:
    gateway.state.services = tuple(view(f"s{n}", 9000 + n, Health.DOWN, reason="connection refused") for n in range(9))
    text = await page(gateway)
    assert "None of 9 services is healthy." in words(text)
    assert "and 4 more, marked below" in words(text)
    for anchor in re.findall(r'href="#(service-\d+)"', text):
        assert f'id="{anchor}"' in text


async def test_the_root_leads_here(gateway: Gateway) -> None:
    async with gateway.client.get("/", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "/status")


async def test_head(gateway: Gateway) -> None:
    async with gateway.client.head("/status") as answer:
        assert (answer.status, await answer.read()) == (200, b"")
        assert int(answer.headers["Content-Length"]) > 1000


async def test_tables_are_told_to_screen_readers(gateway: Gateway) -> None:
    gateway.state.events = [event(1)]
    text = await page(gateway)
    assert text.count("<caption>") == text.count("<table ") == 3
    assert text.count('scope="row"') == len(gateway.state.services) + 2 + 1
    assert text.count('scope="col"') == 8 + 6 + 5
    assert text.count('lang="en"') == 1


async def test_the_past_is_told_in_words_and_drawn(gateway: Gateway) -> None:
    text = await page(gateway)
    said = words(text)
    assert "madre 98.95 % 99.98 % 142 ms of requests 280 ms of requests" in said
    # Of switch only the last two hours are known, and nothing is claimed of the rest.
    assert "switch 100 % 100 % since 14:00 UTC in part by probes 4.0 ms of probes 4.0 ms of probes" in said
    # The chart's words are there for who cannot see it, and for who points at it.
    assert said.count("Slowest at 16:00 UTC: 95 % within 291 ms. Failures in the hour from 10:00 UTC.") == 1
    assert text.count('aria-label="Slowest at 16:00 UTC') == 1
    assert text.count('<path class="bars" d="M') == 2
    assert "unheard-of" not in said, "a service that is not configured any more has no row"


async def test_of_a_large_fleet_the_past_of_some_is_told(gateway: Gateway) -> None:
    state = gateway.state
    state.services = tuple(view(f"s-{number}", 9000 + number) for number in range(120))
    state.past = {f"s-{number}": HistorySummary((), UptimeShare(100 / (100 + number))) for number in range(120)}
    text = await page(gateway)
    assert "the past of 20 more is at /vx11/history/<service>" in words(text)
    assert text.count('data-label="Well, 90 days"') == 100


async def test_the_past_is_asked_for_twice_a_minute_at_most(gateway: Gateway) -> None:
    state = gateway.state
    await page(gateway)
    state.clock += 29
    state.past = {}
    assert "98.95 %" in await page(gateway)
    assert (state.asked_for_events, state.asked_for_past) == (2, 1)
    state.clock += 1
    assert "The last day Nothing yet." in words(await page(gateway))
    assert (state.asked_for_events, state.asked_for_past) == (3, 2)


@pytest.mark.parametrize("fault", [OSError("gone"), ValueError("a row of another shape")])
async def test_a_past_that_cannot_be_read_is_said_and_not_asked_for_at_every_look(
    gateway: Gateway, fault: Exception
) -> None:
    state = gateway.state
    state.fault = fault
    said = words(await page(gateway))
    assert "The last day It cannot be read now: the database is not available." in said
    assert "2 of 6 services are healthy." in said
    state.clock += 5
    await page(gateway)
    assert state.asked_for_past == 1
    state.fault = None
    state.clock += 26
    assert "98.95 %" in await page(gateway)


def test_the_severity_of_an_event_is_the_stored_one() -> None:
    own = event(1, payload={"service": "madre"}, severity="warning")
    older = event(2, payload={"severity": "L3"}, severity=None)
    assert [event_row(one, one.received_at).severity for one in (own, older)] == ["warning", "L3"]
