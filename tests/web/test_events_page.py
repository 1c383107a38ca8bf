"""The page of events, as it comes over HTTP: what is shown to whom, its filters, and what is connected."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from yarl import URL

from tentaculo.events.query import parse_page_filter
from tentaculo.model.clock import CorrectedTime
from tentaculo.model.event import PAGE_INCIDENTS, Event, EventFilter, EventLink, LogPage
from tentaculo.model.health import GATEWAY_NAME
from tentaculo.model.incident import MaintenanceWindow
from tentaculo.model.page import PageInfo
from tentaculo.model.precursor import Precursor, PrecursorReport, ServicePrecursors
from tentaculo.web.event_text import PUBLIC_TYPES
from tentaculo.web.viewer import Viewer
from tentaculo.web.wording import MOST_CHOICES
from tests.support.native_gateway import NOW, Gateway, State, event, running, view
from tests.web.test_incidents import HERMES
from tests.web.test_status_page import HOSTILE, Outline, words

SIGNED_IN = Viewer(is_signed_in=True)
OPENED = {"service": "hermes", "incident": HERMES.id, "services": ["hermes"], "reason": "the secret reason"}
CAUSE = {"status": 503, "what": "a secret text"}
CHANGED = {
    "service": "hermes",
    "before": "up",
    "after": "down",
    "reason": "the secret reason",
    "instance": "box",
    "reason_code": "answered_but",
    "reason_values": CAUSE,
}


def own(number: int, type_: str, payload: dict[str, Any], minutes: float = 10) -> Event:
    """An event of the gateway itself."""
    return event(number, source=GATEWAY_NAME, type=type_, payload=payload, received_at=NOW - timedelta(minutes=minutes))


async def page(gateway: Gateway, query: str = "") -> str:
    gateway.state.clock += 60  # nothing that was shown before is shown again
    async with gateway.client.get(f"/status/events{query}") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        return await answer.text()


def shown_ids(text: str) -> list[int]:
    """The events of the list."""
    return [int(found) for found in re.findall(r'<li id="event-(\d+)"', text)]


async def test_everybody_sees_incidents_and_changes_of_state_and_nothing_else(gateway: Gateway) -> None:
    state = gateway.state
    state.books.incidents = [HERMES]
    state.events = [
        event(1, payload={"text": "a secret payload"}),
        own(2, "gateway.health.changed", CHANGED),
        own(3, "gateway.incident.opened", OPENED),
        own(4, "gateway.breaker.changed", {"service": "hermes", "state": "open", "endpoint": "10.9.8.7:8003"}),
        own(5, "gateway.configuration.loaded", {"services": ["madre"]}),
        own(6, "gateway.incident.acknowledged", {"incident": HERMES.id, "author": "ana of secret", "note": "secret"}),
        # Nobody can send such a type as the gateway; one of a service is another event.
        event(7, type="gateway.health.changed", payload=CHANGED),
    ]
    state.report = replace(state.report, services={"hermes": ServicePrecursors("hermes", 60, (1, 2), 80)})
    text = await page(gateway)
    assert sorted(shown_ids(text)) == [2, 3, 6]
    said = words(text)
    for told in (
        "hermes is down",
        "answered 503, but …",
        "An incident of hermes began",
        "An incident was acknowledged",
        "need sign-in",
    ):
        assert told in said
    for hidden in ("secret", "10.9.8.7", "spawn_success", "What comes before incidents", "<details", "<pre"):
        assert hidden not in text
    (wanted,) = state.asked_of_log
    assert (wanted.wanted.sources, wanted.wanted.types) == ((GATEWAY_NAME,), PUBLIC_TYPES)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"after": "maintenance", "reason": "a new disk"}, "a new disk"),
        ({"after": "off", "reason": "on purpose"}, "on purpose"),
        ({"after": "maintenance", "reason": ["secret"]}, ""),
        ({"reason_code": "of-later", "reason_values": CAUSE}, ""),
        ({"reason_code": "answered", "reason_values": {}}, ""),
        ({"reason_code": "answered_but", "reason_values": {"status": {"x": 1}, "what": [CAUSE]}}, "answered …, but …"),
        ({"reason_code": "answered", "reason_values": "secret"}, ""),
        (
            {"reason_code": "faulty", "reason_values": {"what": {"code": "answered", "values": {}}, "faults": 1}},
            "…, but 1",
        ),
        ({"reason_code": "faulty", "reason_values": {"what": 1, "faults": [1]}}, ""),
    ],
)
async def test_everybody_sees_why_without_what_a_service_said(
    gateway: Gateway, changes: dict[str, Any], said: str
) -> None:
    gateway.state.events = [own(2, "gateway.health.changed", {**CHANGED, **changes})]
    text = await page(gateway)
    listed = re.search(r'<li id="event-2".*?</li>', text, re.DOTALL)
    assert listed is not None
    found = re.findall(r'<p class="sub">(.*?)</p>', listed[0].replace('<bdi lang="">', "").replace("</bdi>", ""))
    assert found == ([said] if said else [])
    assert "secret" not in text


@pytest.mark.parametrize("query", ["text=secret", "type=spawn_success", "source=madre", "correlation=c-1"])
async def test_a_filter_finds_nothing_that_is_not_shown(gateway: Gateway, query: str) -> None:
    text = await page(gateway, f"?{query}")
    await page(gateway)
    private, plain = gateway.state.asked_of_log
    assert private == plain
    assert 'name="text"' not in text
    await page(gateway, "?kind=services")
    assert gateway.state.asked_of_log[-1] == plain, "a kind of events that need sign-in"


async def test_who_is_signed_in_sees_every_event_with_its_members_and_its_json(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    gateway.state.events = [
        event(
            1,
            severity="critical",
            payload={"message": "disk full", "child": "d-1", "n": 5, "more": {"a": [1, None]}, "e": ""},
            metadata={"try": 2},
        ),
        own(2, "gateway.configuration.loaded", {"services": ["madre"], "instance": "box", "timestamp": 5}),
    ]
    text = await page(gateway)
    said = words(text)
    assert "spawn_success critical from madre, time of receipt" in said
    assert 'message: disk full child: d-1 n: 5 more: {"a":[1,null]} e: (empty)' in said
    assert '"metadata": { "try": 2 }' in said
    assert "services: [&#34;madre&#34;]" in text.replace('</dt> <dd lang="" dir="auto">', " ")
    assert "instance:" not in said
    assert said.count("JSON") == 3


async def test_why_is_in_the_language_of_the_page(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    ended = {
        **OPENED,
        "ending": "It ended",
        "ending_code": "switched_off",
        "ending_values": {"what": {"code": "off_on_purpose", "values": {}}},
    }
    gateway.state.events = [
        own(2, "gateway.health.changed", CHANGED),
        own(3, "gateway.incident.ended", ended),
        own(4, "gateway.alert.failed", {"channel": "phone", "reason": "answered 500"}),
        event(
            5,
            source=GATEWAY_NAME,
            type="gateway.breaker.changed",
            payload={**CHANGED, "state": "open"},
            severity="warning",
        ),
    ]
    said = words(await page(gateway, "?lang=es"))
    assert "respondió 503, pero a secret text" in said
    assert "the secret reason" in said, "why an incident began, beside how it ended"
    assert said.count(" reason: the secret reason") == 1
    assert "reason: answered 500" in said, "what has no code stays as it came"
    assert "warning" not in said


async def test_long_payloads_are_cut_and_the_whole_page_is_bounded(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    gateway.state.events = [
        event(n, payload={f"name-{m}-{'k' * 200}": "v" * 2000 for m in range(30)}, type="t" * 500) for n in range(1, 51)
    ]
    text = await page(gateway)
    assert len(text) < 400_000
    assert "and 18 more" in text
    assert 'more characters: <a href="/events?after=0&amp;order=oldest&amp;limit=1">' in text
    assert text.count("<pre") == 20, "the JSON of the newest"
    assert max(map(len, re.findall(r'<dd lang="" dir="auto">([^<]*)', text))) == 160


async def test_what_services_send_is_text_and_its_unprintable_characters_are_seen(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    bad = f"{HOSTILE}\u202e\u0007\ud800"
    gateway.state.events = [event(1, payload={bad: bad, "n": 2**70}, type=bad, source=bad, severity=bad)]
    gateway.state.log_page = LogPage(tuple(gateway.state.events), (), {1: bad})
    text = await page(gateway, "?type=%3Cscript%3E&correlation=%22%3E%3Cimg%3E&text=%E2%80%AE")
    outline = Outline(text)
    assert outline.tags.count("script") == 1
    assert "img" not in outline.tags
    assert not [name for name, _ in outline.attributes if name.startswith("on")]
    listed = text[text.index('class="story log"') :]
    for character in ("\u202e", "\u0007"):
        assert character not in listed
    assert "\\u202e" in listed
    assert "1180591620717411303424" in listed


async def test_filters_are_those_of_the_log() -> None:
    state = State(services=(view("madre", aliases=("m", "mother")), view("hermes")), viewer=SIGNED_IN)
    query = (
        "?range=7d&to=2026-03-10T12:00:00%2B01:00&type=a,b&source=s&service=m&correlation=c-1&text=disk+full&before=77"
    )
    async with running(state) as gateway:
        text = await page(gateway, query)
    (asked,) = state.asked_of_log
    until = datetime(2026, 3, 10, 11, tzinfo=UTC)
    assert asked.wanted == EventFilter(
        types=("a", "b"),
        sources=("s",),
        since=until - timedelta(days=7),
        until=until,
        text="disk full",
        about=("madre", "m", "mother"),
        correlation="c-1",
    )
    assert (asked.before, asked.after) == (77, None)
    for value in ('value="a,b"', 'value="c-1"', 'value="disk full"', "<option selected>madre</option>"):
        assert value in text
    assert '<details id="more-filters" open>' in text
    # The same events as JSON.
    link = re.search(r'<a href="([^"]*)">As JSON</a>', text)
    assert link is not None
    json = URL(unescape(link[1])).query
    assert parse_page_filter(json) == asked.wanted
    assert (json.getall("before"), "after" in json) == (["77"], False)
    # Another range keeps the filters, and begins with the newest events.
    other = re.search(r'<a href="([^"]*range=3h[^"]*)">3 h</a>', text)
    assert other is not None
    assert "service=madre" in other[1]
    assert "before" not in other[1]


async def test_the_end_is_typed_in_the_zone_of_the_page() -> None:
    state = State(info=PageInfo("", ZoneInfo("Asia/Kolkata"), {}))
    async with running(state) as gateway:
        text = await page(gateway, "?to=2026-03-10T12:00:00")
        assert 'Until (IST)<input type="datetime-local" name="to" step="1" value="2026-03-10T12:00:00">' in text
        (asked,) = state.asked_of_log
        assert asked.wanted.until == datetime(2026, 3, 10, 6, 30, tzinfo=UTC)
        # Addresses of the page name their zone, as links to other ranges do.
        assert "to=2026-03-10T06%3A30%3A00Z" in text
        assert 'value="2026-03-10T12:00:00">' in await page(gateway, "?to=2026-03-10T06:30:00Z")


async def test_the_address_of_the_json_changes_once_a_minute(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    at = gateway.state.now.replace(second=10)
    found = set()
    for seconds in (0, 30, 49):
        gateway.state.now = at + timedelta(seconds=seconds)
        found.update(re.findall(r'href="(/events[^"]*)">As JSON', await page(gateway, "?kind=services")))
    begin = (at - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:00Z")
    (link,) = found
    json = URL(unescape(link)).query
    assert parse_page_filter(json) == EventFilter(since=datetime.fromisoformat(begin), not_source=GATEWAY_NAME)


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("services", ((), (), GATEWAY_NAME)),
        ("gateway", ((), (GATEWAY_NAME,), "")),
        ("health", (("gateway.health.changed",), (GATEWAY_NAME,), "")),
        ("incidents", (PUBLIC_TYPES[1:], (GATEWAY_NAME,), "")),
    ],
)
async def test_kinds_of_events(gateway: Gateway, kind: str, asked: tuple[Any, ...]) -> None:
    gateway.state.viewer = SIGNED_IN
    await page(gateway, f"?kind={kind}")
    (found,) = gateway.state.asked_of_log
    assert (found.wanted.types, found.wanted.sources, found.wanted.not_source) == asked


@pytest.mark.parametrize(
    "query",
    [
        "range=1y",
        "kind=x",
        "to=soon",
        "to=0001-01-01T00:00:00-05:00",
        "to=9999-12-31T23:59:59-05:00",
        "before=x",
        "before=-1",
        "before=%C2%B2",
        "after=9007199254740992",
        "after=" + "1" * 5000,
    ],
)
async def test_a_parameter_that_is_none_is_refused(gateway: Gateway, query: str) -> None:
    gateway.state.viewer = SIGNED_IN
    async with gateway.client.get(f"/status/events?{query}") as answer:
        assert answer.status == 400
    assert gateway.state.asked_of_log == []


async def test_a_name_that_no_service_has_is_named(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    async with gateway.client.get("/status/events", params={"service": "<i>her\u202e"}) as answer:
        assert answer.status == 404
        text = await answer.text()
    assert gateway.state.asked_of_log == []
    assert 'No service is called “<bdi lang="">&lt;i&gt;her</bdi>”.' in text
    assert 'name="service"' in text


async def test_of_many_services_one_is_typed_and_those_of_the_events_are_proposed() -> None:
    names = [f"service-{number}" for number in range(MOST_CHOICES + 1)]
    state = State(services=tuple(view(name, 8001) for name in names), viewer=SIGNED_IN)
    state.events = [
        event(1, source="service-7"),
        event(2, source="a stranger"),
        own(3, "gateway.breaker.changed", {"service": "service-9", "state": "open"}),
    ]
    async with running(state) as gateway:
        text = await page(gateway, "?service=service-7")
        (listed,) = re.findall(r'<datalist id="services">(.*)</datalist>', text)
        assert re.findall(r'value="([^"]*)"', listed) == ["service-7", "service-9"]
        assert re.search(r'<input name="service" value="service-7"[^>]* list="services"', text)
        assert gateway.state.asked_of_log[-1].wanted.about == ("service-7",)
        assert '<select name="service">' not in text
        state.services = state.services[:MOST_CHOICES]
    async with running(state) as gateway:
        text = await page(gateway)
    assert text.count("<option>service-") == MOST_CHOICES


async def test_an_event_stands_at_its_corrected_time_and_a_bar_says_how_exact_it_is(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    ms = int((NOW - timedelta(hours=1)).timestamp() * 1000)
    gateway.state.events = [
        event(1, corrected=CorrectedTime(ms, 1_080_000), stated_ms=5),
        event(2, received_at=NOW - timedelta(minutes=90)),
    ]
    text = await page(gateway, "?range=3h")
    assert shown_ids(text) == [1, 2]
    assert '<rect class="spread" x="56.67%" width="10.00%"' in text
    assert '<circle class="dot" cx="66.67%"' in text
    assert '<circle class="dot late" cx="50.00%"' in text, "a time of receipt"
    assert "14:09:26" in text
    assert "up to 1,080.0 s earlier, by the corrected clock of its source" in text


def connected(gateway: Gateway) -> None:
    """Two events of one release, the incident that came after it, and a claim of the statistics."""
    state = gateway.state
    state.viewer = SIGNED_IN
    state.books.incidents = [HERMES]
    opening = int(HERMES.started_at.timestamp() * 1_000_000)
    first, second = opening - 240_000_000, opening - 200_000_000

    def at(number: int) -> datetime:
        return datetime.fromtimestamp(number / 1_000_000, UTC)

    events = (
        own(opening + 1, "gateway.incident.opened", OPENED, (NOW - HERMES.started_at).total_seconds() / 60),
        event(second, type="deploy.finished", source="ci", received_at=at(second)),
        event(first, type="deploy.started", source="ci", received_at=at(first)),
        event(7, type="alone", received_at=NOW - timedelta(minutes=170)),
    )
    state.log_page = LogPage(events, (EventLink(first, second, "correlation_id"),), {first: "rel-240"})
    claim = Precursor("ci", "deploy.started", {HERMES.id: first, 2: 60_000_000, 3: 5}, 1, 1e-6, 2e-5)
    chance = Precursor("ci", "tick", {HERMES.id: second}, 20, 0.4, 0.5)
    service = ServicePrecursors("hermes", 60, (HERMES.id, 2, 3, 4, 5), 80, (claim, chance))
    openings = {HERMES.id: opening, 2: 300_000_000, 3: 1}
    state.report = PrecursorReport(NOW - timedelta(days=28), NOW, 37, openings, {"hermes": service})


async def test_connections_lead_from_event_to_event_and_to_the_incident(gateway: Gateway) -> None:
    connected(gateway)
    text = await page(gateway, "?range=3h")
    assert text.count('<path class="tie"') == 2
    assert text.count('<path class="tie maybe"') == 1
    assert len(set(re.findall(r'data-group="(\d+)"', text))) == 1, "they all hang together"
    assert text.count("<li id=") == 4
    assert len(re.findall(r'<li id="event-\d+" data-group', text)) == 3
    said = words(text).translate({0x2068: "", 0x2069: ""})  # which isolate what others wrote
    assert "With deploy.started, " in said
    assert "(same correlation_id)" in said
    assert "Statistics: Incident of hermes (3 of 5 incidents of hermes were preceded" in said
    assert f'<a href="/status/incidents/{HERMES.id}">Incident of hermes</a>' in text
    assert '<a href="/status/events?range=3h&amp;correlation=rel-240">' in text


async def test_the_statistics_have_their_numbers(gateway: Gateway) -> None:
    connected(gateway)
    said = words(await page(gateway, "?range=3h"))
    assert "5 incidents of 1 service counted in 28 days; 37 tests" in said
    assert (
        "incidents 5 · before them 60 % (3 of 5) · otherwise 1.2 % (1 of 80) · lift 48 · p under 0.0001"
        " · p after correction (claimed up to 0.05) under 0.0001 · lead time 4 min (4 min to 4 min)" in said
    )
    assert "What else came before them, which may be chance 1 of 5 incidents of hermes was preceded" in said
    assert "This may be chance. incidents 5 · before them 20 % (1 of 5) · otherwise 25 % (20 of 80) · lift 0.8" in said


async def test_without_a_claim_the_page_says_why(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    gateway.state.report = replace(
        gateway.state.report, services={"mcp": ServicePrecursors("mcp", 60, (1, 2), 9)}, since=NOW
    )
    said = words(await page(gateway))
    assert "No type of event came before the incidents of a service more often than by chance." in said
    assert "Of mcp there are fewer than five incidents: too few for a claim." in said


async def test_many_sources_share_the_last_lane(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    gateway.state.events = [event(n, source=f"source-{n:02}") for n in range(30)] + [
        own(40, "gateway.health.changed", CHANGED),
        event(41, source="hermes"),
    ]
    text = await page(gateway)
    lanes = re.findall(
        r'<div class="line">(?:<a href="([^"]*)">|<span>)([^<]+)<.*?<span class="end"><i[^>]*>[^<]*</i>(\d+)', text
    )
    assert len(lanes) == 11
    assert lanes[1] == ("/status/services/hermes", "hermes", "2"), "what the gateway says of it is on its lane"
    assert lanes[-1] == ("", "22 others", "22")


async def test_incidents_and_maintenance_have_a_lane(gateway: Gateway) -> None:
    state = gateway.state
    state.books.incidents = [HERMES]
    state.books.planned = [MaintenanceWindow(("madre",), NOW - timedelta(hours=12), NOW + timedelta(hours=1), "a disk")]
    text = await page(gateway)
    assert '<rect class="r-plan" x="50.00%" width="50.00%"' in text
    assert f'<a href="/status/incidents/{HERMES.id}" aria-label="Incident: hermes"' in text
    assert "a disk" not in text


async def test_a_page_of_many_events_is_as_long_as_they_lasted_and_leads_on(gateway: Gateway) -> None:
    events = tuple(own(n, "gateway.health.changed", CHANGED, minutes=60 - n) for n in range(50, 0, -1))
    gateway.state.log_page = LogPage(events, older=1, newer=None)
    text = await page(gateway)
    assert "The newest 50 events of this time." in words(text)
    assert '<a href="/status/events?before=1" rel="next">Older</a>' in text
    assert ">Newer<" not in text
    assert ">Newest<" not in text
    first = float(re.findall(r'cx="([0-9.]+)%"', text)[0])
    assert 1 < first < 4, "the axis begins a little before the oldest event"
    gateway.state.log_page = LogPage(events, older=1, newer=50, is_cut=True)
    text = await page(gateway, "?before=51&range=7d")
    assert '<a href="/status/events?range=7d&amp;after=50" rel="prev">Newer</a>' in text
    assert '<a href="/status/events?range=7d">Newest</a>' in text
    assert "The search stopped after its time. It continues at “Older”." in text
    assert "incidents of this time are drawn" not in text
    gateway.state.books.incidents = [
        replace(HERMES, id=n + 1, started_at=NOW - timedelta(minutes=30, seconds=n)) for n in range(PAGE_INCIDENTS + 1)
    ]
    text = await page(gateway, "?before=51&range=90d")
    assert "Only the newest 100 incidents of this time are drawn. See All incidents ." in words(text)
    assert text.count('aria-label="Incident: hermes"') == PAGE_INCIDENTS
    gateway.state.log_page = LogPage((), older=1, is_cut=True)
    assert "Nothing was found yet: the search stopped after its time." in words(await page(gateway, "?text=a"))
    assert "Aún no se encontró nada: la búsqueda se detuvo" in words(await page(gateway, "?text=a&lang=es"))


async def test_the_newest_page_is_read_again_soon_and_a_search_seldom(gateway: Gateway) -> None:
    state = gateway.state
    state.viewer = SIGNED_IN
    for query, reads in (("", 3), ("?type=a", 3), ("?text=a", 1), ("?before=5", 1)):
        state.asked_of_log.clear()
        for _ in range(3):
            async with gateway.client.get(f"/status/events{query}") as answer:
                assert answer.status == 200
            state.clock += 3
        assert len(state.asked_of_log) == reads, query


async def test_statistics_that_take_long_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(State, "precursors", forever)
    async with running(State(viewer=SIGNED_IN, events=[event(1)])) as gateway:
        said = words(await page(gateway))
    assert "It is being computed. Load the page again in some seconds." in said
    assert "1 event in this time." in said


async def forever(*_: object) -> PrecursorReport:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_database_that_is_away_is_said(gateway: Gateway) -> None:
    gateway.state.lost = "The database file fleet.db is locked."
    gateway.state.viewer = SIGNED_IN
    said = words(await page(gateway))
    assert "The events cannot be read now: The database file fleet.db is locked." in said
    assert "It cannot be computed now: the database is not available." in said


async def test_nothing_is_said_where_there_is_nothing(gateway: Gateway) -> None:
    assert "Nothing happened in this time." in words(await page(gateway))
    gateway.state.viewer = SIGNED_IN
    assert "Nothing was found." in words(await page(gateway, "?text=x"))


async def test_the_overview_leads_to_the_page(gateway: Gateway) -> None:
    async with gateway.client.get("/status?range=7d") as answer:
        text = await answer.text()
    assert '<a href="/status/events?range=7d">Events</a>' in text
    assert '<a href="/status/events">Events</a>' in text
