"""The log of events: keys of producers, filters, retention, and the name of the log."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pg8000
import pytest
from sqlalchemy import Connection, func, make_url, select
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from tentaculo.model.clock import CorrectedTime
from tentaculo.model.event import EventFilter, FoundEvents, StoredEvent, StoreOutcome, lowest_id
from tentaculo.model.health import GATEWAY_NAME
from tentaculo.store import events as events_module
from tentaculo.store import migrate, tables
from tentaculo.store.client import StoreClient
from tentaculo.store.events import TRIM_ROWS, EventRetention, EventRow
from tests.support import store_samples
from tests.support.postgresql import Server
from tests.support.runtime_tables import opened
from tests.support.store_samples import NOW, event, store
from tests.support.waits import eventually

StoreClientOn = Callable[..., StoreClient]


@pytest.fixture
async def kept(url: str, store_client_on: StoreClientOn) -> StoreClient:
    client = store_client_on(url, event_wait=20.0)
    await client.start()
    return client


async def ids(client: StoreClient, wanted: EventFilter, **bounds: Any) -> list[int]:
    return [found.id for found in (await client.read_events(wanted, limit=1000, **bounds)).events]


def test_a_row_has_every_column() -> None:
    assert set(EventRow._fields) == set(tables.events.columns.keys())


async def test_events_with_different_members_in_one_batch_come_back_whole(kept: StoreClient) -> None:
    sent = [
        event(1),
        event(2, key="a", digest="x", severity="warning"),
        event(3, stated_ms=1_700_000_000_000, corrected=CorrectedTime(0, 0)),
        event(4, canonical=True, broadcast=True, metadata={}),
        event(5, key="b"),
        event(6, severity="info", stated_ms=1_700_000_000_001),
    ]
    await kept.store_events(sent)
    assert (await kept.read_events(EventFilter(), limit=10)).events == sent


async def test_a_key_makes_a_repeat_the_same_event(kept: StoreClient) -> None:
    first = event(1, key="a", digest="x")
    repeat, changed, other = (
        event(2, key="a", digest="x"),
        event(3, key="a", digest="y"),
        event(4, key="a", digest="x", source="mcp"),
    )
    assert await kept.store_events([first]) == [StoredEvent(1, StoreOutcome.STORED)]
    assert await kept.store_events([repeat, changed, other, event(5)]) == [
        StoredEvent(1, StoreOutcome.DUPLICATE),
        StoredEvent(1, StoreOutcome.CONFLICT),
        StoredEvent(4, StoreOutcome.STORED),
        StoredEvent(5, StoreOutcome.STORED),
    ]
    assert await ids(kept, EventFilter()) == [1, 4, 5]


async def test_a_repeat_within_one_batch_is_found_too(kept: StoreClient) -> None:
    batch = [event(1, key="a", digest="x"), event(2, key="a", digest="x"), event(3, key="a", digest="y")]
    outcomes = [result.outcome for result in await kept.store_events(batch)]
    assert outcomes == [StoreOutcome.STORED, StoreOutcome.DUPLICATE, StoreOutcome.CONFLICT]
    assert await ids(kept, EventFilter()) == [1]


async def test_a_key_lives_as_long_as_its_row(kept: StoreClient, url: str) -> None:
    await store(kept, event(1, key="a", digest="x"))
    with opened(url) as connection:
        connection.execute(tables.events.delete())
    assert await store(kept, event(2, key="a", digest="y")) == 2


async def test_events_without_a_key_are_all_stored(kept: StoreClient) -> None:
    assert [await store(kept, event(7)) for _ in range(3)] == [7, 8, 9]


async def test_what_a_reader_wants(kept: StoreClient) -> None:
    # Ids are at least the time of the receipt.
    late = lowest_id(NOW + timedelta(hours=1)) + 1000
    events = [
        event(1),
        event(2, source="mcp"),
        event(3, type="system.alert", severity="L3", payload={"message": "50 %_done"}, broadcast=True),
        event(4, payload={"message": "Ñandú and TEA"}),
        event(late, received_at=NOW + timedelta(hours=1)),
    ]
    await kept.store_events(events)
    for wanted, found in (
        (EventFilter(), [1, 2, 3, 4, late]),
        (EventFilter(types=("system.alert", "no.such")), [3]),
        (EventFilter(sources=("mcp",)), [2]),
        (EventFilter(severities=("L3",)), [3]),
        (EventFilter(is_broadcast=True), [3]),
        (EventFilter(since=NOW + timedelta(minutes=1)), [late]),
        (EventFilter(until=NOW + timedelta(minutes=1)), [1, 2, 3, 4]),
        (EventFilter(text="%_d"), [3]),
        (EventFilter(text="% d"), []),
        (EventFilter(text="!"), []),
        (EventFilter(text="tea"), [4]),
        (EventFilter(text="ñANDÚ AND"), [4]),
        (EventFilter(text="nandu"), []),
        (EventFilter(text="ßandú"), []),
        (EventFilter(text="Ñandú"), [4]),
        (EventFilter(text="MCP"), [2]),
        (EventFilter(text="a\0b", types=("\ud800",)), []),
    ):
        assert await ids(kept, wanted) == found, wanted
    assert await ids(kept, EventFilter(), after=2, before=5) == [3, 4]
    newest = await kept.read_events(EventFilter(), before=4, limit=2, newest_first=True)
    assert newest == FoundEvents([events[2], events[1]])


def total_bytes(url: str) -> tuple[int, int]:
    """As it is kept, and as the rows of producers have it."""
    with opened(url) as connection:
        kept = connection.execute(select(tables.event_sequence.c.total_bytes)).scalar_one()
        rows = select(func.coalesce(func.sum(tables.events.c.size), 0)).where(tables.events.c.source != GATEWAY_NAME)
        return kept, connection.execute(rows).scalar_one()


def remaining(url: str) -> list[int]:
    with opened(url) as connection:
        return list(connection.scalars(select(tables.events.c.id).order_by(tables.events.c.id)))


async def test_the_oldest_go_by_age_in_small_steps(kept: StoreClient, url: str) -> None:
    count = 2 * TRIM_ROWS + 50
    old = [event(number, received_at=NOW - timedelta(days=1)) for number in range(1, count)]
    for start in range(0, count, 300):
        await kept.store_events(old[start : start + 300])
    await store(kept, event(count, source=GATEWAY_NAME, received_at=NOW - timedelta(days=1)))
    await store(kept, event(count + 1))
    kept.trim_events(EventRetention(NOW - timedelta(hours=1), 10**9))
    await eventually(lambda: total_bytes(url)[1] < 1000)
    assert await ids(kept, EventFilter()) == [count, count + 1], "the gateway's own events stay"
    assert len(set(total_bytes(url))) == 1
    assert await store(kept, event(1)) == count + 2, "ids never come back"
    hour = NOW - timedelta(hours=1)
    kept.trim_events(EventRetention(hour, 10**9, own_before=hour))
    await eventually(lambda: remaining(url) == [count + 1, count + 2], "after its incidents an own event goes as well")
    assert len(set(total_bytes(url))) == 1


async def test_events_of_a_clock_that_was_ahead_do_not_keep_those_behind_them(kept: StoreClient, url: str) -> None:
    count, day = TRIM_ROWS + 50, timedelta(days=1)
    await kept.store_events([event(number, received_at=NOW + day) for number in range(1, count)])
    await kept.store_events([event(count, received_at=NOW - day), event(count + 1, received_at=NOW - day)])
    await store(kept, event(count + 2, received_at=NOW))
    kept.trim_events(EventRetention(NOW - timedelta(hours=1), 10**9, now=NOW))
    await eventually(lambda: remaining(url) == [*range(1, count), count + 2])
    assert len(set(total_bytes(url))) == 1


async def test_the_oldest_go_by_size_and_none_for_its_age_while_the_clock_may_be_wrong(
    kept: StoreClient, url: str
) -> None:
    await kept.store_events([event(number, payload={"text": "x" * 1000}) for number in range(1, 101)])
    before, rows = total_bytes(url)
    assert before == rows > 100_000
    kept.trim_events(EventRetention(None, 20_000))
    await eventually(lambda: total_bytes(url)[1] <= 20_000)
    left = await ids(kept, EventFilter())
    assert left == list(range(101 - len(left), 101))
    assert 10 < len(left) < 20
    assert len(set(total_bytes(url))) == 1


async def test_many_events_of_the_gateway_itself_cost_producers_none(kept: StoreClient, url: str) -> None:
    own = {"source": GATEWAY_NAME, "payload": {"text": "x" * 1000}}
    await kept.store_events([event(101), *(event(number, **own) for number in range(102, 199)), event(199)])
    size, _ = total_bytes(url)
    kept.trim_events(EventRetention(None, size))
    await store(kept, event(200))
    kept.trim_events(EventRetention(None, size))
    await eventually(
        lambda: remaining(url) == list(range(102, 201)), "of producers the oldest one goes, which is too many"
    )
    assert len(set(total_bytes(url))) == 1


@pytest.mark.thorough
@pytest.mark.parametrize("damaged", [2**63 - 1, 2**53, -5, "abc", 1.5])
async def test_a_damaged_last_id_costs_no_event(
    tmp_path: Path, store_client_on: StoreClientOn, damaged: object
) -> None:
    url = f"sqlite:///{tmp_path}/tentaculo.db"
    migrate.upgrade(url)
    first = store_client_on(url, event_wait=20.0)
    await first.start()
    await first.store_events([event(7)])
    await first.close()
    with sqlite3.connect(tmp_path / "tentaculo.db") as connection:
        connection.execute("UPDATE tentaculo_event_sequence SET last_id = ?", (damaged,))
    second = store_client_on(url, event_wait=20.0)
    await second.start()
    assert await store(second, event(3)) == 8, "greater than every id that is stored"
    assert await ids(second, EventFilter()) == [7, 8]


async def test_events_of_an_older_version_count_with_their_size(kept: StoreClient, url: str) -> None:
    await kept.store_events([event(number) for number in range(1, 4)])
    expected, _ = total_bytes(url)
    with opened(url) as connection:
        connection.execute(tables.events.update().values(size=None))
        connection.execute(tables.event_sequence.update().values(total_bytes=None))
    await store(kept, event(4))
    stored, new = total_bytes(url)
    assert stored == expected + new
    kept.trim_events(EventRetention(None, 1))
    await eventually(lambda: total_bytes(url) == (0, 0))


async def test_a_database_that_is_lost_while_it_takes_each_row_alone_stores_none_twice(
    file: Path, store_client_on: StoreClientOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused row makes the batch go row by row. What was stored of it before the loss must not be stored again."""
    url = f"sqlite:///{file}"
    with opened(url) as connection:
        connection.exec_driver_sql("CREATE UNIQUE INDEX ix_severity ON tentaculo_events (severity)")
    client = store_client_on(url, event_wait=20)
    await client.start()
    append, calls = events_module.append_events, 0

    def fail_once(connection: Connection, rows: Sequence[events_module.EventRow]) -> list[StoredEvent]:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OperationalError("INSERT", {}, sqlite3.OperationalError("disk I/O error"))
        return append(connection, rows)

    monkeypatch.setattr(events_module, "append_events", fail_once)
    batch = [event(1, severity="a"), event(2, severity="b"), event(3, severity="b"), event(4, severity="c")]
    outcomes = [result.outcome for result in await client.store_events(batch)]
    assert calls > 5, "the database was lost in between"
    assert [outcome is StoreOutcome.STORED for outcome in outcomes] == [True, True, False, True]
    await eventually(lambda: client.problem is None)
    assert [found.severity for found in await store_samples.newest_events(client, 10)] == ["c", "b", "a"]


