"""PostgreSQL tells every process that there are more events; SQLite has no such thing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from tentaculo.store import migrate, notifications
from tentaculo.store.client import StoreClient
from tentaculo.tasks import TaskGroup
from tests.support import store_samples
from tests.support.databases import sqlite
from tests.support.postgresql import Server
from tests.support.runtime_tables import opened
from tests.support.waits import eventually

StoreClientOn = Callable[..., StoreClient]


@pytest.fixture
def server_url(postgresql: Server) -> Iterator[str]:
    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as url:
        yield url


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "FIRST_RETRY", 0.02)
    monkeypatch.setattr(notifications, "CHECK_EVERY", 0.05)


async def test_another_process_learns_of_stored_events(server_url: str, store_client_on: StoreClientOn) -> None:
    writer, reader = store_client_on(server_url), store_client_on(server_url)
    await writer.start()
    await reader.start()
    rung, tasks = asyncio.Event(), TaskGroup("test")
    tasks.start(reader.notify(rung.set), "listen")
    await asyncio.wait_for(rung.wait(), 10)
    rung.clear()
    await store_samples.store(writer, store_samples.event(1))
    await asyncio.wait_for(rung.wait(), 10)

    # The server ends the connection: it is made again, and whatever was missed is rung for then.
    rung.clear()
    with opened(server_url) as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND (query LIKE 'LISTEN%' OR query = 'SELECT 1')"
        )
    await asyncio.wait_for(rung.wait(), 10)
    rung.clear()
    await eventually(lambda: reader.problem is None and writer.problem is None)
    await store_samples.store(writer, store_samples.event(2))
    await asyncio.wait_for(rung.wait(), 10)
    await tasks.close()


async def test_the_end_of_the_connection_is_noticed_at_once(
    server_url: str, store_client_on: StoreClientOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the next check: until then events of other machines would come a second late."""
    monkeypatch.setattr(notifications, "CHECK_EVERY", 3600)
    rung, tasks = asyncio.Event(), TaskGroup("test")
    tasks.start(store_client_on(server_url).notify(rung.set), "listen")
    await asyncio.wait_for(rung.wait(), 10)
    rung.clear()
    with opened(server_url) as connection:
        ended = connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
        assert ended.all() == [(True,)]
    await asyncio.wait_for(rung.wait(), 10)
    await tasks.close()


async def test_a_database_that_is_away_is_tried_again_until_it_is_there(
    postgresql: Server, server_url: str, store_client_on: StoreClientOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts, connect = 0, asyncpg.connect

    async def count(**options: Any) -> Any:
        nonlocal attempts
        attempts += 1
        return await connect(**options)

    monkeypatch.setattr(asyncpg, "connect", count)
    name = str(make_url(server_url).database)
    absent = name.replace("test_", "absent_")
    rung, tasks = asyncio.Event(), TaskGroup("test")
    tasks.start(store_client_on(server_url.replace(f"/{name}", f"/{absent}")).notify(rung.set), "listen")
    await eventually(lambda: attempts > 2)
    assert not rung.is_set()
    postgresql.execute(f"CREATE DATABASE {absent}")
    try:
        await asyncio.wait_for(rung.wait(), 10)
        await tasks.close()
    finally:
        postgresql.execute(f"DROP DATABASE {absent} WITH (FORCE)")


async def test_sqlite_has_none(file: Path, store_client_on: StoreClientOn) -> None:
    await store_client_on(sqlite(file)).notify(lambda: None)
