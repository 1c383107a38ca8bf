"""The lease in PostgreSQL, as several machines see it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tentaculo.store import migrate
from tentaculo.store.client import StoreClient
from tentaculo.store.lease import (
    Fence,
    LeaseLost,
    read_lease,
    release_lease,
    renew_lease,
    require_lease,
    take_lease,
)
from tentaculo.tasks import TaskGroup
from tests.support.postgresql import Server
from tests.support.runtime_tables import opened


@pytest.fixture
def url(postgresql: Server) -> Iterator[str]:
    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as made:
        yield made


def test_one_takes_it_and_the_next_one_after_its_end(url: str) -> None:
    with opened(url) as connection:
        assert read_lease(connection) is None
        first = take_lease(connection, "a", 60)
        assert first == Fence("a", 1)
        assert take_lease(connection, "b", 60) is None
        row = read_lease(connection)
        assert row is not None
        assert row.fence == first
        assert 59 < row.remaining <= 60
        assert renew_lease(connection, first, 0)
        assert take_lease(connection, "b", 60) == Fence("b", 2)
        assert not renew_lease(connection, first, 60)
        require_lease(connection, Fence("b", 2))
        with pytest.raises(LeaseLost):
            require_lease(connection, first)


def test_a_released_lease_is_free_and_only_its_holder_releases_it(url: str) -> None:
    with opened(url) as connection:
        first = take_lease(connection, "a", 60)
        assert first is not None
        release_lease(connection, Fence("a", 7))
        assert take_lease(connection, "b", 60) is None
        release_lease(connection, first)
        assert take_lease(connection, "b", 60) == Fence("b", 2)


def test_a_restarted_holder_takes_its_own_lease_with_another_epoch(url: str) -> None:
    with opened(url) as connection:
        assert take_lease(connection, "a", 60) == Fence("a", 1)
        assert take_lease(connection, "b", 60, is_restart=True) is None
        assert take_lease(connection, "a", 60, is_restart=True) == Fence("a", 2)
        with pytest.raises(LeaseLost):
            require_lease(connection, Fence("a", 1))


def test_it_is_not_taken_while_a_transaction_of_its_holder_is_open(url: str) -> None:
    with opened(url) as connection:
        held = take_lease(connection, "a", 0)
    assert held is not None
    with opened(url) as holder, opened(url) as other:
        require_lease(holder, held)
        other.execute(text("SET lock_timeout = 50"))
        with pytest.raises(DBAPIError, match="55P03"):
            take_lease(other, "b", 60)
        other.rollback()


async def test_a_stale_holder_writes_nothing_and_loses_no_database(url: str) -> None:
    client = StoreClient(url)
    await client.start()
    try:
        client.fence = await client.run(lambda connection: take_lease(connection, "a", 0))
        assert await client.run_as_holder(lambda connection: connection.execute(text("SELECT 7")).scalar()) == 7
        await client.run(lambda connection: take_lease(connection, "b", 60))
        insert = text("INSERT INTO tentaculo_tickets VALUES ('x', 1, 'a')")
        with pytest.raises(LeaseLost):
            await client.run_as_holder(lambda connection: connection.execute(insert))
        assert client.problem is None
        count = text("SELECT count(*) FROM tentaculo_tickets")
        assert await client.run(lambda connection: connection.execute(count).scalar()) == 0
        client.fence = None
        with pytest.raises(LeaseLost):
            await client.run_as_holder(lambda connection: connection.execute(insert))
    finally:
        await client.close()


async def test_those_that_wait_are_notified_when_it_is_released(url: str) -> None:
    client, rung = StoreClient(url), asyncio.Event()
    await client.start()
    tasks = TaskGroup("test")
    tasks.start(client.notify(lambda: None, rung.set), "listen")
    try:
        held = await client.run(lambda connection: take_lease(connection, "a", 60))
        await asyncio.wait_for(rung.wait(), 20)
        rung.clear()
        await client.run(lambda connection: release_lease(connection, held))
        await asyncio.wait_for(rung.wait(), 20)
    finally:
        await tasks.close()
        await client.close()
