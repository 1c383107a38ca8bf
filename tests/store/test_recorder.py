"""The recorder on real databases that serve, and that do what databases do."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import Engine, event, make_url

from tentaculo.model import Health
from tentaculo.store import migrate, recorder
from tentaculo.store.faults import StoreUnavailable
from tentaculo.store.recorder import Recorder
from tests.postgresql import Server
from tests.shapes import SERVICES, make_foreign, opened, rows_of
from tests.store import samples
from tests.store.conftest import eventually
from tests.store.samples import view

RecorderOn = Callable[..., Recorder]


def sqlite(file: Path) -> str:
    return f"sqlite:///{file}"


def statuses(url: str) -> dict[str, str]:
    with opened(url) as connection:
        return {row["service_name"]: row["status"] for row in rows_of(connection, SERVICES)}


@contextmanager
def locked(file: Path) -> Iterator[sqlite3.Connection]:
    """Another process's lock on the file, against readers too."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        yield other


@contextmanager
def statements() -> Iterator[list[int]]:
    """How many events each INSERT of this process stored."""
    found: list[int] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, _x: object, many: bool) -> None:
        if statement.startswith("INSERT INTO tentaculo_events"):
            found.append(len(parameters) if many else 1)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def test_events_come_back_newest_first_and_whole(url: str, recorder_on: RecorderOn) -> None:
    kept = recorder_on(url)
    await kept.start()
    assert kept.problem is None
    stored = [samples.event(number) for number in (2**53 - 1, 7, 8)]
    stored[1] = samples.event(7, canonical=True, broadcast=True, source="ñ", payload={"a": [1, None, "é"]}, metadata={})
    for one in stored:
        await kept.store_event(one)
    found = await kept.recent_events(10)
    assert found == [stored[0], stored[2], stored[1]]
    assert found[0].received_at.tzinfo is UTC
    assert await kept.recent_events(1) == [stored[0]]
    assert kept.dropped == 0


async def test_an_event_outlives_the_recorder(url: str, recorder_on: RecorderOn) -> None:
    first = recorder_on(url)
    await first.start()
    await first.store_event(samples.event(1))
    await first.close()
    second = recorder_on(url)
    await second.start()
    assert await second.recent_events(5) == [samples.event(1)]


async def test_text_that_no_database_holds_is_stored_all_the_same(url: str, recorder_on: RecorderOn) -> None:
    kept = recorder_on(url)
    await kept.start()
    await kept.store_event(samples.event(1, source="a\0b\ud800", payload={"x": "\0\ud800"}))
    (found,) = await kept.recent_events(1)
    assert found.source == "a\ufffdb?"
    assert found.payload == {"x": "\0\ud800"}


async def test_services_are_brought_up_to_date(url: str, recorder_on: RecorderOn) -> None:
    kept = recorder_on(url)
    await kept.start()
    kept.record_services([view("madre"), view("hermes", Health.DOWN)])
    await eventually(lambda: statuses(url) == {"madre": "OK", "hermes": "BROKEN"})
    kept.record_services([view("madre", Health.DOWN)])
    kept.record_services([view("madre", Health.OFF)])
    await eventually(lambda: statuses(url) == {"madre": "UNKNOWN", "hermes": "BROKEN"})


async def test_what_waits_is_written_before_the_end(url: str, recorder_on: RecorderOn) -> None:
    kept = recorder_on(url)
    await kept.start()
    waiting = [asyncio.ensure_future(kept.store_event(samples.event(number))) for number in range(300)]  # noqa: TID251
    await asyncio.sleep(0)
    kept.record_services([view("madre")])
    await kept.close()
    await asyncio.gather(*waiting)
    with opened(url) as connection:
        assert len(rows_of(connection, "tentaculo_events")) == 300
    assert statuses(url) == {"madre": "OK"}
    kept.record_services([view("madre")])
    with pytest.raises(StoreUnavailable, match="stopping"):
        await kept.store_event(samples.event(1000))
    assert kept.dropped == 2


async def test_events_that_wait_are_committed_together(file: Path, recorder_on: RecorderOn) -> None:
    kept = recorder_on(sqlite(file))
    with locked(file) as other, statements() as inserts:
        # It opens the file when the lock goes, and by then all of them wait.
        starting = asyncio.create_task(kept.start())  # noqa: TID251
        storing = [asyncio.create_task(kept.store_event(samples.event(n))) for n in range(200)]  # noqa: TID251
        await asyncio.sleep(0)
        other.execute("COMMIT")
        await asyncio.gather(starting, *storing)
    assert sum(inserts) == 200
    assert len(inserts) <= 2


