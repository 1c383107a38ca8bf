"""History through the store_client: stored once, kept while the database is away, tended in pieces between other work."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError
from structlog.testing import capture_logs

from tentaculo.model.event import StoredEvent
from tentaculo.model.history import DAY, HOUR, MINUTE, Histogram, Period, Tally
from tentaculo.store import history as store_history
from tentaculo.store.client import StoreClient
from tentaculo.store.database import Database, connect, parse_url
from tentaculo.store.events import EventRow
from tentaculo.store.history import Retention, history_row, read_history
from tests.support import store_samples
from tests.support.runtime_tables import opened
from tests.support.waits import eventually

StoreClientOn = Callable[..., StoreClient]
TODAY = 20_000 * DAY


def sqlite(file: Path) -> str:
    return f"sqlite:///{file}"


def minute(number: int, service: str = "madre", ok: int = 6) -> Period:
    return Period(service, MINUTE, TODAY + number * MINUTE, Tally(ok, 1, Histogram({200: ok} if ok else None)))


async def until_ok(kept: StoreClient, span: int, expected: list[int], until: int = TODAY + DAY) -> None:
    """Wait until the history from today to `until` has these successful probes: a read does not wait for the writes before it."""
    found: list[int] = []
    async with asyncio.timeout(20):
        while found != expected:
            found = [one.probes.ok for one in await kept.history("madre", span, TODAY, until)]
            await asyncio.sleep(0.005)


@contextmanager
def failing(when: Callable[[str], bool], error: Exception) -> Iterator[None]:
    """Raises `error` in place of each statement for which `when` holds."""

    def fail(_c: object, _cursor: object, statement: str, _p: Any, _x: object, _many: bool) -> None:
        if when(statement):
            raise error

    event.listen(Engine, "before_cursor_execute", fail)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", fail)


async def test_it_is_stored_and_summed_up_on_each_kind_of_database(url: str, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(url)
    await kept.start()
    kept.record_history([minute(number) for number in range(0, 120, 20)])
    kept.record_history([minute(0, ok=1)])
    await until_ok(kept, MINUTE, [7, 6, 6, 6, 6, 6])
    kept.roll_up_history(TODAY + 2 * HOUR, None)
    await eventually(lambda: _spans(url) == {MINUTE: 6, HOUR: 2})
    await until_ok(kept, HOUR, [19, 18])
    past = await kept.past(TODAY + 2 * HOUR, ["madre"])
    assert [hour.probes.ok for hour in past["madre"].hours] == [19, 18]
    assert kept.dropped == 0


def _spans(url: str) -> dict[int, int]:
    with opened(url) as connection:
        found = connection.exec_driver_sql("SELECT span, count(*) FROM tentaculo_history GROUP BY span")
        return dict(map(tuple, found))


async def test_while_the_database_is_locked_history_waits_and_is_counted_once(
    file: Path, store_client_on: StoreClientOn
) -> None:
    kept = store_client_on(sqlite(file))
    await kept.start()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        kept.record_history([minute(0), minute(1)])
        await eventually(lambda: kept.problem)
        kept.record_history([minute(1)])
        assert await kept.history("madre", MINUTE, TODAY, TODAY + HOUR) == []
        other.execute("ROLLBACK")
    await eventually(lambda: kept.problem is None)
    await until_ok(kept, MINUTE, [6, 12])
    assert kept.dropped == 0


@pytest.mark.thorough
def test_several_processes_that_meet_the_same_minute_add_up(url: str) -> None:
    """Each has a connection of its own, as several gateways on one database have."""
    times = 100

    def add(_: int) -> None:
        database, left = Database(url), times
        while left:
            try:
                database.ready()
                database.add_history([history_row(minute(0)), history_row(minute(1))])
                left -= 1
            except SQLAlchemyError:
                # Both stored the first row, or the other has held the lock for too long: done again, as the writer does.
                database.close()
        database.close()

    with ThreadPoolExecutor() as pool:
        list(pool.map(add, range(3)))
    with opened(url) as connection:
        found = read_history(connection, MINUTE, TODAY, TODAY + HOUR, ["madre"])
    assert [(one.probes.ok, one.probes.failed, one.probes.latency.count) for one in found] == [
        (6 * 3 * times, 3 * times, 6 * 3 * times)
    ] * 2


async def test_what_waits_is_bounded_and_the_oldest_is_what_is_lost(
    tmp_path: Path, store_client_on: StoreClientOn
) -> None:
    kept = store_client_on(sqlite(tmp_path / "fleet.db"), max_history=10)
    await kept.start()
    for number in range(25):
        kept.record_history([minute(number)])
    await eventually(lambda: kept.dropped == 15)
    assert "10 rows of history" in repr(kept)


async def test_a_full_disk_costs_history_and_it_comes_back(file: Path, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(sqlite(file))
    await kept.start()
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorname = "SQLITE_FULL"
    with failing(lambda statement: statement.startswith("INSERT INTO tentaculo_history"), full):
        kept.record_history([minute(0)])
        await eventually(lambda: kept.problem)
        assert kept.problem is not None
    await eventually(lambda: kept.problem is None)
    await until_ok(kept, MINUTE, [6])


async def test_a_row_that_is_refused_costs_itself_only(file: Path, store_client_on: StoreClientOn) -> None:
    with closing(sqlite3.connect(file)) as other:
        other.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON tentaculo_history WHEN NEW.service = 'bad'"
            " BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )
    kept = store_client_on(sqlite(file))
    await kept.start()
    kept.record_history([minute(0), minute(0, "bad"), minute(1)])
    await until_ok(kept, MINUTE, [6, 6])
    await eventually(lambda: kept.dropped == 1)
    assert kept.problem is None


async def test_upkeep_lets_others_in_between_its_pieces(
    file: Path, store_client_on: StoreClientOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_history, "ROLL_UP", 1)
    kept = store_client_on(sqlite(file))
    await kept.start()
    kept.record_history([minute(number * 60) for number in range(24)])
    order: list[str] = []

    def note(_c: object, _cursor: object, statement: str, _p: Any, _x: object, _many: bool) -> None:
        if statement.startswith("INSERT INTO tentaculo_history"):
            order.append(statement.split()[2])

    append = Database.append_events

    def note_events(database: Database, rows: Sequence[EventRow]) -> list[StoredEvent]:
        order.append("tentaculo_events")
        return append(database, rows)

    await until_ok(kept, MINUTE, [6] * 24)
    monkeypatch.setattr(Database, "append_events", note_events)
    event.listen(Engine, "before_cursor_execute", note)
    try:
        kept.roll_up_history(TODAY + DAY, None)
        for number in range(1, 4):
            await store_samples.store(kept, store_samples.event(number))
        await eventually(lambda: order.count("tentaculo_history") == 25)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    last = len(order) - 1 - order[::-1].index("tentaculo_events")
    assert order[last:].count("tentaculo_history") > 0, "the events waited until all was done"


async def test_upkeep_that_a_loss_cut_off_is_taken_up_again(file: Path, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(sqlite(file))
    await kept.start()
    kept.record_history([minute(number * 60) for number in range(5)])
    await until_ok(kept, MINUTE, [6] * 5)
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorname = "SQLITE_BUSY"
    with failing(lambda statement: statement.startswith("INSERT INTO tentaculo_history"), busy):
        kept.roll_up_history(TODAY + DAY, Retention(DAY, DAY, DAY))
        await eventually(lambda: kept.problem)
    await eventually(lambda: _spans(sqlite(file)) == {MINUTE: 5, HOUR: 5, DAY: 1})
    assert kept.problem is None
    await until_ok(kept, DAY, [30])


async def test_what_another_hand_wrote_counts_as_nothing_and_stops_nothing(
    file: Path, store_client_on: StoreClientOn
) -> None:
    kept = store_client_on(sqlite(file))
    await kept.start()
    kept.record_history([minute(0)])
    await until_ok(kept, MINUTE, [6])
    with closing(sqlite3.connect(file)) as other:
        for values in (
            "probes_ok = 'many', probes_latency = 'text'",
            f"probes_failed = {2**63 - 1}, probes_ok = -3, probes_latency = x'ff'",
        ):
            other.execute(f"UPDATE tentaculo_history SET {values}")
            other.commit()
            await until_ok(kept, MINUTE, [0])
            kept.record_history([minute(0)])
            await until_ok(kept, MINUTE, [6])
    assert kept.problem is None


async def test_an_hour_that_is_refused_stops_nothing(file: Path, store_client_on: StoreClientOn) -> None:
    with closing(sqlite3.connect(file)) as other:
        other.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON tentaculo_history WHEN NEW.span = 3600"
            " BEGIN SELECT RAISE(ABORT, 'no hours'); END"
        )
    kept = store_client_on(sqlite(file))
    await kept.start()
    kept.record_history([minute(0)])
    with capture_logs() as logs:
        kept.roll_up_history(TODAY + HOUR, None)
        await eventually(lambda: logs)
    assert [entry["event"] for entry in logs] == ["history roll-up failed"]
    await store_samples.store(kept, store_samples.event(1))
    assert kept.problem is None
    await until_ok(kept, HOUR, [6], TODAY + HOUR)


def test_sqlite_keeps_little_of_the_file_for_itself(file: Path) -> None:
    """Reading a quarter of history would otherwise add 2 MB to an idle gateway, and is no faster for it."""
    with closing(connect(parse_url(sqlite(file)))) as connection:
        assert connection.exec_driver_sql("PRAGMA cache_size").scalar_one() == -512
