"""What came before incidents, as it is read from a database of each kind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event as sql_event

from tentaculo.model.event import Event
from tentaculo.model.health import GATEWAY_NAME, Health, StateChange
from tentaculo.model.history import HOUR, MINUTE, Period, Tally
from tentaculo.model.incident import opening_key
from tentaculo.store import precursors
from tentaculo.store.events import event_row, insert_events
from tentaculo.store.history import add_history, history_row
from tentaculo.store.precursors import EventWindow, WindowTypes, read_windows
from tentaculo.store.states import add_changes
from tests.support.runtime_tables import opened

NOW = datetime(2026, 3, 14, 15, 0, tzinfo=UTC)
SECONDS = NOW.timestamp()


def event(number: int, seconds: float, source: str = "ci", type_: str = "deploy", key: str | None = None) -> Event:
    return Event(number, source, type_, {}, NOW + timedelta(seconds=seconds), key=key)


def store(url: str, events: Sequence[Event]) -> None:
    with opened(url) as connection:
        insert_events(connection, [event_row(one) for one in events])


def windows(url: str, *wanted: EventWindow) -> list[WindowTypes]:
    with opened(url) as connection:
        return read_windows(connection, wanted)


def window(start: float, end: float, before_id: int | None = None) -> EventWindow:
    return EventWindow(SECONDS + start, SECONDS + end, before_id)


def test_a_window_has_each_type_once_with_its_last_event(url: str) -> None:
    store(
        url,
        [
            event(1, -1),
            event(2, 0),
            event(4, 10),
            event(3, 59.999999),
            event(5, 60),
            event(6, 20, "madre"),
            event(7, 30, type_="other"),
            event(8, 30, GATEWAY_NAME, "gateway.health.changed"),
        ],
    )
    (found,) = windows(url, window(0, 60))
    assert found.rows == 5
    assert found.types is not None
    assert sorted(found.types) == [("ci", "deploy", 4), ("ci", "other", 7), ("madre", "deploy", 6)]
    assert windows(url, window(100, 200)) == [WindowTypes(0, [])]


def test_after_the_clock_was_set_back_later_events_are_not_before_the_incident(url: str) -> None:
    # The incident has the position 50 in the log. What was received behind it has earlier times.
    store(url, [event(40, 10), event(60, 20, type_="restart")])
    assert [one.types for one in windows(url, window(0, 60, before_id=50), window(0, 60))] == [
        [("ci", "deploy", 40)],
        [("ci", "deploy", 40), ("ci", "restart", 60)],
    ]


def test_a_window_with_too_many_events_or_types_is_not_counted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precursors, "MOST_ROWS", 5)
    monkeypatch.setattr(precursors, "MOST_GROUPS", 3)
    store(url, [event(number, number / 100, type_=f"t{number % 3}") for number in range(1, 10)])
    store(url, [event(10 + number, 100 + number, type_=f"t{number}") for number in range(4)])
    assert windows(url, window(0, 60), window(100, 160), window(100, 103)) == [
        WindowTypes(6, None),
        WindowTypes(4, None),
        WindowTypes(3, [("ci", "t0", 10), ("ci", "t1", 11), ("ci", "t2", 12)]),
    ]


def test_windows_are_read_in_turns(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precursors, "AT_ONCE", 0.0)
    assert len(windows(url, *[window(number, number + 1) for number in range(9)])) == 1


def test_a_window_is_read_by_the_index_of_times(url: str) -> None:
    if url.startswith("postgresql"):
        pytest.skip("the planner decides by statistics, which an empty table has not")
    plans: list[str] = []
    with opened(url) as connection:

        def explain(_connection: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
            if statement.startswith("SELECT"):
                plans.extend(row[3] for row in cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))  # type: ignore[attr-defined]

        sql_event.listen(connection, "before_cursor_execute", explain)
        read_windows(connection, [window(0, 60, 50)])
    assert any("ix_tentaculo_events_received_at" in one for one in plans), plans


def test_the_event_of_an_opening_is_found_by_its_key(url: str) -> None:
    numbers = [1_000 + number for number in range(700)]
    own = [event(number, number, GATEWAY_NAME, "gateway.incident.opened", opening_key(number)) for number in numbers]
    store(url, [*own, event(5, 5, "madre", key=opening_key(5)), event(6, 6, GATEWAY_NAME, key=opening_key(6, 1))])
    with opened(url) as connection:
        found = precursors.openings(connection, [*numbers, 5, 6, 7])
        assert precursors.openings(connection, []) == {}
    assert found.keys() == set(numbers)
    assert found[1_001] == (1_001, NOW + timedelta(seconds=1_001))


def test_the_first_event_is_one_of_a_service(url: str) -> None:
    with opened(url) as connection:
        assert precursors.first_event(connection, NOW) is None
    store(url, [event(1, -5), event(2, 5, GATEWAY_NAME), event(3, 8), event(4, 7)])
    with opened(url) as connection:
        assert precursors.first_event(connection, NOW) == NOW + timedelta(seconds=7)


def test_maintenance_of_a_service_is_in_its_changes_of_state(url: str) -> None:
    def change(
        seconds: float, before: Health, after: Health, service: str = "madre", endpoint: str = ""
    ) -> StateChange:
        return StateChange(service, endpoint, before, after, "r", NOW + timedelta(seconds=seconds))

    with opened(url) as connection:
        add_changes(
            connection,
            [
                change(1, Health.UP, Health.DOWN),
                change(2, Health.DOWN, Health.MAINTENANCE),
                change(3, Health.UP, Health.MAINTENANCE, "mcp"),
                change(4, Health.UP, Health.MAINTENANCE, endpoint="10.0.0.1:80"),
                change(5, Health.MAINTENANCE, Health.UP),
            ],
        )
        found = precursors.maintenance_of(connection, "madre")
    assert found == [(NOW + timedelta(seconds=2), True), (NOW + timedelta(seconds=5), False)]


def test_an_hour_was_watched_where_any_minute_was(url: str) -> None:
    now = int(SECONDS)
    periods = [
        Period("madre", HOUR, now - 5 * HOUR, Tally(6)),
        Period("madre", HOUR, now - 2 * HOUR, Tally(6)),
        Period("madre", MINUTE, now - HOUR + 3 * MINUTE, Tally(6)),
        Period("madre", MINUTE, now - HOUR + 9 * MINUTE, Tally(6)),
        Period("mcp", HOUR, now, Tally(6)),
        Period("madre", 24 * HOUR, now - 15 * HOUR, Tally(6)),
    ]
    with opened(url) as connection:
        add_history(connection, [history_row(one) for one in periods])
        found = precursors.watched_hours(connection, "madre", NOW - timedelta(hours=3))
    assert found == {now - 2 * HOUR, now - HOUR}
