"""When tokens were used last, on SQLite and PostgreSQL, as several processes note it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tentaculo.store.client import StoreClient
from tentaculo.store.token_uses import KEPT, TokenUseTable, last_uses, note_uses
from tests.support.databases import sqlite
from tests.support.runtime_tables import opened


def test_the_latest_use_counts_in_any_order(url: str) -> None:
    with opened(url) as connection:
        assert last_uses(connection) == {}
        note_uses(connection, {"a": 100, "b": 0})
        note_uses(connection, {"a": 500, "b": 500})
    with opened(url) as connection:
        found = last_uses(connection)
        assert sorted(found) == ["a", "b"]
        assert 100 <= found["a"] < 150
        assert found["b"] < 50
        note_uses(connection, {"a": 10})
        assert last_uses(connection)["a"] < 60


def test_the_row_of_a_token_that_nobody_uses_is_removed(url: str) -> None:
    with opened(url) as connection:
        note_uses(connection, {"old": KEPT + 100})
        note_uses(connection, {"new": 0})
        assert list(last_uses(connection)) == ["new"]


async def test_another_process_sees_it_and_nothing_raises_while_the_database_is_away(
    url: str, tmp_path: Path, store_client_on: Callable[..., StoreClient]
) -> None:
    clients = [store_client_on(one) for one in (url, url, sqlite(tmp_path / "none" / "fleet.db"))]
    for client in clients:
        await client.start()
    one, other, away = (TokenUseTable(client.run) for client in clients)
    assert await one.note({"a": 5})
    found = await other.read()
    assert found is not None
    assert 5 <= found["a"] < 60
    assert not await away.note({"a": 5})
    assert await away.read() is None
