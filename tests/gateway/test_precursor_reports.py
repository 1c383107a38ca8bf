"""The report of what came before the incidents, computed on a database of each kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tentaculo.config.schema import Config
from tentaculo.gateway import precursor_reports
from tentaculo.gateway.precursor_reports import LEAST_AGE, MAX_AGE, PrecursorReports, compute_report
from tentaculo.model.event import Event
from tentaculo.model.health import GATEWAY_NAME, Health, StateChange
from tentaculo.model.incident import Incident, opening_key
from tentaculo.model.precursor import PrecursorReport
from tentaculo.store import incidents
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.events import Query, event_row, insert_events
from tentaculo.store.states import add_changes
from tentaculo.tasks import TaskGroup
from tests.server.test_native_response import Turns
from tests.support.runtime_tables import opened

NOW = datetime(2026, 3, 30, 18, tzinfo=UTC)
CONFIG = Config.of({"services": {"madre": {"url": "http://127.0.0.1:8001"}}})
LONG_AGO = NOW - timedelta(days=1)
DAYS = (5, 8, 11, 14, 17, 20)
DETECTED = [NOW - timedelta(days=day, hours=day // 3) for day in DAYS]


def incident(at: datetime) -> Incident:
    end = at + timedelta(minutes=5)
    return Incident(int(at.timestamp() * 1000), "madre", ("madre",), Health.DOWN, "refused", at, end, end, "it is back")


def story(now: datetime = NOW) -> tuple[list[Incident], list[Event]]:
    """Six incidents. Five had a deployment six minutes before, and each an error half a minute before its detection."""
    found = [incident(now - timedelta(days=day, hours=day // 3)) for day in DAYS]
    events = []

    def came(at: datetime, source: str, type_: str, key: str | None = None) -> None:
        number = int(at.timestamp() * 1_000_000)
        events.append(Event(number, source, type_, {"n": 1}, at, key=key))

    for one in found:
        at = one.started_at
        if one is not found[2]:
            for second in range(20):
                came(at - timedelta(minutes=6) + timedelta(seconds=second), "ci", "deploy.started")
        came(at - timedelta(seconds=30), "madre", "error")
        came(at + timedelta(seconds=1), GATEWAY_NAME, "gateway.incident.opened", opening_key(one.id))
        came(at - timedelta(minutes=5), GATEWAY_NAME, "gateway.health.changed")
    for day in range(25):
        came(now - timedelta(days=day, hours=1, minutes=7), "madre", "tick")
    # One deployment without an incident, at an hour of incidents.
    came(found[0].started_at + timedelta(days=1) - timedelta(minutes=6), "ci", "deploy.started")
    came(now - timedelta(days=27), "madre", "first")
    return found, events


def fill(url: str, known: Sequence[Incident], events: Sequence[Event]) -> None:
    with opened(url) as connection:
        incidents.save(connection, known)
        if events:
            insert_events(connection, [event_row(one) for one in events])


def computed(url: str, days: int = 28, now: datetime = NOW) -> PrecursorReport:
    """The report as a command computes it."""
    with opened(url) as connection:
        return compute_report(connection, CONFIG, now, days)


@asynccontextmanager
async def reports(url: str, clock: Callable[[], float] = lambda: 0.0) -> AsyncIterator[PrecursorReports]:
    client, tasks = StoreClient(url), TaskGroup("test")
    await client.start()
    try:
        yield PrecursorReports(CONFIG, client.read, tasks, lambda: NOW, clock)
    finally:
        await tasks.close()
        await client.close()


async def test_what_came_before_the_incidents_is_found(url: str) -> None:
    known, events = story()
    fill(url, known, events)
    async with reports(url) as made:
        report = await made.report(28, LONG_AGO)
    found = report.services["madre"]
    assert found.incidents == tuple(sorted(one.id for one in known))
    assert found.others > 60
    deploy = found.precursors[0]
    assert (deploy.source, deploy.type, len(deploy.before), deploy.others_with) == ("ci", "deploy.started", 5, 1)
    assert deploy.p is not None
    assert deploy.p < 1e-5
    assert deploy.is_claimed
    # The last event of the burst, and the event of the opening.
    first = known[0]
    assert deploy.before[first.id] == int((first.started_at - timedelta(seconds=341)).timestamp() * 1_000_000)
    assert report.openings[first.id] == int((first.started_at + timedelta(seconds=1)).timestamp() * 1_000_000)
    # Neither the error, which came with the failure, nor what the gateway says of itself. The job comes on every day.
    assert [(one.type, one.is_claimed) for one in found.precursors] == [("deploy.started", True), ("tick", False)]
    assert computed(url) == report


def test_the_events_decide_how_far_back_the_report_goes(url: str) -> None:
    known, events = story()
    recent = NOW - timedelta(days=15)
    fill(url, known, [one for one in events if one.received_at > recent])
    assert len(computed(url).services["madre"].incidents) == 3
    assert len(computed(url, days=10).services["madre"].incidents) == 2
    assert computed(url, days=2).services == {}


def test_maintenance_is_left_out(url: str) -> None:
    known, events = story()
    fill(url, known, events)
    begin, end = DETECTED[1] - timedelta(hours=1), DETECTED[1] - timedelta(minutes=5)
    with opened(url) as connection:
        changes = [
            StateChange("madre", "", Health.UP, Health.MAINTENANCE, "a disk", begin),
            StateChange("madre", "", Health.MAINTENANCE, Health.UP, "it is up", end),
        ]
        add_changes(connection, changes)
    found = computed(url).services["madre"]
    assert known[1].id not in found.incidents
    assert len(found.incidents) == 5
    with opened(url) as connection:
        add_changes(
            connection, [StateChange("madre", "", Health.UP, Health.MAINTENANCE, "r", NOW - timedelta(days=30))]
        )
    assert computed(url).services["madre"].incidents == ()


def test_without_incidents_or_events_there_is_nothing(url: str) -> None:
    assert (computed(url).services, computed(url).tested) == ({}, 0)
    fill(url, story()[0], [])
    assert computed(url).services == {}


def test_the_correction_counts_what_was_tested_for_every_service(url: str) -> None:
    known, events = story()
    fill(url, known, events)
    alone = computed(url)
    fill(url, [replace(one, id=one.id + 1, root="mcp", services=("mcp",)) for one in known], [])
    both = computed(url)
    assert both.tested > alone.tested
    one, other = (report.services["madre"].precursors[0] for report in (alone, both))
    assert one.p == other.p
    assert one.q is not None
    assert other.q is not None


def test_the_rows_that_are_read_are_bounded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known, events = story()
    fill(url, known, events)
    monkeypatch.setattr(precursor_reports, "MOST_ROWS", 40)
    monkeypatch.setattr("tentaculo.store.precursors.AT_ONCE", 0.0)
    # The newest incidents are read first. The window that passes the limit is the last one.
    found = computed(url).services["madre"]
    assert (len(found.incidents), found.others) == (2, 0)


async def test_every_window_may_have_a_turn_of_its_own(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(url, *story())
    monkeypatch.setattr(precursor_reports, "SLICE_SECONDS", 0.0)
    async with reports(url) as made:
        with Turns() as turns:
            found = (await made.report(28, LONG_AGO)).services["madre"]
        assert turns.count > len(found.incidents) + found.others


async def test_a_report_is_kept_for_a_while_and_computed_once_for_all_who_wait(url: str) -> None:
    fill(url, *story())
    moment = 0.0
    async with reports(url, lambda: moment) as made:
        first, *rest = await asyncio.gather(*(made.report(28, LONG_AGO) for _ in range(5)))
        assert all(one is first for one in rest)
        moment = MAX_AGE - 1
        assert await made.report(28, LONG_AGO) is first
        assert await made.report(10, LONG_AGO) is not first
        moment = MAX_AGE + 1
        again = await made.report(28, LONG_AGO)
        assert again is not first
        assert again == first
        for days in range(20, 30):
            await made.report(days, LONG_AGO)
        assert repr(made) == "<PrecursorReports: 4 kept, 0 computing>"


async def test_an_incident_that_opened_since_makes_a_new_report(url: str) -> None:
    fill(url, *story())
    moment = 0.0
    async with reports(url, lambda: moment) as made:
        # It may not be stored yet.
        opened = NOW - timedelta(seconds=5)
        first = await made.report(28, opened)
        moment = LEAST_AGE - 1
        assert await made.report(28, opened) is first
        moment = LEAST_AGE + 1
        assert await made.report(28, NOW - timedelta(seconds=11)) is first
        assert await made.report(28, opened) is not first


async def test_who_leaves_does_not_end_what_the_next_one_waits_for(url: str) -> None:
    fill(url, *story())
    async with reports(url) as made:
        waiting = TaskGroup("waiting")
        leaves, stays = (waiting.start(made.report(28, LONG_AGO), name) for name in ("leaves", "stays"))
        await asyncio.sleep(0)
        leaves.cancel()
        assert "madre" in (await stays).services
        await waiting.close()


async def test_while_the_database_is_away_there_is_no_report_and_later_there_is(url: str) -> None:
    fill(url, *story())
    client, tasks = StoreClient(url), TaskGroup("test")
    await client.start()
    is_away = True

    async def read(query: Query) -> Any:
        if is_away:
            raise StoreUnavailable("The database is away.")
        return await client.read(query)

    made = PrecursorReports(CONFIG, read, tasks, lambda: NOW)
    with pytest.raises(StoreUnavailable):
        await made.report(28, LONG_AGO)
    is_away = False
    assert "madre" in (await made.report(28, LONG_AGO)).services
    await tasks.close()
    await client.close()
