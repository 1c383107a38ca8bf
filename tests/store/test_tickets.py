"""Tickets in the database, on SQLite and PostgreSQL, as several processes see them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from tentaculo.store import migrate, tickets
from tentaculo.store.client import StoreClient
from tentaculo.store.tickets import TicketTable, add_ticket, forget_expired, remove_tickets, take_ticket, unused_tickets
from tests.support.databases import sqlite
from tests.support.postgresql import Server
from tests.support.runtime_tables import opened


def rows(url: str) -> list[Any]:
    with opened(url) as connection:
        found = connection.execute(text("SELECT hash, issued_by, expires_at FROM tentaculo_tickets ORDER BY hash"))
        return [tuple(row) for row in found]


def test_a_row_is_taken_once_and_only_while_it_is_valid(url: str) -> None:
    with opened(url) as connection:
        add_ticket(connection, "a", "one", "token a", 60)
        add_ticket(connection, "b", "one", "token b", 0)
        assert [take_ticket(connection, digest) for digest in ("a", "a", "b", "c")] == ["token a", "", "", ""]


def test_a_ticket_of_an_older_version_is_worth_nothing(url: str) -> None:
    with opened(url) as connection:
        connection.execute(text("INSERT INTO tentaculo_tickets VALUES ('a', 99999999999, 'one', NULL)"))
        assert take_ticket(connection, "a") == ""


def test_what_one_process_gave_and_nobody_used_is_known(url: str) -> None:
    with opened(url) as connection:
        for digest, issuer in (("a", "one"), ("b", "one"), ("c", "other")):
            add_ticket(connection, digest, issuer, "token", 60)
        assert take_ticket(connection, "b")
        assert unused_tickets(connection, "one") == {"a"}
        assert unused_tickets(connection, "none") == set()


def test_an_invented_ticket_does_not_wait_for_another_writer(file: Path) -> None:
    with opened(sqlite(file)) as writer, opened(sqlite(file)) as other:
        other.exec_driver_sql("PRAGMA busy_timeout = 0")
        writer.exec_driver_sql("BEGIN IMMEDIATE")
        assert take_ticket(other, "invented") == ""
        with pytest.raises(OperationalError, match="locked"):
            add_ticket(other, "a", "one", "token a", 60)


def test_what_has_expired_is_removed_in_passing(url: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(tickets, "_BATCH", 3)
    with opened(url) as connection:
        for number in range(5):
            connection.execute(text(f"INSERT INTO tentaculo_tickets VALUES ('{number}', 7, 'gone', NULL)"))
        forget_expired(connection)
    assert len(rows(url)) == 2
    with opened(url) as connection:
        add_ticket(connection, "a", "one", "token a", 60)
        add_ticket(connection, "b", "one", "token b", 60)
        add_ticket(connection, "c", "one", "token c", 60)
        remove_tickets(connection, ["x", "y", "z", "c", "b"])
    assert [row[:2] for row in rows(url)] == [("a", "one")]


def test_two_transactions_that_remove_what_has_expired_do_not_wait_for_each_other(postgresql: Server) -> None:
    """SQLite has one writer at a time."""
    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as url:
        with opened(url) as first:
            for number in range(4):
                first.execute(text(f"INSERT INTO tentaculo_tickets VALUES ('{number}', 7, 'gone', NULL)"))
        with opened(url) as first, opened(url) as second:
            second.execute(text("SET lock_timeout = 500"))
            first.execute(text("DELETE FROM tentaculo_tickets WHERE hash = '2'"))
            add_ticket(second, "new", "two", "token new", 60)
        assert [row[0] for row in rows(url)] == ["new"]


async def test_of_fifty_takers_in_two_processes_one_gets_it(
    url: str, store_client_on: Callable[..., StoreClient]
) -> None:
    clients = [store_client_on(url) for _ in range(2)]
    for client in clients:
        await client.start()
    one, other = (TicketTable(client.run) for client in clients)
    for number in range(10):
        assert await one.add(f"{number}", "one", "token", 60)
        results = await asyncio.gather(*(table.take(f"{number}") for _ in range(25) for table in (one, other)))
        assert sorted(map(str, results)) == [""] * 49 + ["token"]
    assert rows(url) == []


async def test_while_the_database_is_away_nothing_raises(
    tmp_path: Any, store_client_on: Callable[..., StoreClient]
) -> None:
    client = store_client_on(sqlite(tmp_path / "none" / "fleet.db"))
    await client.start()
    table = TicketTable(client.run)
    assert await table.add("a", "one", "token", 60) is False
    assert await table.take("a") is None
    assert await table.remove(["a"]) is False
    assert await table.unused("one") is None