async def test_one_refused_event_does_not_cost_the_others(url: str, recorder_on: RecorderOn) -> None:
    kept = recorder_on(url)
    await kept.start()
    await kept.store_event(samples.event(5))
    results = await asyncio.gather(
        *(kept.store_event(samples.event(number)) for number in range(10)), return_exceptions=True
    )
    assert [number for number, result in enumerate(results) if result is not None] == [5]
    assert isinstance(results[5], StoreUnavailable)
    assert [one.id for one in await kept.recent_events(20)] == list(range(9, -1, -1))
    assert kept.problem is None
    assert kept.dropped == 1


async def test_one_refused_service_does_not_cost_the_others(url: str, recorder_on: RecorderOn) -> None:
    with opened(url) as connection:
        connection.exec_driver_sql(f"CREATE UNIQUE INDEX ix_port ON {SERVICES} (port)")
    kept = recorder_on(url)
    await kept.start()
    kept.record_services([view("a", port=1), view("b", port=1), view("c", port=3)])
    await eventually(lambda: set(statuses(url)) == {"a", "c"})
    assert kept.dropped == 1
    assert kept.problem is None


async def test_a_payload_that_is_not_json_is_refused_alone(url: str, recorder_on: RecorderOn) -> None:
    kept = recorder_on(url)
    await kept.start()
    with pytest.raises(StoreUnavailable, match="JSON"):
        await kept.store_event(samples.event(1, payload={"x": object()}))
    await kept.store_event(samples.event(2))
    assert kept.dropped == 1


async def test_rows_that_another_hand_spoiled_cost_the_answer_only(url: str, recorder_on: RecorderOn) -> None:
    kept = recorder_on(url)
    await kept.start()
    await kept.store_event(samples.event(1))
    with opened(url) as connection:
        connection.exec_driver_sql("UPDATE tentaculo_events SET payload = 'spoiled'")
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        await kept.recent_events(1)
    await kept.store_event(samples.event(2))
    assert await kept.recent_events(1) == [samples.event(2)]


async def test_a_full_queue_refuses_at_once(file: Path, recorder_on: RecorderOn) -> None:
    kept = recorder_on(sqlite(file), max_events=3)
    with locked(file):
        starting = asyncio.create_task(kept.start())  # noqa: TID251
        storing = [asyncio.create_task(kept.store_event(samples.event(n))) for n in range(4)]  # noqa: TID251
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="Too much waits"):
            await storing[3]
    await asyncio.gather(starting, *storing, return_exceptions=True)


async def test_services_beyond_the_bound_are_dropped_and_counted(file: Path, recorder_on: RecorderOn) -> None:
    kept = recorder_on(sqlite(file), max_services=2)
    with locked(file):
        await kept.start()
        kept.record_services([view("a"), view("b"), view("c")])
        assert kept.dropped == 1
    await eventually(lambda: kept.problem is None)
    await eventually(lambda: set(statuses(sqlite(file))) == {"b", "c"})


async def test_a_missing_folder_is_named_and_the_database_taken_up_when_it_is_there(
    tmp_path: Path, recorder_on: RecorderOn
) -> None:
    file = tmp_path / "missing" / "fleet.db"
    kept = recorder_on(sqlite(file))
    await kept.start()
    assert kept.problem == "The database file fleet.db does not exist: run `tentaculo db upgrade`."
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await kept.store_event(samples.event(1))
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await kept.recent_events(1)
    kept.record_services([view("madre", Health.DOWN)])
    kept.record_services([view("madre")])
    assert not file.parent.exists()
    assert kept.dropped == 2
    await asyncio.to_thread(migrate.upgrade, sqlite(file))
    await eventually(lambda: kept.problem is None)
    await kept.store_event(samples.event(2))
    assert statuses(sqlite(file)) == {"madre": "OK"}


async def test_a_database_that_is_not_migrated_says_what_to_do(empty_url: str, recorder_on: RecorderOn) -> None:
    with opened(empty_url) as connection:
        make_foreign(connection, 2)
    kept = recorder_on(empty_url)
    await kept.start()
    assert kept.problem is not None
    assert "tentaculo db upgrade" in kept.problem
    await asyncio.to_thread(migrate.upgrade, empty_url)
    await eventually(lambda: kept.problem is None)
    await kept.store_event(samples.event(1))


