"""What the status page reads for its axis of time, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tentaculo.model.event import lowest_id
from tentaculo.model.health import GATEWAY_NAME, Health, StateChange
from tentaculo.model.history import MINUTE, Histogram, Period, Tally
from tentaculo.model.incident import Incident
from tentaculo.model.timeline import JUST_BEFORE, TimelineRequest
from tentaculo.store import incidents, timeline
from tentaculo.store.events import append_events, event_row
from tentaculo.store.history import add_history, history_row
from tentaculo.store.states import add_changes
from tests.support import store_samples
from tests.support.runtime_tables import opened

NOW = datetime(2026, 3, 14, 15, 0, tzinfo=UTC)
UNTIL = int(NOW.timestamp())
HOURS = 3600
WANTED = TimelineRequest(UNTIL - 3 * HOURS, UNTIL, MINUTE, ("madre", "mcp"))


def change(service: str, after: Health, minutes_ago: float, endpoint: str = "") -> StateChange:
    return StateChange(service, endpoint, Health.UNKNOWN, after, "as found", NOW - timedelta(minutes=minutes_ago))


def incident(number: int, root: str, began: float, ended: float | None = None, **changes: object) -> Incident:
    """An incident that began and ended so many minutes ago."""
    start = NOW - timedelta(minutes=began)
    end = None if ended is None else NOW - timedelta(minutes=ended)
    found = Incident(number, root, (root,), Health.DOWN, "connection refused", start, start, end)
    return replace(found, **changes)  # type: ignore[arg-type]


def test_the_states_begin_with_the_one_before_the_span(url: str) -> None:
    before, within = change("madre", Health.UP, 300), change("madre", Health.DOWN, 20)
    with opened(url) as connection:
        add_changes(connection, [change("madre", Health.DOWN, 400), before, change("other", Health.UP, 10)])
        add_changes(connection, [change("madre", Health.UP, 30, endpoint="127.0.0.1:8001"), within])
        add_changes(connection, [change("mcp", Health.UP, 10)])
        found = timeline.read_timeline(connection, WANTED)
    assert found.changes == {"madre": (before, within), "mcp": (change("mcp", Health.UP, 10),)}


def test_of_a_storm_of_changes_the_newest_are_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MOST_CHANGES", 3)
    storm = [change("madre", (Health.UP, Health.DOWN)[n % 2], 100 - n) for n in range(9)]
    with opened(url) as connection:
        add_changes(connection, [change("madre", Health.UP, 300), *storm])
        found = timeline.read_timeline(connection, WANTED)
    assert found.changes == {"madre": tuple(storm[-3:])}, "what lies before them is not known"


def test_latencies_are_those_of_the_detailed_services(url: str) -> None:
    def minute(service: str, ago: int) -> Period:
        return Period(service, MINUTE, UNTIL - ago * 60, Tally(6, 0, Histogram({100: 6})))

    with opened(url) as connection:
        add_history(connection, [history_row(minute(name, ago)) for name in ("madre", "mcp") for ago in (1, 60, 200)])
        found = timeline.read_timeline(connection, replace(WANTED, detailed=("mcp",)))
    starts = {service: [period.start for period in periods] for service, periods in found.periods.items()}
    assert starts == {"mcp": [UNTIL - 3600, UNTIL - 60]}


def test_incidents_are_those_that_were_open_in_the_span(url: str) -> None:
    is_open, recent = incident(5, "madre", 20), incident(4, "mcp", 400, 170)
    with opened(url) as connection:
        incidents.save(connection, [is_open, recent, incident(3, "mcp", 500, 300)])
        incidents.save(connection, [incident(6, "switch", 10, part_of=5)])
        found = timeline.read_timeline(connection, WANTED)
    assert found.incidents == (is_open, recent)


def test_an_open_incident_has_its_last_time_and_what_came_just_before(url: str) -> None:
    began = NOW - timedelta(minutes=20)
    wanted = replace(WANTED, failing=(("madre", began), ("mcp", began)))
    last = incident(2, "madre", 3000, 2990, ending="It works again")
    moments = {
        "long before": began - JUST_BEFORE - timedelta(seconds=1),
        "deploy": began - timedelta(minutes=3),
        "after": began + timedelta(seconds=1),
    }
    with opened(url) as connection:
        incidents.save(connection, [incident(1, "madre", 9000, 8000), last, incident(5, "madre", 20)])
        for type_, at in moments.items():
            append_events(connection, [event_row(store_samples.event(lowest_id(at), type=type_, received_at=at))])
        own = store_samples.event(9, source=GATEWAY_NAME, type="gateway.started", received_at=moments["deploy"])
        append_events(connection, [event_row(own)])
        found = timeline.read_timeline(connection, wanted)
    assert found.earlier == {"madre": last}
    assert {root: event.type for root, event in found.just_before.items()} == {"madre": "deploy", "mcp": "deploy"}
    assert [event.type for event in found.events] == ["after", "deploy", "long before"], (
        "no event of the gateway itself"
    )
