"""Queries on a connection of their own: they delay no commit, cannot write, and end when nobody waits for them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, get_native_id

import pytest
from sqlalchemy import Connection, delete, text

from tentaculo.model.event import EventFilter, FoundEvents
from tentaculo.store import client as client_module
from tentaculo.store import tables
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.migrate import upgrade
from tentaculo.store.read_thread import MOST_WAITING, SEARCH_NICENESS
from tests.support import store_samples
from tests.support.runtime_tables import opened

StoreClientOn = Callable[..., StoreClient]


def count_for_ever(connection: Connection) -> None:
    connection.execute(text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"))


async def test_a_search_delays_no_commit_and_ends_with_its_time_limit(
    url: str, store_client_on: StoreClientOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tentaculo.store.database.SERVER_WAIT", 2.0)
    kept = store_client_on(url)
    await kept.start()
    await store_samples.store(kept, store_samples.event(1))
    monkeypatch.setattr(client_module, "READ_WAIT", 3600)
    search = asyncio.create_task(kept.read(count_for_ever))  # noqa: TID251
    for number in range(2, 22):
        assert await store_samples.store(kept, store_samples.event(number)) == number
    assert [event.id for event in await kept.next_events(19, 5)] == [20, 21]
    assert not search.done(), "all of them were committed while it ran"
    # SQLite ends a query that nobody waits for; a server ends one that takes too long.
    search.cancel()
    with pytest.raises((asyncio.CancelledError, StoreUnavailable)):
        await search
    assert [event.id for event in await store_samples.newest_events(kept, 1)] == [21]


async def test_rows_that_take_long_do_not_keep_a_search_that_nobody_waits_for(
    tmp_path: Path, store_client_on: StoreClientOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile text makes LIKE take 50 ms for each row, and that is one instruction of SQLite."""
    monkeypatch.setattr(client_module, "READ_WAIT", 3600)
    url = f"sqlite:///{tmp_path}/tentaculo.db"
    await asyncio.to_thread(upgrade, url)
    kept = store_client_on(url)
    await kept.start()
    rows, begun, may_go = list[int](), Event(), Event()

    def take_long(number: int) -> int:
        rows.append(number)
        begun.set()
        may_go.wait(30)
        return number

    def slow(connection: Connection) -> None:
        connection.connection.driver_connection.create_function("take_long", 1, take_long)  # type: ignore[union-attr]
        connection.execute(text("SELECT sum(take_long(column1)) FROM (VALUES (1), (2), (3))"))

    search = asyncio.create_task(kept.search(slow))  # noqa: TID251
    assert await asyncio.to_thread(begun.wait, 30)
    search.cancel()
    with pytest.raises(asyncio.CancelledError):
        await search
    may_go.set()
    assert await kept.search(lambda connection: connection.scalar(text("SELECT 1"))) == 1
    assert rows == [1]


async def test_a_search_delays_no_other_query(
    url: str, store_client_on: StoreClientOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "READ_WAIT", 60)
    monkeypatch.setattr("tentaculo.store.database.SERVER_WAIT", 10.0)
    kept = store_client_on(url)
    await kept.start()
    await store_samples.store(kept, store_samples.event(1))
    assert ids(await kept.read_events(EventFilter(text="nothing"), limit=5)) == []
    search = asyncio.create_task(kept.search(count_for_ever))  # noqa: TID251
    for _ in range(5):
        assert ids(await kept.read_events(EventFilter(), limit=1)) == [1]
        assert ids(await kept.read_events(EventFilter(types=("no.such",)), limit=5)) == []
    assert not search.done()
    search.cancel()
    with pytest.raises(asyncio.CancelledError):
        await search


def ids(found: FoundEvents) -> list[int]:
    return [event.id for event in found.events]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness for each thread")
async def test_a_search_takes_what_the_others_leave(url: str, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(url)
    await kept.start()

    def niceness(_connection: Connection) -> int:
        return os.getpriority(os.PRIO_PROCESS, get_native_id())

    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert await kept.read(niceness) == own
    assert await kept.search(niceness) == min(own + SEARCH_NICENESS, 19)
    await kept.close()
    with pytest.raises(StoreUnavailable):
        await kept.search(niceness)


async def test_it_cannot_write(url: str, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(url)
    await kept.start()
    await store_samples.store(kept, store_samples.event(1))
    with pytest.raises(StoreUnavailable):
        await kept.read(lambda connection: connection.execute(delete(tables.events)))
    assert [event.id for event in await store_samples.newest_events(kept, 5)] == [1]


@pytest.mark.parametrize("payload", ["{", "[1]", '"x"'])
async def test_what_it_cannot_read_costs_this_query_only(
    url: str, store_client_on: StoreClientOn, payload: str
) -> None:
    kept = store_client_on(url)
    await kept.start()
    await store_samples.store(kept, store_samples.event(1))
    with opened(url) as connection:
        connection.execute(tables.events.update().values(payload=payload))
    with pytest.raises(StoreUnavailable, match="rows that cannot be read"):
        await store_samples.newest_events(kept, 5)
    assert await kept.read(lambda connection: connection.execute(text("SELECT 1")).scalar()) == 1


async def test_what_waits_is_bounded_and_refused_at_the_stop(
    url: str, store_client_on: StoreClientOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tentaculo.store.database.SERVER_WAIT", 0.5)
    kept = store_client_on(url)
    await kept.start()
    searches = [asyncio.create_task(kept.read(count_for_ever)) for _ in range(MOST_WAITING + 2)]  # noqa: TID251
    done, _ = await asyncio.wait(searches, return_when=asyncio.FIRST_COMPLETED)
    assert "Too many requests wait" in str(next(iter(done)).exception())
    for search in searches:
        search.cancel()
    await asyncio.wait(searches)
    await kept.close()
    with pytest.raises(StoreUnavailable):
        await kept.read(count_for_ever)
