"""The store_client on real databases that serve."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC
from pathlib import Path

import pytest

from tentaculo.model.health import Health
from tentaculo.store import migrate, tables, work_queue
from tentaculo.store.client import LATE, StoreClient
from tentaculo.store.errors import StoreUnavailable
from tests.support import store_samples
from tests.support.databases import commits, locked, sqlite, statuses
from tests.support.runtime_tables import SERVICES, make_foreign, opened, rows_of
from tests.support.store_samples import view
from tests.support.waits import eventually

StoreClientOn = Callable[..., StoreClient]


async def test_events_come_back_newest_first_and_whole(url: str, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(url)
    await kept.start()
    assert kept.problem is None
    stored = [store_samples.event(number) for number in (7, 8, 2**52)]
    stored[0] = store_samples.event(
        7, canonical=True, broadcast=True, source="ñ", payload={"a": [1, None, "é"]}, metadata={}
    )
    for one in stored:
        await store_samples.store(kept, one)
    found = await store_samples.newest_events(kept, 10)
    assert found == stored[::-1]
    assert found[0].received_at.tzinfo is UTC
    assert await store_samples.newest_events(kept, 1) == [stored[2]]
    assert kept.dropped == 0


async def test_an_event_outlives_the_store_client(url: str, store_client_on: StoreClientOn) -> None:
    first = store_client_on(url)
    await first.start()
    await store_samples.store(first, store_samples.event(1))
    await first.close()
    second = store_client_on(url)
    await second.start()
    assert await store_samples.newest_events(second, 5) == [store_samples.event(1)]


async def test_a_client_that_only_reads_changes_nothing(url: str, store_client_on: StoreClientOn) -> None:
    first = store_client_on(url)
    await first.start()
    await store_samples.store(first, store_samples.event(1))
    await first.close()
    reader = store_client_on(url, only_reads=True, event_wait=0.1)
    await reader.start()
    assert await store_samples.newest_events(reader, 5) == [store_samples.event(1)]
    assert reader.shown_problem is None
    with pytest.raises(StoreUnavailable):
        await store_samples.store(reader, store_samples.event(2))
    with pytest.raises(StoreUnavailable):
        await reader.run(lambda connection: connection.execute(tables.events.delete()))
    await reader.close()
    again = store_client_on(url)
    await again.start()
    assert await store_samples.newest_events(again, 5) == [store_samples.event(1)]


async def test_event_ids_grow_whatever_the_clock_does(url: str, store_client_on: StoreClientOn) -> None:
    first = store_client_on(url)
    await first.start()
    ahead = 1_900_000_000_000_000
    assert await store_samples.store(first, store_samples.event(ahead)) == ahead
    assert await store_samples.store(first, store_samples.event(ahead)) == ahead + 1
    await first.close()
    with opened(url) as connection:
        connection.exec_driver_sql("DELETE FROM tentaculo_events")
    second = store_client_on(url)
    await second.start()
    assert await store_samples.store(second, store_samples.event(1_700_000_000_000_000)) == ahead + 2
    beyond = 253_402_300_799_000_000
    assert await store_samples.store(second, store_samples.event(beyond)) == ahead + 3, "an id must stay below 2**53"
    with opened(url) as connection:
        connection.exec_driver_sql("DELETE FROM tentaculo_event_sequence")
    assert await store_samples.store(second, store_samples.event(1)) == ahead + 4


async def test_two_processes_on_one_database_give_growing_ids(url: str, store_client_on: StoreClientOn) -> None:
    clients = [store_client_on(url) for _ in range(2)]
    for one in clients:
        await one.start()

    async def store(one: StoreClient) -> list[int]:
        return [await store_samples.store(one, store_samples.event(7)) for _ in range(40)]

    first, second = await asyncio.gather(*map(store, clients))
    assert (first, second) == (sorted(first), sorted(second))
    assert sorted(first + second) == list(range(7, 87))


async def test_text_that_no_database_holds_is_stored_all_the_same(url: str, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(url)
    await kept.start()
    await store_samples.store(kept, store_samples.event(1, source="a\0b\ud800", payload={"x": "\0\ud800"}))
    (found,) = await store_samples.newest_events(kept, 1)
    assert found.source == "a\ufffdb?"
    assert found.payload == {"x": "\0\ud800"}


async def test_services_are_brought_up_to_date(url: str, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(url)
    await kept.start()
    kept.record_services([view("madre"), view("hermes", Health.DOWN)])
    await eventually(lambda: statuses(url) == {"madre": "OK", "hermes": "BROKEN"})
    kept.record_services([view("madre", Health.DOWN)])
    kept.record_services([view("madre", Health.OFF)])
    await eventually(lambda: statuses(url) == {"madre": "UNKNOWN", "hermes": "BROKEN"})


async def test_what_waits_is_written_before_the_end(url: str, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(url, event_wait=20.0)
    await kept.start()
    waiting = [asyncio.ensure_future(store_samples.store(kept, store_samples.event(number))) for number in range(300)]  # noqa: TID251
    await asyncio.sleep(0)
    kept.record_services([view("madre")])
    await kept.close()
    await asyncio.gather(*waiting)
    with opened(url) as connection:
        assert len(rows_of(connection, "tentaculo_events")) == 300
    assert statuses(url) == {"madre": "OK"}
    kept.record_services([view("madre")])
    with pytest.raises(StoreUnavailable, match="stopping"):
        await store_samples.store(kept, store_samples.event(1000))
    assert kept.dropped == 2


async def test_events_that_wait_are_committed_together(file: Path, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(sqlite(file))
    with locked(file) as other, commits() as sizes:
        # It opens the file when the lock goes, and by then all of them wait.
        starting = asyncio.create_task(kept.start())  # noqa: TID251
        storing = [asyncio.create_task(store_samples.store(kept, store_samples.event(n))) for n in range(200)]  # noqa: TID251
        await asyncio.sleep(0)
        other.execute("COMMIT")
        await asyncio.gather(starting, *storing)
    assert sum(sizes) == 200
    assert len(sizes) <= 2


async def test_one_refused_event_does_not_cost_the_others(url: str, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(url)
    await kept.start()
    with opened(url) as connection:
        connection.exec_driver_sql("CREATE UNIQUE INDEX ix_source ON tentaculo_events (source)")
    await store_samples.store(kept, store_samples.event(1, source="5"))
    results = await asyncio.gather(
        *(store_samples.store(kept, store_samples.event(1, source=str(number))) for number in range(10)),
        return_exceptions=True,
    )
    assert isinstance(results.pop(5), StoreUnavailable)
    assert [one.id for one in await store_samples.newest_events(kept, 20)] == [*reversed(results), 1]
    assert [one.source for one in await store_samples.newest_events(kept, 20)] == [*"987643210", "5"]
    assert kept.problem is None
    assert kept.dropped == 1


async def test_one_refused_service_does_not_cost_the_others(url: str, store_client_on: StoreClientOn) -> None:
    with opened(url) as connection:
        connection.exec_driver_sql(f"CREATE UNIQUE INDEX ix_port ON {SERVICES} (port)")
    kept = store_client_on(url)
    await kept.start()
    kept.record_services([view("a", port=1), view("b", port=1), view("c", port=3)])
    await eventually(lambda: set(statuses(url)) == {"a", "c"})
    assert kept.dropped == 1
    assert kept.problem is None


async def test_a_payload_that_is_not_json_is_refused_alone(url: str, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(url)
    await kept.start()
    with pytest.raises(StoreUnavailable, match="JSON"):
        await store_samples.store(kept, store_samples.event(1, payload={"x": object()}))
    await store_samples.store(kept, store_samples.event(2))
    assert kept.dropped == 1


async def test_rows_that_another_hand_spoiled_cost_the_answer_only(url: str, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(url)
    await kept.start()
    await store_samples.store(kept, store_samples.event(1))
    with opened(url) as connection:
        connection.exec_driver_sql("UPDATE tentaculo_events SET payload = 'spoiled'")
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        await store_samples.newest_events(kept, 1)
    await store_samples.store(kept, store_samples.event(2))
    assert await store_samples.newest_events(kept, 1) == [store_samples.event(2)]


async def test_a_full_queue_refuses_at_once(file: Path, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(sqlite(file), max_events=3)
    with locked(file):
        starting = asyncio.create_task(kept.start())  # noqa: TID251
        storing = [asyncio.create_task(store_samples.store(kept, store_samples.event(n))) for n in range(4)]  # noqa: TID251
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="Too many requests wait"):
            await storing[3]
    await asyncio.gather(starting, *storing, return_exceptions=True)


@pytest.mark.parametrize("problem", ["The database file .* is locked", LATE])
async def test_events_that_wait_for_too_long_are_refused_together_and_counted(
    file: Path, store_client_on: StoreClientOn, problem: str
) -> None:
    kept = store_client_on(sqlite(file), event_wait=0.01)
    with locked(file):
        if problem != LATE:
            kept.launch()
            await eventually(lambda: kept.problem is not None)
        refused = kept.store_events([store_samples.event(1), store_samples.event(2)])
        left = kept.store_events([store_samples.event(3)])
        left.cancel()
        with pytest.raises(StoreUnavailable, match=problem):
            await refused
    assert kept.dropped == 2, "who has left is not refused"


async def test_a_queue_of_too_many_bytes_refuses_at_once(
    file: Path, store_client_on: StoreClientOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store_client_on(sqlite(file))
    large = [store_samples.event(number, payload={"text": "x" * 1000}) for number in range(4)]
    monkeypatch.setattr(work_queue, "MOST_BYTES", 3 * 1200)
    with locked(file):
        starting = asyncio.create_task(kept.start())  # noqa: TID251
        await eventually(lambda: kept.problem is not None)
        storing = [asyncio.create_task(store_samples.store(kept, one)) for one in large]  # noqa: TID251
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="Too many requests wait"):
            await storing[3]
    await asyncio.gather(starting, *storing[:3])
    # What was stored leaves room again, also one event that has more than all may have.
    monkeypatch.setattr(work_queue, "MOST_BYTES", 1)
    await store_samples.store(kept, large[3])
    assert len(await store_samples.newest_events(kept, 9)) == 4


async def test_services_beyond_the_bound_are_dropped_and_counted(file: Path, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(sqlite(file), max_services=2)
    with locked(file):
        await kept.start()
        kept.record_services([view("a"), view("b"), view("c")])
        assert kept.dropped == 1
    await eventually(lambda: kept.problem is None)
    await eventually(lambda: set(statuses(sqlite(file))) == {"b", "c"})


async def test_the_journal_of_our_own_file_is_switched_and_of_another_product_s_is_not(
    tmp_path: Path, store_client_on: StoreClientOn
) -> None:
    modes = {}
    for name, foreign in (("ours", False), ("theirs", True)):
        file = tmp_path / f"{name}.db"
        if foreign:
            with opened(sqlite(file)) as connection:
                make_foreign(connection, 2)
        migrate.upgrade(sqlite(file))
        kept = store_client_on(sqlite(file))
        await kept.start()
        await store_samples.store(kept, store_samples.event(1))
        await kept.close()
        with closing(sqlite3.connect(file)) as connection_:
            modes[name] = connection_.execute("PRAGMA journal_mode").fetchone()[0]
    assert modes == {"ours": "wal", "theirs": "delete"}


async def test_starting_and_closing_without_use_leaves_nothing(file: Path, store_client_on: StoreClientOn) -> None:
    before = len(os.listdir("/proc/self/fd"))
    kept = store_client_on(sqlite(file))
    await kept.close()
    kept = store_client_on(sqlite(file))
    await kept.start()
    await kept.close()
    await kept.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert (
        repr(kept)
        == "<StoreClient: available, <WorkQueue: 0 events, 0 reads, 0 services, 0 rows of history>, 0 dropped>"
    )
