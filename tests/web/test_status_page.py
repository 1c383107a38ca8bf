"""The status page, as it comes over HTTP."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from tentaculo.model.health import DegradedKind, Endpoint, EndpointView, Health, StateChange
from tentaculo.model.history import DAY, HOUR, MINUTE, Histogram, HistorySummary, Period, Tally, UptimeShare, bucket
from tentaculo.model.incident import (
    Acknowledgement,
    DeliveryOutcome,
    DeliveryRecord,
    MaintenanceWindow,
    NotificationState,
    Notified,
)
from tentaculo.model.page import ServedConfiguration
from tentaculo.model.reason import Reason
from tentaculo.model.service_rates import RecentRates, UsualRates, recent_end
from tentaculo.model.timeline import Timeline
from tentaculo.tasks import TaskGroup
from tentaculo.web.overview import Past
from tentaculo.web.timeline import Axis, curve, p95_points
from tentaculo.web.viewer import Viewer
from tentaculo.web.wording import MOST_CHOICES
from tests.support.calls import counting_calls
from tests.support.native_gateway import CLOSED, NOW, OPEN, TOKEN, UNSEEN, Gateway, State, event, running, view
from tests.support.page_samples import fill
from tests.support.waits import eventually
from tests.support.wire import dial
from tests.web.test_incidents import HERMES, MCP, NOTE

SIGNED_IN = Viewer(is_signed_in=True)


def rates(ok: int, failed: int, seconds: float = 0.01) -> RecentRates:
    latency = Histogram({bucket(seconds): ok})
    return RecentRates(recent_end(int(NOW.timestamp())), 5, Tally(30, 0), Tally(ok, failed, latency))


def told(minutes_ago: int) -> Notified:
    return Notified(NotificationState.OPEN, NOW - timedelta(minutes=minutes_ago), Health.DOWN, 1)


def change(service: str, after: Health, minutes_ago: int) -> StateChange:
    return StateChange(service, "", Health.UP, after, "as found", NOW - timedelta(minutes=minutes_ago))


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'>"


class Outline(HTMLParser):
    """The elements of a page, and the text that people read."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._hidden = False
        self._begins = True
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)
        self._hidden = tag in ("style", "script")
        self._begins = self._begins or tag != "bdi"

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False
        self._begins = self._begins or tag != "bdi"

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += f" {data}" if self._begins else data
            self._begins = False


async def page(gateway: Gateway, query: str = "") -> str:
    async with gateway.client.get(f"/status{query}") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        return await answer.text()


def words(text: str) -> str:
    return " ".join(Outline(text).text.split())


