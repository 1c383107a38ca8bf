"""Sessions in the database, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tentaculo.store import sessions
from tentaculo.store.client import StoreClient
from tentaculo.store.sessions import SessionTable, add_session, mark_sessions, read_sessions, remove_sessions
from tests.support.databases import sqlite
from tests.support.runtime_tables import opened

WEEK = 7 * 24 * 3600


def test_the_ages_of_a_session_are_read(url: str) -> None:
    with opened(url) as connection:
        add_session(connection, "a", "of-a", WEEK)
        add_session(connection, "b", "of-b", WEEK)
        earlier = (
            "UPDATE tentaculo_sessions SET created_at = created_at - 5000, used_at = used_at - 700 WHERE hash = 'b'"
        )
        connection.execute(text(earlier))
    with opened(url) as connection:
        found = read_sessions(connection, ["a", "b", "c"])
        assert sorted(found) == ["a", "b"]
        assert (found["a"][0], found["b"][0]) == ("of-a", "of-b")
        assert 0 <= found["a"][1] < 100
        assert 5000 <= found["b"][1] < 5100
        assert 700 <= found["b"][2] < 800
        mark_sessions(connection, ["b", "c"])
        _, age, idle = read_sessions(connection, ["b"])["b"]
        assert age >= 5000
        assert idle < 100
        remove_sessions(connection, ["b", "c"])
        assert sorted(read_sessions(connection, ["a", "b"])) == ["a"]


def test_rows_are_bounded_in_age_and_number(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 3)
    monkeypatch.setattr(sessions, "_BATCH", 2)
    with opened(url) as connection:
        for number in range(5):
            add_session(connection, f"{number}", "t", WEEK)
            connection.execute(text("UPDATE tentaculo_sessions SET used_at = used_at - 10"))
        assert sorted(read_sessions(connection, list("01234"))) == ["2", "3", "4"]
        connection.execute(text(f"UPDATE tentaculo_sessions SET created_at = created_at - {WEEK} WHERE hash = '3'"))
        add_session(connection, "new", "t", WEEK)
        assert sorted(read_sessions(connection, ["2", "3", "4", "new"])) == ["4", "new"]


async def test_another_process_sees_it(url: str, store_client_on: Callable[..., StoreClient]) -> None:
    clients = [store_client_on(url) for _ in range(2)]
    for client in clients:
        await client.start()
    one, other = (SessionTable(client.run) for client in clients)
    assert await one.add("a", "t", WEEK)
    assert list(await other.read(["a"]) or ()) == ["a"]
    assert await other.mark(["a"])
    assert await other.remove(["a"])
    assert await one.read(["a"]) == {}


async def test_while_the_database_is_away_nothing_raises(tmp_path: Path, store_client_on: Callable[..., Any]) -> None:
    client = store_client_on(sqlite(tmp_path / "none" / "fleet.db"))
    await client.start()
    table = SessionTable(client.run)
    assert await table.add("a", "t", WEEK) is False
    assert await table.read(["a"]) is None
    assert (await table.mark(["a"]), await table.remove(["a"])) == (False, False)