async def test_the_servers_default_isolation_makes_no_id_twice(
    postgresql: Server, store_client_on: StoreClientOn
) -> None:
    """With a snapshot from before the lock a writer would not see the ids that others gave while it waited."""
    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as url:
        postgresql.execute(
            f"ALTER DATABASE {make_url(url).database} SET default_transaction_isolation = 'repeatable read'"
        )
        clients = [store_client_on(url, event_wait=20) for _ in range(2)]
        for client in clients:
            await client.start()
        stored = set[int]()
        with capture_logs() as logs:
            for number in range(50):
                two = (store(client, event(10 * number + index)) for index, client in enumerate(clients))
                stored |= set(await asyncio.gather(*two))
        assert len(stored) == 100
        assert [entry for entry in logs if entry["event"] == "database unavailable"] == []


async def test_what_a_commit_asks_postgresql(
    postgresql: Server, store_client_on: StoreClientOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All writers wait for the lock meanwhile. The driver exchanges three messages for a statement with parameters, for
    each row of several, and one for a statement without."""
    found: list[tuple[str, int]] = []
    execute = pg8000.Cursor.execute

    def note(cursor: Any, statement: str, parameters: Any = (), **named: Any) -> Any:
        found.append((statement.partition(" ")[0], len(parameters)))
        return execute(cursor, statement, parameters, **named)

    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as url:
        client = store_client_on(url, event_wait=20)
        await client.start()
        await store(client, event(1))
        with monkeypatch.context() as patched:
            patched.setattr(pg8000.Cursor, "execute", note)
            await client.store_events([event(number) for number in range(2, 101)])
    assert found == [("SELECT", 0), ("SELECT", 0), ("INSERT", 1), ("UPDATE", 0)]


ODD = {"text": 'ñ"\\\n\x00\x1f\u2028😀', "null": None, "big": 2**70, "deep": [[{"a": [1.5, True, {}]}]], "": "'; --"}


async def test_odd_values_are_kept(kept: StoreClient) -> None:
    odd = event(
        1, payload=ODD, metadata=ODD, source="'\"ñ😀\\", key="k\\'", severity="%s $1", stated_ms=2**52, broadcast=True
    )
    await kept.store_events([odd, event(2, payload={"half": "\ud800"})])
    found, half = (await kept.read_events(EventFilter(), limit=2)).events
    assert found == odd
    assert half.payload == {"half": "\ud800"}