async def test_the_page_says_the_worst_first(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    text = await page(gateway)
    said = words(text)
    assert "Down for 3 h hermes is down. Since 12:09 . mcp is failing for another reason." in said
    assert "switch is degraded for another reason. 1 other is up." in said
    assert "<title>hermes is down · Tentáculo Link</title>" in text
    assert "%23b3221b" in text, "the icon is that of the headline"
    rows = re.findall(r'id="service-([a-z]+)"', text)
    assert rows == ["hermes", "mcp", "switch", "spawner", "madre", "operator", "shubniggurath"]
    for row in (
        "Down: hermes connection refused",
        "Failing: mcp its circuit breaker is open: connection refused 5 times",
    ):
        assert row in said
    for row in ("Degraded: switch slow: 1840 ms", "Maintenance: spawner a new disk", "Up: madre"):
        assert row in said
    for row in ("Unknown: operator not checked yet", "Off: shubniggurath off on purpose"):
        assert row in said


async def test_it_says_who_takes_care_of_an_incident(gateway: Gateway) -> None:
    state = gateway.state
    state.books.incidents = [replace(HERMES, notified={"duty": told(24)})]
    state.viewer = Viewer(is_signed_in=True)
    assert "Notified duty at 14:45 . Nobody has acknowledged it." in words(await page(gateway))
    seen = Acknowledgement(1, HERMES.id, NOW - timedelta(minutes=15), "ana", "restarting it")
    state.books.incidents = [replace(state.books.incidents[0], acknowledged=seen)]
    state.clock += 60
    said = words(await page(gateway))
    assert "Notified duty at 14:45 . ana acknowledged it at 14:54 ." in said
    assert "14:54 ana acknowledged hermes restarting it" in said, "what happened"
    state.viewer = Viewer()
    state.clock += 60
    said = words(await page(gateway))
    assert "Notified Shown after sign-in. Somebody acknowledged it at 14:54 ." in said
    assert "14:54 Somebody acknowledged hermes" in said
    assert "restarting" not in said


async def test_a_message_that_reached_nobody_is_said_first(gateway: Gateway) -> None:
    at = NOW - timedelta(minutes=20)
    lost = DeliveryRecord("duty", "incident.opened", DeliveryOutcome.FAILED, at, at, 1, 10, "answered 502")
    gateway.state.viewer = Viewer(is_signed_in=True)
    gateway.state.services = (view("hermes", health=Health.DOWN),)
    gateway.state.books.incidents = [replace(HERMES, notified={}, deliveries=(lost,))]
    assert "Notified Nobody: no message reached duty." in words(await page(gateway))


async def test_who_may_act_is_led_to_the_plan_of_maintenance(gateway: Gateway) -> None:
    state = gateway.state
    state.viewer = Viewer(is_signed_in=True, has_session=True, may_act=True)
    text = await page(gateway)
    assert '<a href="#plan">Plan maintenance</a>' in text
    assert text.count('id="plan"') == 1
    state.viewer = SIGNED_IN
    assert "#plan" not in await page(gateway)
    state.services = (view("madre"),)
    state.clock += 60
    assert 'class="buttons"' not in await page(gateway), "nothing is wrong"


async def test_it_answers_what_a_person_asks_first(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    state = gateway.state
    state.books.incidents = [replace(HERMES, notified={"duty": told(24)})]
    state.books.notes = {HERMES.id: [NOTE]}
    state.earlier = {"hermes": replace(HERMES, started_at=NOW - timedelta(days=1), ended_at=NOW - timedelta(hours=23))}
    state.just_before = {
        "hermes": event(1, type="deploy.finished", source="ci", received_at=NOW - timedelta(minutes=28))
    }
    text = await page(gateway)
    said = words(text)
    assert '<a href="/status/events?range=3h&amp;to=2026-03-14T14:42:26Z#event-1">' in text, "it leads to the event"
    assert text.count('<line class="pin" ') == 1, "a line through all rows, where it happened"
    assert "Why connection refused" in said
    assert "Just before deploy.finished from ci , 3 min earlier" in said
    assert "Notified duty at 14:45 . ana wrote a note at 15:07 ." in said
    assert "Last time Yesterday , for 1 h: connection refused" in said
    assert f'<a href="/status/incidents/{HERMES.id}">Incident</a><a href="/status/services/hermes">hermes in' in text
    (wanted,) = state.asked_for_past
    assert wanted.failing == (("hermes", HERMES.started_at),)


async def test_each_question_has_an_answer_where_there_is_nothing(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    said = words(await page(gateway))
    assert "Just before No service sent an event in the 30 minutes before." in said
    assert "Notified Nobody: there is no incident." in said
    assert "Last time Never, as far as is known." in said
    gateway.state.services = (view("madre"), view("switch"))
    gateway.state.clock += 1
    assert "Just before" not in words(await page(gateway)), "nobody asks why everything is up"


async def test_a_gateway_without_a_sign_in_does_not_name_one(gateway: Gateway) -> None:
    said = words(await page(gateway))
    assert "Sign in" in said
    assert said.count("Shown after sign-in.") == 3
    gateway.state.viewer = Viewer(can_sign_in=False)
    said = words(await page(gateway))
    assert "sign" not in said.lower()
    assert "Just before Not shown on a public page. Notified Not shown on a public page." in said, "and why too"


async def test_when_everything_is_up_the_page_is_quiet(gateway: Gateway) -> None:
    gateway.state.services = (view("madre"), view("switch"), view("shubniggurath", health=Health.OFF, **UNSEEN))
    gateway.state.rates = {"madre": rates(1200, 3), "switch": rates(100, 0)}
    gateway.state.books.incidents = [MCP]
    text = await page(gateway)
    said = words(text)
    assert "Up for 3 h Everything is up." in said
    assert (
        "2 services serve 261 requests a minute; 0.23 % of them fail . The last incident ended 20 min ago : mcp" in said
    )
    assert "The last 24 hours" in said
    assert 'class="line row t-down' not in text


async def test_numbers_stand_beside_what_is_usual(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    gateway.state.services = (view("madre", health=Health.DEGRADED, kind=DegradedKind.SLOW, reason="slow: 200 ms"),)
    gateway.state.rates = {"madre": rates(300, 20)}
    gateway.state.usual_rates = {"madre": UsualRates(0, 7, 60.0, 0.024, 0.001)}
    said = words(await page(gateway))
    assert (
        "Slow: madre slow: 200 ms 95 % within: 10 ms usually 24 ms failed: 6.2 % of 64/min up, 90 days: 99.98 %" in said
    )


async def test_the_lanes_and_the_states_lie_on_one_axis(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    gateway.state.books.incidents = [HERMES]
    gateway.state.events = [event(1, received_at=NOW - timedelta(minutes=90))]
    gateway.state.changes = [change("hermes", Health.UP, 500), change("hermes", Health.DOWN, 45)]
    gateway.state.services = (view("hermes", health=Health.DOWN, since=NOW - timedelta(minutes=45)),)
    text = await page(gateway)
    assert '<rect class="r-down" x="86.07%" width="13.93%" y="3"' in text
    assert '<circle class="dot event" cx="49.96%"' in text
    assert '<rect class="r-up" x="0" width="748" y="31" height="4"/><rect class="r-down" x="748" width="252"' in text
    gateway.state.now, gateway.state.clock = NOW + timedelta(seconds=4), gateway.state.clock + 60
    assert '<circle class="dot event" cx="49.96%"' in await page(gateway), "the axis moves in steps of ten seconds"
    assert text.count('<path class="curve"') == 0, "hermes has no history"


async def test_what_happened_is_one_list(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    gateway.state.books.incidents = [HERMES, MCP]
    gateway.state.books.notes = {HERMES.id: [NOTE]}
    gateway.state.events = [event(2, type="system.alert", payload={"severity": "critical", "message": "a disk fails"})]
    gateway.state.changes = [replace(change("switch", Health.DEGRADED, 30), kind=DegradedKind.SLOW)]
    text = await page(gateway)
    said = words(text)
    what = said[said.index("What happened") :]
    parts = (
        "15:09 madre sent system.alert (critical) a disk fails",
        "15:07 ana wrote about hermes: The disk is full.",
        "14:49 mcp works again It is healthy again: answered 200 in 4 ms",
        "14:44 hermes is down: connection refused Affected: operator. At worst 96 % of its requests and probes failed.",
        "14:39 switch is slow as found",
    )
    assert [part for part in parts if part not in what] == []
    places = [what.index(part) for part in parts]
    assert places == sorted(places), "the newest is first"
    assert f'id="incident-{HERMES.id}"' in text, "where an alert of an older version leads"


async def test_maintenance_is_told_beforehand(gateway: Gateway) -> None:
    hour = timedelta(hours=1)
    gateway.state.books.planned = [
        MaintenanceWindow(("spawner",), NOW - hour, NOW + hour, "a new disk"),
        MaintenanceWindow((), NOW + 24 * hour, NOW + 25 * hour, "moving house"),
    ]
    text = await page(gateway)
    said = words(text)
    assert "Planned maintenance Now spawner until 16:09 a new disk" in said
    assert "Later every service from 15 Mar, 15:09 to 15 Mar, 16:09 moving house" in said
    assert text.count('y="3" height="10" rx="3"') == 1, "what is to come is not on the lane of the past"


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
    gateway.state.viewer = SIGNED_IN
    odd = "\x1b[31m\x00\u202ered\ud800"
    gateway.state.services = (view("madre", health=Health.DOWN, reason=odd + "x" * 10_000),)
    gateway.state.events = [event(1, payload={"text": "\ud800" + "y" * 60_000})]
    text = await page(gateway)
    assert not set(text) & {"\x1b", "\x00", "\u202e", "\ufffd"}
    assert "x" * 100 in text
    assert "x" * 201 not in text
    assert "y" * 100 in text
    assert "y" * 161 not in text


@pytest.mark.parametrize("path", ["", "/services/madre", "/incidents", "/events"])
async def test_the_policy_allows_this_style_and_script_and_no_other(gateway: Gateway, path: str) -> None:
    async with gateway.client.get(f"/status{path}") as answer:
        text, policy = await answer.text(), answer.headers["Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for element, rule in (("style", "style-src"), ("script", "script-src")):
        found = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(sha256(found[0].encode()).digest()).decode()
        assert len(found) == 1
        assert rules[rule] == f"'sha256-{digest}'"
        assert len(found[0].encode()) < {"script": 10_000, "style": 15_000}[element]
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert rules["form-action"] == "'self'"
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
    gateway.state.viewer = SIGNED_IN
    gateway.state.lost = "The database file tentaculo.db is read-only."
    said = words(await page(gateway))
    assert "The database is lost. The database file tentaculo.db is read-only." in said
    assert "The past cannot be read now: the database is not available." in said
    assert "Just before Not known: the database cannot be read now." in said
    assert "Database lost" in said
    assert "hermes is down" in said


@pytest.mark.parametrize("fault", [OSError("disk"), RuntimeError("a defect"), KeyError("id")])
async def test_a_store_that_fails_in_any_way_does_not_take_the_page_down(gateway: Gateway, fault: Exception) -> None:
    state = gateway.state
    state.fault = fault
    said = words(await page(gateway))
    assert "The past cannot be read now" in said
    assert "hermes is down" in said
    state.clock += 5
    await page(gateway)
    assert len(state.asked_for_past) == 1, "it is not asked at every look"
    state.fault = None
    state.clock += 16
    assert "The past cannot be read now" not in words(await page(gateway))


async def test_a_store_that_hangs_costs_a_bounded_time(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tentaculo.web.past_reader.WAIT", 0.1)
    gateway.state.hangs = True
    async with asyncio.timeout(5):
        said = words(await page(gateway))
    assert "The past cannot be read now. The gateway tries again" in said
    assert "hermes is down" in said
    # One fact, however many places of the page state it.
    assert "The database cannot be read" in said
    assert "Database connected" not in said
    assert "the database is not available" not in said
    gateway.state.hangs = False
    gateway.state.clock += 20
    assert "Database connected" in words(await page(gateway))


async def test_a_flood_is_rendered_once_a_second_and_reads_the_past_seldom(gateway: Gateway) -> None:
    state = gateway.state
    first = await page(gateway)
    state.services = (view("madre"), view("hermes"))
    for _ in range(5):
        assert await page(gateway) == first
    state.clock += 1.0
    assert "Everything is up." in words(await page(gateway))
    assert [wanted.span for wanted in state.asked_for_past] == [MINUTE, HOUR], "of another range"
    state.clock += 19
    await page(gateway)
    assert len(state.asked_for_past) == 2
    state.clock += 1
    await page(gateway)
    assert len(state.asked_for_past) == 3


async def test_no_filter_and_no_order_makes_the_database_read_more(gateway: Gateway) -> None:
    for n in range(20):
        await page(gateway, f"?filter=x{n}&sort={('name', 'p95', 'up')[n % 3]}")
    assert len(gateway.state.asked_for_past) == 1


async def test_a_flood_of_made_up_filters_is_refused_and_the_page_stays(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tentaculo.web.rendering._LONGEST_REST", 60.0)
    monkeypatch.setattr("tentaculo.web.rendering._REST", 1e9)
    first = await page(gateway, "?filter=one")

    async def ask(query: str) -> int:
        async with gateway.client.get(f"/status{query}") as response:
            return response.status

    flood = TaskGroup("flood")
    asked = [flood.start(ask(f"?filter={n}"), f"filter {n}") for n in range(25)]
    assert await next(asyncio.as_completed(asked)) == 503, "it is refused at once, while the others wait"
    async with gateway.client.get("/status?filter=followed", headers={"Accept": "text/event-stream"}) as response:
        assert response.status == 503, "a stream of another one waits no longer"
    gateway.state.clock += 5
    assert await page(gateway, "?filter=one") == first, "an older page is better than none"
    await flood.close()


async def test_a_rest_follows_a_page_whose_client_leaves_in_the_middle(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tentaculo.web.rendering._LONGEST_REST", 60.0)
    monkeypatch.setattr("tentaculo.web.rendering._REST", 1e9)
    state, rests = gateway.state, list[float]()

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    state.rest, state.hangs = rest, True
    async with dial(gateway.port, gateway.host) as wire:
        await wire.send(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await eventually(lambda: state.asked_for_past, "the page under way")
        wire.reset()
    await eventually(lambda: not gateway.server.connections, "the end of the request")
    state.hangs = False
    await page(gateway)
    assert [seconds > 30 for seconds in rests] == [False, True]


@pytest.mark.thorough
async def test_made_up_filters_neither_delay_nor_remove_the_page_without_one(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tentaculo.web.rendering._REST", 0.0)
    state, made_up, rendered = gateway.state, itertools.count(), 0
    assert "hermes is down" in words(await page(gateway))

    async def ask() -> None:
        nonlocal rendered
        while True:
            number = next(made_up)
            path = f"/status?filter={number}" if number % 2 else f"/status/events?before={number + 1}"
            async with gateway.client.get(path) as response:
                rendered += response.status == 200

    flood = TaskGroup("flood")
    for number in range(60):
        flood.start(ask(), f"filters {number}")
    await eventually(lambda: rendered > 40)
    state.services, before = (view("madre"), view("hermes")), rendered
    state.clock += 1
    assert "Everything is up." in words(await page(gateway)), "it is there, and as of now"
    assert rendered - before < 20, "it did not wait for all that are asked for"
    await flood.close()


async def test_a_new_trouble_is_looked_into_at_once(gateway: Gateway) -> None:
    state = gateway.state
    state.services = (view("madre"), view("hermes", health=Health.DEGRADED, reason="slow"))
    await page(gateway)
    state.services = (view("madre", health=Health.DOWN, since=NOW), view("hermes"))
    state.clock += 1
    await page(gateway)
    assert [[name for name, _ in wanted.failing] for wanted in state.asked_for_past] == [["hermes"], ["madre"]]


async def test_a_change_that_no_incident_tells_is_told(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    gateway.state.books.incidents = [MCP]
    gateway.state.changes = [
        change("mcp", Health.DOWN, 25),
        change("mcp", Health.UP, 20),
        replace(change("mcp", Health.DEGRADED, 10), kind=DegradedKind.SLOW),
    ]
    said = words(await page(gateway))
    assert "mcp is slow as found" in said
    assert "mcp is down as found" not in said
    assert "mcp is up as found" not in said


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("query", "title", "span"),
    [
        ("?range=3h", "The last 3 hours", MINUTE),
        ("?range=24h", "The last 24 hours", HOUR),
        ("?range=7d&utm_source=chat", "The last 7 days", HOUR),
        ("?range=90d", "The last 90 days", DAY),
        ("", "The last 3 hours", MINUTE),
    ],
)
async def test_the_range_is_chosen(gateway: Gateway, query: str, title: str, span: int) -> None:
    text = await page(gateway, query)
    assert title in words(text)
    (wanted,) = gateway.state.asked_for_past
    assert wanted.span == span
    assert text.count(' aria-current="true"') == 1


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("range=1h", "range may be 3h, 24h, 7d, 90d."),
        ("range=", "range may be 3h, 24h, 7d, 90d."),
        ("sort=port", "sort may be state, name, p95, failed, up."),
    ],
)
async def test_a_query_that_is_none_is_refused(gateway: Gateway, query: str, detail: str) -> None:
    async with gateway.client.get(f"/status?{query}") as response:
        assert (response.status, (await response.json(content_type=None))["detail"]) == (400, detail)


@pytest.mark.parametrize(
    ("sort", "order"),
    [("name", ["a", "b", "c"]), ("p95", ["c", "a", "b"]), ("failed", ["b", "a", "c"]), ("up", ["b", "c", "a"])],
)
async def test_the_order_is_chosen(gateway: Gateway, sort: str, order: list[str]) -> None:
    state = gateway.state
    state.services = (view("c"), view("b"), view("a"))
    state.rates = {"a": rates(90, 10, 0.02), "b": rates(50, 50, 0.01), "c": rates(100, 0, 0.5)}
    shares = {"a": 1.0, "b": 0.9, "c": 0.99}
    state.past = {name: HistorySummary((), UptimeShare(share)) for name, share in shares.items()}
    assert re.findall(r'id="service-([a-z]+)"', await page(gateway, f"?sort={sort}")) == order


async def test_a_filter_lists_some(gateway: Gateway) -> None:
    text = await page(gateway, "?filter=M%C3%84%22%3E")
    assert 'No service has “MÄ">” in its name.' in words(text)
    text = await page(gateway, "?filter=MA")
    assert re.findall(r'id="service-([a-z]+)"', text) == ["madre"]
    assert 'value="MA"' in text
    assert "?range=7d&amp;filter=MA" in text, "a link keeps the filter"


async def test_children_follow_their_root_and_many_are_folded(gateway: Gateway) -> None:
    children = [view(f"c-{n}", health=Health.DOWN, reason="answered 502", root="db") for n in range(8)]
    quiet = [view(f"q-{n}") for n in range(30)]
    gateway.state.services = (*children, *quiet, view("db", health=Health.DOWN, reason="connection refused"))
    text = await page(gateway)
    said = words(text)
    assert "db is down, and 8 services with it." in said
    assert re.findall(r'class="line row t-down( child)?" id="service-([a-z0-9-]+)"', text) == [
        ("", "db"),
        *((" child", f"c-{n}") for n in range(5)),
    ]
    assert "and 3 more with trouble" in said
    assert "30 services without trouble" in said
    assert text.count("fails with db") == 5
    assert '<details class="quiet" id="quiet"><summary>' in text, "they are folded while something fails"


async def test_a_thousand_services_are_bounded_and_it_is_said(gateway: Gateway) -> None:
    gateway.state.services = tuple(view(f"s-{n}", 9000) for n in range(1000))
    text = await page(gateway)
    assert "600 more are not listed here." in words(text)
    assert len(text) < 300_000
    (wanted,) = gateway.state.asked_for_past
    assert len(wanted.services) == 400


async def test_of_many_services_those_of_a_maintenance_are_typed() -> None:
    state = State(
        services=tuple(view(f"s-{n}", 9000) for n in range(MOST_CHOICES + 1)),
        viewer=Viewer(is_signed_in=True, has_session=True, may_act=True),
    )
    async with running(state) as gateway:
        text = await page(gateway)
        assert '<select name="services"' not in text
        assert '<input name="services" list="proposed"' in text
        (listed,) = re.findall(r'<datalist id="proposed">(.*)</datalist>', text)
        assert set(re.findall(r'value="([^"]*)"', listed)) == set(
            re.findall(r'id="service-(s-\d+)" data-name="s-\d+"><div class="who"', text)
        )
        state.services = state.services[:MOST_CHOICES]
        state.clock += 60
        text = await page(gateway)
    assert text.count("<option>s-") == MOST_CHOICES
    assert "datalist" not in text


async def test_a_flood_of_incidents_is_bounded_on_the_page(gateway: Gateway) -> None:
    gateway.state.books.incidents = [replace(HERMES, id=number, reason="x" * 9000) for number in range(1, 500)]
    gateway.state.books.planned = [MaintenanceWindow(("hermes",), NOW, NOW + timedelta(minutes=1), "x" * 9000)] * 50
    text = await page(gateway)
    assert text.count('<li id="incident-') == 20
    assert "479 more incidents are open: All incidents ." in words(text)
    assert "And 40 more: /vx11/maintenance lists them all." in words(text)


async def test_several_addresses_are_counted_and_not_shown(gateway: Gateway) -> None:
    upstreams = tuple(
        EndpointView(Endpoint("madre", f"10.9.8.{n}", 8001), health, breaker)
        for n, (health, breaker) in enumerate([(Health.UP, CLOSED), (Health.DOWN, CLOSED), (Health.UP, OPEN)])
    )
    gateway.state.services = (view("madre", upstreams=upstreams),)
    text = await page(gateway)
    assert "Up: madre 1 of 3 addresses healthy" in words(text)
    assert "10.9.8" not in text


@pytest.mark.parametrize(
    ("code", "values", "said"),
    [
        ("all_down", {"total": 3}, "all 3 addresses are down: refused"),
        ("some_down", {"total": 3, "count": 3}, "3 of 3 addresses are down: refused"),
        ("one_down", {"total": 3}, "1 of 3 addresses is down: refused; 0 of 3 addresses healthy"),
        ("stated", {"stated": "refused"}, "refused; 0 of 3 addresses healthy"),
    ],
)
async def test_how_many_addresses_fail_is_said_once(
    gateway: Gateway, code: str, values: dict[str, Any], said: str
) -> None:
    upstreams = tuple(EndpointView(Endpoint("madre", f"10.9.8.{n}", 8001), Health.DOWN, CLOSED) for n in range(3))
    values = values if code == "stated" else {**values, "what": {"code": "stated", "values": {"stated": "refused"}}}
    gateway.state.viewer = SIGNED_IN
    gateway.state.services = (view("madre", health=Health.DOWN, upstreams=upstreams, cause=Reason("x", code, values)),)
    text = await page(gateway)
    assert [
        unescape(one) for one in re.findall(r"<small>([^<]*addresses[^<]*)</small>", re.sub("</?bdi[^>]*>", "", text))
    ] == [said]


async def test_no_services_at_all(gateway: Gateway) -> None:
    gateway.state.services = ()
    assert "No services are configured yet." in words(await page(gateway))


async def test_a_page_that_did_not_change_is_not_sent_again(gateway: Gateway) -> None:
    async with gateway.client.get("/status") as response:
        tag, policy = response.headers["ETag"], response.headers["Content-Security-Policy"]
        assert response.headers["Cache-Control"] == "no-cache, private"
        assert {"Accept-Encoding", "Origin"} <= set(response.headers["Vary"].split(", "))
    for sent in (tag, f'"other", {tag}', tag.removeprefix("W/")):
        async with gateway.client.get("/status", headers={"If-None-Match": sent}) as response:
            assert (response.status, await response.read()) == (304, b"")
            assert (response.headers["ETag"], response.headers["Content-Security-Policy"]) == (tag, policy)
    gateway.state.services = (view("madre"),)
    gateway.state.clock += 1
    async with gateway.client.get("/status", headers={"If-None-Match": tag}) as response:
        assert response.status == 200
        assert response.headers["ETag"] != tag


@pytest.mark.parametrize(("accepted", "encoding"), [("gzip, br", "gzip"), ("identity", None)])
async def test_the_page_of_a_hundred_services_is_small(gateway: Gateway, accepted: str, encoding: str | None) -> None:
    fill(gateway.state, 100)
    async with gateway.client.get("/status?range=90d", headers={"Accept-Encoding": accepted}) as response:
        assert response.headers.get("Content-Encoding") == encoding
        assert int(response.headers["Content-Length"]) <= (15_000 if encoding else 150_000)
        assert "service-99" in await response.text()


async def test_the_root_leads_here(gateway: Gateway) -> None:
    async with gateway.client.get("/", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "/status")


async def test_head(gateway: Gateway) -> None:
    async with gateway.client.head("/status") as answer:
        assert (answer.status, await answer.read()) == (200, b"")
        assert int(answer.headers["Content-Length"]) > 1000


async def test_times_are_there_for_machines_too(gateway: Gateway) -> None:
    text = await page(gateway)
    assert '<time datetime="2026-03-14T12:09:26Z" title="2026-03-14 12:09:26 UTC">12:09</time>' in text


SERVED = ServedConfiguration(3, "SIGHUP", NOW - timedelta(minutes=5))


async def test_the_configuration_that_is_served_is_shown_after_sign_in_only(gateway: Gateway) -> None:
    gateway.state.viewer, gateway.state.served = SIGNED_IN, SERVED
    text = await page(gateway)
    assert "Configuration 3 since" in text
    assert "changed nothing" not in text
    gateway.state.served, gateway.state.clock = replace(SERVED, by="start"), gateway.state.clock + 60
    assert ", por <bdi" in (spanish := await page(gateway, "?lang=es"))
    assert ">arranque<" in spanish
    gateway.state.viewer, gateway.state.clock = Viewer(), gateway.state.clock + 60
    assert "SIGHUP" not in await page(gateway)


async def test_a_reload_that_was_refused_is_shown_with_its_faults_after_sign_in_only(gateway: Gateway) -> None:
    gateway.state.served = replace(
        SERVED,
        refused_by="token <ci>",
        refused_at=NOW,
        refused_why="the configuration has 1 fault",
        faults=("services.madre.url: must be <an address>",),
    )
    text = await page(gateway)
    assert "services.madre.url" not in text
    assert "changed nothing" not in text
    gateway.state.viewer, gateway.state.clock = SIGNED_IN, gateway.state.clock + 60
    text = await page(gateway)
    assert "The last reload changed nothing" in text
    assert "services.madre.url: must be &lt;an address&gt;" in text
    assert "token &lt;ci&gt;" in text


async def calls_of_a_page(state: State) -> int:
    """The calls of our own functions that a page takes whose past is read and whose templates are loaded."""
    found = []
    async with running(state) as gateway:
        for _ in range(4):
            state.clock += 2
            with counting_calls() as calls:
                await page(gateway)
            found.append(calls.own)
    return min(found)


async def test_a_further_service_costs_few_calls() -> None:
    """Each fact is computed once for a page, however many of its parts say it."""
    few, more = [
        await calls_of_a_page(State(services=tuple(view(f"s{number}", 8001) for number in range(services))))
        for services in (1, 11)
    ]
    assert (more - few) / 10 <= 36


async def test_what_everybody_may_see_of_the_past_is_made_once() -> None:
    """Not for each rendering: a service that flaps has thousands of changes."""
    changes = [change("madre", (Health.UP, Health.DOWN)[minute % 2], minute) for minute in range(170, 0, -1)]
    few, more = [await calls_of_a_page(State(services=(view("madre"),), changes=known)) for known in ([], changes)]
    assert more - few < len(changes) * 3


def test_a_curve_is_drawn_again_only_when_the_axis_has_moved() -> None:
    until = int(NOW.timestamp()) // MINUTE * MINUTE
    periods = tuple(
        Period("madre", MINUTE, until - back * MINUTE, Tally(), Tally(1, 0, Histogram({bucket(0.01 * back): 1})))
        for back in range(9, 0, -1)
    )
    past, axis = Past(Timeline(periods={"madre": periods})), Axis(until - 600, until)
    first = past.curve("madre", axis, MINUTE)
    assert first == curve(axis, MINUTE, p95_points(periods), None)
    assert past.curve("madre", Axis(until - 600, until), MINUTE) is first
    moved = Axis(until - 590, until + 10)
    assert past.curve("madre", moved, MINUTE) == curve(moved, MINUTE, p95_points(periods), None) != first
    assert past.curve("switch", axis, MINUTE) == ""
