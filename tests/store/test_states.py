"""Changes of state and heartbeats as they are stored, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, text

from tentaculo.model.health import DegradedKind, Health, LastHeartbeat, StateChange
from tentaculo.model.reason import because
from tentaculo.store.states import (
    add_changes,
    forget_changes,
    latest_changes,
    read_changes,
    read_heartbeats,
    save_heartbeats,
)
from tentaculo.store.tables import state_changes
from tests.support.runtime_tables import opened

NOW = datetime(2026, 3, 14, 15, 9, 26, 535897, tzinfo=UTC)


def change(service: str, after: Health, minutes: int, endpoint: str = "", **more: Any) -> StateChange:
    return StateChange(service, endpoint, Health.UNKNOWN, after, "as found", NOW + timedelta(minutes=minutes), **more)


def test_the_last_change_of_each_service_and_endpoint_is_read_back(url: str) -> None:
    failing = change("mcp", Health.DEGRADED, 2, kind=DegradedKind.FAILING)
    kept = [change("madre", Health.DOWN, 5), change("madre", Health.UP, 1, "127.0.0.1:8001"), failing]
    with opened(url) as connection:
        add_changes(connection, [change("madre", Health.UP, 0), change("mcp", Health.UP, 0)])
        # After the clock was set back the order of the rows says which is the last.
        add_changes(connection, [change("madre", Health.UP, 9), *kept])
        add_changes(connection, [])
        assert latest_changes(connection) == kept


def test_what_an_earlier_attempt_stored_is_not_stored_again(url: str) -> None:
    first = [change("madre", Health.DOWN, 0), change("madre", Health.DOWN, 0, "127.0.0.1:8001")]
    later = [change("madre", Health.UP, 1), change("mcp", Health.DOWN, 0)]
    with opened(url) as connection:
        add_changes(connection, [change("madre", Health.DOWN, -9), *first])
        add_changes(connection, [*first, *later], is_repeat=True)
        add_changes(connection, [], is_repeat=True)
        found = read_changes(connection, select(state_changes).order_by(state_changes.c.id))
    assert found == [change("madre", Health.DOWN, -9), *first, *later]


def test_a_reason_is_bounded_and_storable(url: str) -> None:
    with opened(url) as connection:
        add_changes(connection, [StateChange("madre", "", Health.UP, Health.DOWN, "\0\ud800" + "x" * 5000, NOW)])
        (found,) = latest_changes(connection)
    assert found.reason == "\ufffd?" + "x" * 298


def test_a_reason_keeps_its_code_and_values(url: str) -> None:
    why = because("answered_but", status=200, what=because("invalid_http", what="its words: ñ \0"))
    long = because("without_text", text="x" * 2000)
    with opened(url) as connection:
        add_changes(
            connection,
            [
                replace(change("madre", Health.DOWN, 0), reason=str(why), cause=why),
                replace(change("mcp", Health.DOWN, 0), reason=str(long), cause=long),
                change("operator", Health.DOWN, 0),
            ],
        )
        first, *others = latest_changes(connection)
        assert first.cause is not None
        assert (first.why, first.cause.code) == (
            "answered 200, but its response is not valid HTTP: its words: ñ \ufffd",
            why.code,
        )
        assert first.cause.plain_values() == why.plain_values()
        # Of more than is kept, and of an earlier version: the text only.
        assert [(one.cause, one.why) for one in others] == [(None, str(long)[:300]), (None, "as found")]
        connection.execute(text("UPDATE tentaculo_state_changes SET reason_values = '[7]'"))
        assert [one.cause for one in latest_changes(connection)] == [None] * 3


def test_a_row_without_a_valid_state_counts_as_none(url: str) -> None:
    with opened(url) as connection:
        add_changes(connection, [change("madre", Health.UP, 0), change("mcp", Health.UP, 0)])
        connection.execute(text("UPDATE tentaculo_state_changes SET after = 'odd' WHERE service = 'madre'"))
        assert [found.service for found in latest_changes(connection)] == ["mcp"]


def test_changes_are_forgotten_but_not_the_last_ones(url: str) -> None:
    with opened(url) as connection:
        add_changes(connection, [change("madre", (Health.UP, Health.DOWN)[n % 2], n) for n in range(10)])
        add_changes(connection, [change("mcp", Health.UP, -5)])
        before = NOW + timedelta(minutes=100)
        assert [forget_changes(connection, before, batch=6) for _ in range(3)] == [6, 3, 0]
        assert {(one.service, one.after) for one in latest_changes(connection)} == {
            ("madre", Health.DOWN),
            ("mcp", Health.UP),
        }


def test_no_more_than_so_many_changes_are_kept(url: str) -> None:
    with opened(url) as connection:
        assert forget_changes(connection, NOW - timedelta(days=1), most=3) == 0
        add_changes(connection, [change("madre", Health.UP, 0), *[change("mcp", Health.UP, n) for n in range(9)]])
        assert forget_changes(connection, NOW - timedelta(days=1), most=3) == 6
        assert forget_changes(connection, NOW - timedelta(days=1), most=3) == 0
        assert [one.service for one in latest_changes(connection)] == ["madre", "mcp"]


def test_the_last_heartbeat_of_each_service_takes_the_place_of_the_one_before(url: str) -> None:
    first = LastHeartbeat("cron", NOW, b'{"status": "ok"}')
    with opened(url) as connection:
        save_heartbeats(connection, [first, LastHeartbeat("backup", NOW, None)])
        assert read_heartbeats(connection) == {"cron": first, "backup": LastHeartbeat("backup", NOW, None)}
        later = LastHeartbeat("backup", NOW + timedelta(minutes=1), b"")
        save_heartbeats(connection, [later])
        assert read_heartbeats(connection) == {"cron": first, "backup": later}
        save_heartbeats(connection, [])