async def test_a_locked_file_costs_history_and_never_the_loop(file: Path, recorder_on: RecorderOn) -> None:
    kept = recorder_on(sqlite(file))
    with locked(file):
        # With the lock held from the start the file stays in the mode in which readers wait too.
        gaps: list[float] = []

        async def tick() -> None:
            last = monotonic()
            while True:
                await asyncio.sleep(0.005)
                gaps.append(monotonic() - last)
                last = monotonic()

        ticking = asyncio.create_task(tick())  # noqa: TID251
        await kept.start()
        await eventually(lambda: kept.problem)
        assert kept.problem == "The database file fleet.db is locked by another process."
        for _ in range(50):
            kept.record_services([view("madre")])
            with pytest.raises(StoreUnavailable, match="locked"):
                await kept.store_event(samples.event(1))
        await eventually(lambda: len(gaps) > 60)
        ticking.cancel()
        assert max(gaps) < 0.2, "the loop stood still while the thread waited for the lock"
    await eventually(lambda: kept.problem is None)
    await kept.store_event(samples.event(2))
    assert [one.id for one in await kept.recent_events(5)] == [2]
    assert statuses(sqlite(file)) == {"madre": "OK"}


async def test_a_lock_that_comes_later_is_found_out_and_outlived(file: Path, recorder_on: RecorderOn) -> None:
    kept = recorder_on(sqlite(file))
    await kept.start()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await kept.store_event(samples.event(1))
        assert kept.problem is not None
        other.execute("ROLLBACK")
    await eventually(lambda: kept.problem is None)
    await kept.store_event(samples.event(2))
    assert [one.id for one in await kept.recent_events(5)] == [2]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="tlstore"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def not_root() -> Iterator[None]:
    """File modes hold for root only while it is somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_read_only_file_is_named_and_taken_up_when_it_may_be_written(
    open_folder: Path, recorder_on: RecorderOn
) -> None:
    file = open_folder / "fleet.db"
    migrate.upgrade(sqlite(file))
    file.chmod(0o444)
    kept = recorder_on(sqlite(file))
    with not_root():
        await kept.start()
        assert kept.problem == "The database file fleet.db is read-only."
        with pytest.raises(StoreUnavailable, match="read-only"):
            await kept.store_event(samples.event(1))
    file.chmod(0o644)
    await eventually(lambda: kept.problem is None)
    await kept.store_event(samples.event(2))


async def test_a_dropped_table_is_named_and_taken_up_again(url: str, recorder_on: RecorderOn) -> None:
    kept = recorder_on(url)
    await kept.start()
    await kept.store_event(samples.event(1))
    migrate.downgrade(url, "base")
    await eventually(lambda: kept.problem)
    assert kept.problem is not None
    assert "tentaculo db upgrade" in kept.problem
    migrate.upgrade(url)
    await eventually(lambda: kept.problem is None)
    await kept.store_event(samples.event(2))
    assert [one.id for one in await kept.recent_events(5)] == [2]


async def test_a_deleted_file_is_found_out_though_sqlite_would_write_on(file: Path, recorder_on: RecorderOn) -> None:
    kept = recorder_on(sqlite(file))
    await kept.start()
    await kept.store_event(samples.event(1))
    for part in file.parent.glob("fleet.db*"):
        part.unlink()
    with pytest.raises(StoreUnavailable, match=r"moved, replaced or deleted|does not exist"):
        await kept.store_event(samples.event(2))
    await asyncio.to_thread(migrate.upgrade, sqlite(file))
    await eventually(lambda: kept.problem is None)
    await kept.store_event(samples.event(3))
    assert [one.id for one in await kept.recent_events(5)] == [3]


async def test_a_full_disk_is_named_and_outlived(file: Path, recorder_on: RecorderOn) -> None:
    pages = [24]

    def bound(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages[0]}")

    event.listen(Engine, "connect", bound)
    try:
        kept = recorder_on(sqlite(file))
        await kept.start()
        large = {"text": "x" * 60_000}
        storing = [kept.store_event(samples.event(number, payload=large)) for number in range(10)]
        ended = await asyncio.gather(*storing, return_exceptions=True)
        assert any(isinstance(error, StoreUnavailable) and "disk is full" in str(error.detail) for error in ended)
        assert kept.problem == "The database file fleet.db cannot grow: the disk is full."
        pages[0] = 10_000
        await eventually(lambda: kept.problem is None)
        await kept.store_event(samples.event(100, payload=large))
    finally:
        event.remove(Engine, "connect", bound)


async def test_what_is_no_database_is_named_and_left_as_it_is(tmp_path: Path, recorder_on: RecorderOn) -> None:
    file = tmp_path / "notes.db"
    file.write_bytes(b"not a database at all, but long enough to have a header of its own" * 20)
    before = file.read_bytes()
    kept = recorder_on(sqlite(file))
    await kept.start()
    assert kept.problem == "The database file notes.db is not a SQLite database."
    await kept.close()
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("fleet.db", "The database address is not one that the gateway knows: use sqlite:/// or postgresql://."),
        ("mongodb://ana:geheim@db/fleet", "The database address is not one that the gateway knows"),
        ("sqlite://", "The database lacks the gateway's tables: run `tentaculo db upgrade`."),
        ("postgresql://ana:geheim@127.0.0.1:1/fleet", "The database server cannot be reached."),
        ("postgresql://ana:geheim@nowhere.invalid/fleet", "The database server cannot be reached."),
    ],
)
async def test_an_address_that_leads_nowhere_is_named_without_its_secrets(
    url: str, problem: str, recorder_on: RecorderOn
) -> None:
    kept = recorder_on(url)
    await kept.start()
    await eventually(lambda: kept.problem)
    assert kept.problem is not None
    assert kept.problem.startswith(problem)
    assert "geheim" not in repr(kept) + kept.problem
    kept.record_services([view()])
    with pytest.raises(StoreUnavailable):
        await kept.store_event(samples.event(1))


async def test_a_server_that_ends_the_session_is_taken_up_again(postgresql: Server, recorder_on: RecorderOn) -> None:
    with postgresql.database() as url:
        migrate.upgrade(url)
        kept = recorder_on(url)
        await kept.start()
        await kept.store_event(samples.event(1))
        name = make_url(url).database
        postgresql.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        await eventually(lambda: kept.problem)
        await eventually(lambda: kept.problem is None)
        await kept.store_event(samples.event(2))
        assert len(await kept.recent_events(5)) == 2
        await kept.close()


async def test_a_server_that_refuses_the_database_is_named(postgresql: Server, recorder_on: RecorderOn) -> None:
    kept = recorder_on(postgresql.url("nobody_made_this"))
    await kept.start()
    # The driver sometimes sees the server hang up before it reads why.
    await eventually(lambda: kept.problem == "PostgreSQL has no database of the configured name.")


async def test_who_waits_too_long_is_told_so_and_the_event_is_not_stored(
    file: Path, recorder_on: RecorderOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "STORE_WAIT", 0.05)
    monkeypatch.setattr(recorder, "READ_WAIT", 0.05)
    monkeypatch.setattr(recorder, "OPEN_WAIT", 0.05)
    monkeypatch.setattr("tentaculo.store.database.LOCK_WAIT", 1.0)
    kept = recorder_on(sqlite(file))
    with locked(file):
        await kept.start()
        with pytest.raises(StoreUnavailable, match="in time"):
            await kept.store_event(samples.event(1))
        with pytest.raises(StoreUnavailable, match="in time"):
            await kept.recent_events(1)
    monkeypatch.setattr(recorder, "STORE_WAIT", 5)
    monkeypatch.setattr(recorder, "READ_WAIT", 5)
    await eventually(lambda: kept.problem is None)
    await kept.store_event(samples.event(2))
    assert [one.id for one in await kept.recent_events(5)] == [2]
    assert kept.dropped == 1


async def test_the_journal_of_our_own_file_is_switched_and_of_another_product_s_is_not(
    tmp_path: Path, recorder_on: RecorderOn
) -> None:
    modes = {}
    for name, foreign in (("ours", False), ("theirs", True)):
        file = tmp_path / f"{name}.db"
        if foreign:
            with opened(sqlite(file)) as connection:
                make_foreign(connection, 2)
        migrate.upgrade(sqlite(file))
        kept = recorder_on(sqlite(file))
        await kept.start()
        await kept.store_event(samples.event(1))
        await kept.close()
        with closing(sqlite3.connect(file)) as connection_:
            modes[name] = connection_.execute("PRAGMA journal_mode").fetchone()[0]
    assert modes == {"ours": "wal", "theirs": "delete"}


async def test_starting_and_closing_without_use_leaves_nothing(file: Path, recorder_on: RecorderOn) -> None:
    before = len(os.listdir("/proc/self/fd"))
    kept = recorder_on(sqlite(file))
    await kept.close()
    kept = recorder_on(sqlite(file))
    await kept.start()
    await kept.close()
    await kept.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert repr(kept) == "<Recorder: well, <Inbox: 0 events, 0 reads, 0 services>, 0 dropped>"
