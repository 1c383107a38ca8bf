"""The page of one incident, as it comes over HTTP."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import timedelta

import pytest

from tentaculo.config.accepted_tokens import AuthSettings
from tentaculo.model.health import Health
from tentaculo.model.history import DAY, HOUR, MINUTE, HistorySummary, Period, Tally
from tentaculo.model.incident import Acknowledgement, DeliveryOutcome, DeliveryRecord
from tentaculo.model.precursor import Precursor, PrecursorReport, ServicePrecursors
from tentaculo.model.reason import because
from tentaculo.web.incident_page import axis_of
from tentaculo.web.viewer import Viewer
from tentaculo.web.wording import ENGLISH
from tests.support.native_gateway import NOW, TOKEN, Gateway, State, event, running
from tests.web.test_incident_list import SIGNED_IN
from tests.web.test_incidents import HERMES, MCP, NOTE
from tests.web.test_status_page import HOSTILE, Outline, change, told, words

MINUTES = timedelta(minutes=1)
OVER = replace(HERMES, ended_at=NOW - 5 * MINUTES, ending="It is healthy again: answered 200 in 4 ms")


async def page(gateway: Gateway, number: int = HERMES.id, status: int = 200) -> str:
    async with gateway.client.get(f"/status/incidents/{number}") as response:
        assert response.status == status, await response.text()
        return await response.text()


async def test_it_says_what_failed_first_and_why(gateway: Gateway) -> None:
    gateway.state.books.incidents = [HERMES]
    text = await page(gateway)
    said = words(text)
    assert "<title>hermes is down · Tentáculo Link</title>" in text
    assert "Down for 25 min hermes is down. Since 14:44 . operator fails with it. Why" in said
    assert "Why connection refused How it ended It is still open." in said
    assert '<a href="/status/services/hermes">hermes in detail</a><a href="/status/incidents">All incidents</a>' in text


async def test_the_recovery_is_a_part_of_its_own(gateway: Gateway) -> None:
    gateway.state.books.incidents = [OVER]
    gateway.state.viewer = SIGNED_IN
    said = words(await page(gateway))
    assert "Over, after 20 min hermes was down. From 14:44 to 15:04 . operator failed with it." in said
    assert "Why connection refused How it ended It is healthy again: answered 200 in 4 ms." in said


async def test_what_it_cost(gateway: Gateway) -> None:
    gateway.state.books.incidents = [
        replace(OVER, failed_requests=1310, counted_until=NOW - 4 * MINUTES, reopened_at=NOW - 12 * MINUTES)
    ]
    said = words(await page(gateway))
    assert "Lasted 20 min failed again last at 14:57" in said
    assert "Requests lost 1,310 failed or refused, of all its services, in the minutes from 14:44 to 15:05" in said
    assert "At worst 96 % of its requests and probes failed in the worst minute" in said
    assert "Services 2 hermes, operator" in said
    gateway.state.clock += 2
    gateway.state.books.incidents = [HERMES]
    assert "Requests lost \N{EN DASH} not counted yet" in words(await page(gateway))


async def test_who_was_notified_and_what_became_of_each_message(gateway: Gateway) -> None:
    def delivery(
        channel: str, kind: str, outcome: DeliveryOutcome, ago: int, attempts: int = 1, error: str = ""
    ) -> DeliveryRecord:
        at = NOW - ago * MINUTES
        return DeliveryRecord(channel, f"incident.{kind}", outcome, at, at, 1, attempts, error)

    delivered, failed, refused = DeliveryOutcome.DELIVERED, DeliveryOutcome.FAILED, DeliveryOutcome.REFUSED
    gateway.state.viewer = SIGNED_IN
    gateway.state.books.incidents = [
        replace(
            HERMES,
            notified={"duty": told(10)},
            deliveries=(
                delivery("phone", "opened", failed, 23, 10, "answered 502"),
                delivery("duty", "opened", delivered, 24),
                delivery("archive", "opened", refused, 22, error="answered 410"),
                replace(delivery("duty", "reminder", delivered, 10, 3), messages=2),
            ),
            acknowledged=Acknowledgement(1, HERMES.id, NOW - 20 * MINUTES, "ana", "on it"),
        )
    ]
    said = words(await page(gateway))
    assert "Notified duty, first at 14:45 ." in said
    assert "Acknowledged By ana at 14:49 : on it" in said
    newest_first = (
        "14:59 duty Reminder (2 messages): delivered after 3 attempts",
        "14:47 archive It began: the receiver wants no more messages: answered 410",
        "14:46 phone It began: given up after 10 attempts: answered 502",
        "14:45 duty It began: delivered at the first attempt",
    )
    places = [said.find(message) for message in newest_first]
    assert -1 not in places
    assert places == sorted(places)


async def test_a_message_that_reached_nobody_is_said(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    at = NOW - 20 * MINUTES
    lost = DeliveryRecord("duty", "incident.opened", DeliveryOutcome.FAILED, at, at, 1, 10, "answered 502")
    gateway.state.books.incidents = [replace(HERMES, deliveries=(lost,))]
    assert "Notified Nobody: no message reached duty." in words(await page(gateway))
    gateway.state.books.incidents = [HERMES]
    gateway.state.clock += 2
    said = words(await page(gateway))
    assert "Notified Nobody yet." in said
    assert "No message was sent about it." in said


async def test_everybody_sees_no_text_of_a_service_and_no_name(gateway: Gateway) -> None:
    state = gateway.state
    cause = because("answered_but", status=503, what="secret words of 10.9.8.7")
    at = NOW - 20 * MINUTES
    state.books.incidents = [
        replace(
            OVER,
            reason=str(cause),
            cause=cause,
            ending="It is healthy again: secret words",
            notified={"secret-channel": told(20)},
            deliveries=(DeliveryRecord("secret-channel", "incident.opened", DeliveryOutcome.DELIVERED, at, at),),
            acknowledged=Acknowledgement(1, HERMES.id, at, "secret-name", "secret note"),
        ),
        replace(MCP, root="hermes", reason="secret words", cause=None),
    ]
    state.books.notes = {HERMES.id: [replace(NOTE, author="secret-name", text="secret note")]}
    state.events = [event(1, source="secret-source", type="secret.type", received_at=NOW - 30 * MINUTES)]
    state.changes = [replace(change("hermes", Health.DOWN, 25), reason="secret words")]
    said = words(await page(gateway))
    assert "secret" not in said
    assert "10.9.8.7" not in said
    assert "Why answered 503, but … How it ended It is healthy again." in said
    assert "Just before Shown after sign-in. Notified Shown after sign-in. Acknowledged At 14:49 ." in said
    assert "Last time Today , for 5 min" in said
    state.viewer = SIGNED_IN
    text = await page(gateway)
    for private in ("secret words of 10.9.8.7", "secret-channel", "secret-name", "secret note", "secret.type"):
        assert private in text


async def test_one_axis_has_the_services_the_messages_and_the_events(gateway: Gateway) -> None:
    state = gateway.state
    state.viewer = SIGNED_IN
    state.books.incidents = [replace(HERMES, notified={"duty": told(20)})]
    state.changes = [
        change("hermes", Health.UP, 500),
        change("hermes", Health.DOWN, 25),
        change("operator", Health.DOWN, 20),
    ]
    state.events = [event(1, source="ci", type="deployed", received_at=NOW - 30 * MINUTES)]
    text = await page(gateway)
    assert '<rect class="band r-down" x="37.50%" width="62.50%" height="100%"/>' in text
    assert '<rect class="r-up" x="0" width="374"' in text
    assert '<circle class="dot event" cx="25.00%"' in text
    assert 'data-say="deployed from ci"' in text
    assert 'data-say="duty was notified"' in text
    (wanted,) = state.asked_for_past
    assert wanted.services == ("hermes", "operator")
    assert wanted.detailed == ("hermes",)
    assert 'data-seconds="2400"' in text
    assert '<a href="/status/events?range=3h&amp;to=2026-03-14T15:09:26Z">Events</a>' in text


@pytest.mark.parametrize(
    ("began", "lasted", "span", "seconds"),
    [
        (25, None, MINUTE, 40 * 60),
        (300, 20, MINUTE, 50 * 60),
        (2000, None, HOUR, 2500 * 60),
        (20000, 19000, DAY, 20000 * 60 + 86400),
    ],
)
def test_the_axis_is_as_long_as_the_incident(began: int, lasted: int | None, span: int, seconds: int) -> None:
    end = None if lasted is None else NOW - (began - lasted) * MINUTES
    axis, chosen = axis_of(replace(HERMES, started_at=NOW - began * MINUTES, ended_at=end), NOW)
    assert (chosen.span, chosen.seconds) == (span, seconds)
    assert 3 <= len(axis.ticks(chosen.tick, ENGLISH)) <= 9


async def test_what_the_statistics_say_just_before_it(gateway: Gateway) -> None:
    state = gateway.state
    state.viewer = SIGNED_IN
    ids = tuple(HERMES.id - n for n in range(6))
    claimed = Precursor("ci", "deployed", dict.fromkeys(ids, 1), 3, 0.0001, 0.0004)
    chance = Precursor("madre", "spawned", dict.fromkeys(ids[:2], 1), 40, 0.4, 0.6)
    elsewhere = Precursor("madre", "other", dict.fromkeys(ids[3:], 1), 40, 0.4, 0.6)
    state.report = PrecursorReport(
        NOW, NOW, services={"hermes": ServicePrecursors("hermes", 60, ids, 50, (claimed, chance, elsewhere))}
    )
    state.books.incidents = [HERMES]
    said = words(await page(gateway))
    assert (
        "6 of 6 incidents of hermes were preceded within 10 minutes by deployed of ci; on other days at that hour 3 of"
        " 50. q = 0.0004" in said
    )
    assert "2 of 6 incidents" in said
    assert "by other of madre" not in said, "it came before other incidents only, and is not claimed"


async def test_the_earlier_ones_of_the_same_root_are_linked(gateway: Gateway) -> None:
    earlier = replace(MCP, root="hermes", cause=because("connection_refused"))
    gateway.state.books.incidents = [HERMES, earlier]
    text = await page(gateway)
    assert "Last time Today , for 5 min: connection refused" in words(text)
    assert f'<a href="/status/incidents/{earlier.id}">' in text
    assert '<a href="/status/incidents?range=all&amp;service=hermes">Incidents of hermes</a>' in text
    assert "Earlier ones of hermes Incidents of hermes 14:44 for 5 min: connection refused" in words(text)


async def test_a_part_of_another_one_leads_to_it(gateway: Gateway) -> None:
    gateway.state.books.incidents = [HERMES, replace(MCP, part_of=HERMES.id)]
    text = await page(gateway, MCP.id)
    assert f'It is a part of <a href="/status/incidents/{HERMES.id}">incident {HERMES.id}</a>.' in text


async def test_notes_are_shown_as_they_were_written(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    gateway.state.books.incidents = [HERMES]
    gateway.state.books.notes = {HERMES.id: [replace(NOTE, text="one\ntwo\n\nthree", author="")]}
    text = await page(gateway)
    assert '<b>Somebody</b><p class="said">one\ntwo\n\nthree</p>' in text


@pytest.mark.parametrize("number", ["0", "17", "x", "-1", "9" * 30, "1.5", "%2e%2e"])
async def test_there_is_no_page_of_what_is_no_incident(gateway: Gateway, number: str) -> None:
    async with gateway.client.get(f"/status/incidents/{number}") as response:
        assert response.status in (400, 404)


async def test_a_chart_without_a_latency_and_a_request_is_left_out(gateway: Gateway) -> None:
    gateway.state.books.incidents = [HERMES]
    assert "No minute of this time is recorded yet." in words(await page(gateway))
    minute = int(HERMES.started_at.timestamp()) // MINUTE * MINUTE
    for requests, is_drawn in ((Tally(), False), (Tally(1, 2), True)):
        period = Period("hermes", MINUTE, minute, Tally(0, 1), requests)
        gateway.state.past["hermes"] = HistorySummary((period,))
        gateway.state.clock += 60
        text = await page(gateway)
        assert ('class="chart"' in text) is is_drawn
        assert "No latency is known." in words(text), "what is not drawn is said"


async def test_a_lost_database_takes_only_the_past(gateway: Gateway) -> None:
    gateway.state.lost = "The database file fleet.db is damaged."
    gateway.state.books.incidents = [HERMES, MCP]
    gateway.state.in_memory = 1
    said = words(await page(gateway))
    assert "hermes is down." in said
    assert "The database is lost. The database file fleet.db is damaged." in said
    assert "Last time Not known: the database cannot be read now." in said
    async with gateway.client.get(f"/status/incidents/{MCP.id}") as response:
        assert response.status == 503
        assert "The database file fleet.db is damaged." in await response.text()


async def test_a_store_that_hangs_costs_a_bounded_time(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tentaculo.web.past_reader.WAIT", 0.1)
    monkeypatch.setattr("tentaculo.web.incident_page.WAIT", 0.1)
    gateway.state.hangs = True
    gateway.state.books.incidents = [HERMES]
    assert "hermes is down." in words(await page(gateway))


async def test_statistics_that_take_long_leave_the_page_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(State):
        async def precursors(self, days: int, opened: object) -> PrecursorReport:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr("tentaculo.web.past_reader.WAIT", 0.1)
    state = Slow(viewer=SIGNED_IN)
    state.books.incidents = [HERMES]
    async with running(state) as gateway:
        said = words(await page(gateway))
    assert "No type of event is known to come before the incidents of hermes." in said
    assert "Last time Never, as far as is known." in said


async def test_what_comes_from_outside_is_text(gateway: Gateway) -> None:
    state = gateway.state
    state.viewer = SIGNED_IN
    at = NOW - 20 * MINUTES
    error = DeliveryRecord(HOSTILE, HOSTILE, DeliveryOutcome.FAILED, at, at, 1, 10, HOSTILE + "e" * 999)
    state.books.incidents = [
        replace(
            HERMES,
            root=HOSTILE,
            services=(HOSTILE, *(f"{HOSTILE}{n}" for n in range(200))),
            reason=HOSTILE + "\u202e" + "z" * 9999,
            deliveries=(error,),
            acknowledged=Acknowledgement(1, HERMES.id, at, HOSTILE, HOSTILE),
        )
    ]
    state.books.notes = {HERMES.id: [replace(NOTE, author=HOSTILE, text=HOSTILE + "\x1b\u202e" + "y" * 99_999)]}
    state.events = [event(1, source=HOSTILE, type=HOSTILE, received_at=NOW - 30 * MINUTES)]
    text = await page(gateway)
    outline = Outline(text)
    assert outline.tags.count("script") == 1
    assert "img" not in outline.tags
    assert not [name for name, _ in outline.attributes if name.startswith("on") or name == "style"]
    assert outline.text.count("<script>alert(1)</script>") >= 8
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "181 more failed with it." in words(text)
    assert len(text) < 90_000


async def test_it_is_as_open_as_the_status_page() -> None:
    state = State(viewer=Viewer(is_signed_in=True))
    state.books.incidents = [HERMES]
    async with running(state, AuthSettings(open_status=False)) as gateway:
        await page(gateway, status=401)
        path = f"/status/incidents/{HERMES.id}"
        async with gateway.client.get(path, headers={"X-VX11-Token": TOKEN}) as response:
            assert response.status == 200


async def test_of_an_incident_that_is_over_the_forms_promise_a_note_only(gateway: Gateway) -> None:
    gateway.state.viewer = Viewer(is_signed_in=True, has_session=True, may_act=True)
    gateway.state.books.incidents = [HERMES, MCP]
    summaries = {}
    for one in (HERMES, MCP):
        text = await page(gateway, one.id)
        summaries[one.is_open] = re.findall(r'<details class="quiet" id="act-\d+"><summary>([^<]*)', text)
    assert summaries == {True: ["Acknowledge, mute alerts, add a note"], False: ["Add note"]}
