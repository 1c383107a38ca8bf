"""The store_client on databases that are missing, locked, full, read-only, deleted, or somebody else's."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest
import structlog
from sqlalchemy import Engine, event, make_url

from tentaculo.model.health import Health
from tentaculo.store import client, database, migrate, tables, worker_thread
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.sqlite_file import LOG_LIMIT
from tentaculo.store.work_queue import WorkQueue
from tests.support import store_samples
from tests.support.databases import locked, not_root, sqlite, statuses
from tests.support.postgresql import Server
from tests.support.runtime_tables import make_foreign, opened
from tests.support.store_samples import view
from tests.support.waits import eventually

StoreClientOn = Callable[..., StoreClient]


async def test_a_missing_folder_is_named_and_the_database_taken_up_when_it_is_there(
    tmp_path: Path, store_client_on: StoreClientOn
) -> None:
    file = tmp_path / "missing" / "fleet.db"
    kept = store_client_on(sqlite(file))
    await kept.start()
    assert kept.problem == "The database file fleet.db does not exist: `tentaculo db upgrade` makes it."
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await store_samples.store(kept, store_samples.event(1))
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await store_samples.newest_events(kept, 1)
    kept.record_services([view("madre", Health.DOWN)])
    kept.record_services([view("madre")])
    assert not file.parent.exists()
    assert kept.dropped == 2
    await asyncio.to_thread(migrate.upgrade, sqlite(file))
    await eventually(lambda: kept.problem is None)
    await store_samples.store(kept, store_samples.event(2))
    assert statuses(sqlite(file)) == {"madre": "OK"}


async def test_an_event_that_comes_between_two_attempts_does_not_wait_for_the_next_one(
    file: Path, store_client_on: StoreClientOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_thread, "FIRST_RETRY", 3600)
    aside = file.with_name("aside.db")
    file.rename(aside)
    kept = store_client_on(sqlite(file), event_wait=20)
    await kept.start()
    assert kept.problem is not None
    aside.rename(file)
    assert await store_samples.store(kept, store_samples.event(1)) == 1


async def test_a_database_that_is_not_migrated_says_what_to_do(empty_url: str, store_client_on: StoreClientOn) -> None:
    with opened(empty_url) as connection:
        make_foreign(connection, 2)
    kept = store_client_on(empty_url)
    await kept.start()
    assert kept.problem is not None
    assert "tentaculo db upgrade" in kept.problem
    await asyncio.to_thread(migrate.upgrade, empty_url)
    await eventually(lambda: kept.problem is None)
    await store_samples.store(kept, store_samples.event(1))


@pytest.mark.thorough
async def test_a_locked_file_costs_history_and_never_the_loop(file: Path, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(sqlite(file))
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
        for _ in range(4):
            kept.record_services([view("madre")])
            with pytest.raises(StoreUnavailable, match="locked"):
                await store_samples.store(kept, store_samples.event(1))
        await eventually(lambda: len(gaps) > 60)
        ticking.cancel()
        assert max(gaps) < 0.2, "the loop stood still while the thread waited for the lock"
    await eventually(lambda: kept.problem is None)
    await store_samples.store(kept, store_samples.event(2))
    assert [one.id for one in await store_samples.newest_events(kept, 5)] == [2]
    assert statuses(sqlite(file)) == {"madre": "OK"}


async def test_a_lock_that_comes_later_is_found_out_and_outlived(file: Path, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(sqlite(file))
    await kept.start()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await store_samples.store(kept, store_samples.event(1))
        assert kept.problem is not None
        other.execute("ROLLBACK")
    await eventually(lambda: kept.problem is None)
    await store_samples.store(kept, store_samples.event(2))
    assert [one.id for one in await store_samples.newest_events(kept, 5)] == [2]


ODD = {
    "without UNIQUE": [
        "CREATE TABLE copilot_runtime_services (id INTEGER PRIMARY KEY, service_name TEXT, port INTEGER, status TEXT)"
    ],
    "a view": [
        "CREATE TABLE t (id INTEGER, service_name TEXT UNIQUE, status TEXT)",
        "CREATE VIEW copilot_runtime_services AS SELECT * FROM t",
    ],
    "with capital letters": ["CREATE TABLE Copilot_Runtime_Services (id INTEGER PRIMARY KEY, service_name TEXT)"],
    "without a name": ["CREATE TABLE copilot_runtime_services (id INTEGER PRIMARY KEY, status TEXT)"],
    "with a condition": [
        "CREATE TABLE copilot_runtime_services (id INTEGER PRIMARY KEY, service_name TEXT)",
        "CREATE UNIQUE INDEX ix_some ON copilot_runtime_services (service_name) WHERE id > 7",
    ],
}


@pytest.mark.thorough
@pytest.mark.parametrize("statements", ODD.values(), ids=ODD)
async def test_a_table_of_services_of_another_shape_costs_its_rows_only(
    empty_url: str, store_client_on: StoreClientOn, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tentaculo.store.database.SERVICES_RETRY", 0.0)
    with opened(empty_url) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    migrate.upgrade(empty_url)
    kept = store_client_on(empty_url)
    await kept.start()
    kept.record_services([view("madre"), view("hermes")])
    await eventually(lambda: kept.dropped == 2)
    assert await store_samples.store(kept, store_samples.event(1)) == 1
    assert kept.problem is None
    assert kept.services_problem is not None
    assert kept.services_problem.endswith(".")
    assert "copilot_runtime_services" in kept.services_problem
    with opened(empty_url) as connection:
        kind = "VIEW" if "view" in kept.services_problem else "TABLE"
        connection.exec_driver_sql(f"DROP {kind} copilot_runtime_services")
        tables.services.create(connection)
    kept.record_services([view("madre")])
    await eventually(lambda: statuses(empty_url) == {"madre": "OK"})
    # The client learns of it behind the row.
    await eventually(lambda: kept.services_problem is None)


async def test_a_table_of_services_that_refuses_every_write_costs_its_rows_only(
    file: Path, store_client_on: StoreClientOn
) -> None:
    kept = store_client_on(sqlite(file))
    await kept.start()
    with opened(sqlite(file)) as connection:
        connection.exec_driver_sql("DROP TABLE copilot_runtime_services")
        connection.exec_driver_sql("CREATE VIEW copilot_runtime_services AS SELECT 1 AS id, 'x' AS service_name")
    kept.record_services([view("madre")])
    await eventually(lambda: kept.services_problem)
    assert await store_samples.store(kept, store_samples.event(1)) == 1
    assert kept.problem is None


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="tlstore"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


async def test_a_read_only_file_is_named_and_taken_up_when_it_may_be_written(
    open_folder: Path, store_client_on: StoreClientOn
) -> None:
    file = open_folder / "fleet.db"
    migrate.upgrade(sqlite(file))
    file.chmod(0o444)
    kept = store_client_on(sqlite(file))
    with not_root():
        await kept.start()
        assert kept.problem == "The database file fleet.db is read-only."
        with pytest.raises(StoreUnavailable, match="read-only"):
            await store_samples.store(kept, store_samples.event(1))
    file.chmod(0o644)
    await eventually(lambda: kept.problem is None)
    await store_samples.store(kept, store_samples.event(2))


async def test_a_dropped_table_is_named_and_taken_up_again(url: str, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(url)
    await kept.start()
    await store_samples.store(kept, store_samples.event(1))
    migrate.downgrade(url, "base")
    # While they are dropped they may be locked.
    await eventually(lambda: "tentaculo db upgrade" in (kept.problem or ""))
    migrate.upgrade(url)
    await eventually(lambda: kept.problem is None)
    await store_samples.store(kept, store_samples.event(2))
    assert [one.id for one in await store_samples.newest_events(kept, 5)] == [2]


async def test_a_deleted_file_is_found_out_though_sqlite_would_write_on(
    file: Path, store_client_on: StoreClientOn
) -> None:
    kept = store_client_on(sqlite(file))
    await kept.start()
    await store_samples.store(kept, store_samples.event(1))
    for part in file.parent.glob("fleet.db*"):
        part.unlink()
    with pytest.raises(StoreUnavailable, match=r"moved, replaced or deleted|does not exist"):
        await store_samples.store(kept, store_samples.event(2))
    await asyncio.to_thread(migrate.upgrade, sqlite(file))
    await eventually(lambda: kept.problem is None)
    await store_samples.store(kept, store_samples.event(3))
    assert [one.id for one in await store_samples.newest_events(kept, 5)] == [3]


async def test_a_full_disk_is_named_and_outlived(file: Path, store_client_on: StoreClientOn) -> None:
    pages = [24]

    def bound(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages[0]}")

    event.listen(Engine, "connect", bound)
    try:
        kept = store_client_on(sqlite(file))
        await kept.start()
        large = {"text": "x" * 60_000}
        storing = [store_samples.store(kept, store_samples.event(number, payload=large)) for number in range(10)]
        ended = await asyncio.gather(*storing, return_exceptions=True)
        assert any(isinstance(error, StoreUnavailable) and "disk is full" in str(error.detail) for error in ended)
        assert kept.problem == "The database file fleet.db cannot grow: the disk is full."
        pages[0] = 10_000
        await eventually(lambda: kept.problem is None)
        await store_samples.store(kept, store_samples.event(100, payload=large))
    finally:
        event.remove(Engine, "connect", bound)


async def test_a_file_that_could_not_grow_is_used_again_when_the_disk_has_room(
    file: Path, store_client_on: StoreClientOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [24]

    def bound(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages[0]}")

    event.listen(Engine, "connect", bound)
    try:
        kept = store_client_on(sqlite(file))
        await kept.start()
        monkeypatch.setattr(database, "LEAST_FREE", 2**62)
        with pytest.raises(StoreUnavailable, match="disk is full"):
            await store_samples.store(kept, store_samples.event(1, payload={"text": "x" * 600_000}))
        pages[0] = 10_000
        attempts, asked = 0, shutil.disk_usage

        def counted(folder: Path) -> object:
            nonlocal attempts
            attempts += 1
            return asked(folder)

        monkeypatch.setattr(shutil, "disk_usage", counted)
        # A small write would fit at any time; the loss would then be announced again and again.
        await eventually(lambda: attempts > 3)
        assert kept.problem == "The database file fleet.db cannot grow: the disk is full."
        monkeypatch.setattr(database, "LEAST_FREE", 0)
        await eventually(lambda: kept.problem is None)
        await store_samples.store(kept, store_samples.event(2))
    finally:
        event.remove(Engine, "connect", bound)


async def test_a_database_that_is_lost_again_and_again_is_retried_less_often(
    file: Path, store_client_on: StoreClientOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    pause = WorkQueue.pause

    def noted(queue: WorkQueue, seconds: float, with_events: float) -> None:
        pauses.append(seconds)
        pause(queue, 0, with_events)

    monkeypatch.setattr(WorkQueue, "pause", noted)
    monkeypatch.setattr(worker_thread, "FIRST_RETRY", 1.0)
    monkeypatch.setattr(worker_thread, "LAST_RETRY", 8.0)
    kept = store_client_on(sqlite(file))
    await kept.start()
    for _ in range(5):
        moved = file.rename(file.with_suffix(".moved"))
        await eventually(lambda: kept.problem)
        moved.rename(file)
        await eventually(lambda: kept.problem is None)
    assert sorted(pauses) == pauses
    assert pauses[0] == 1.0
    assert pauses[-1] == 8.0


async def test_a_row_that_is_refused_at_each_probe_is_logged_once(file: Path, store_client_on: StoreClientOn) -> None:
    with opened(sqlite(file)) as connection:
        connection.exec_driver_sql("CREATE UNIQUE INDEX ix_port ON copilot_runtime_services (port)")
    kept = store_client_on(sqlite(file))
    await kept.start()
    with structlog.testing.capture_logs() as logged:
        for number in range(1, 6):
            kept.record_services([view("a", port=1), view("b", port=1)])
            await eventually(lambda: kept.dropped >= number)  # noqa: B023 - called in this turn of the loop only
    assert [line["event"] for line in logged] == ["service row refused"]


async def test_what_is_no_database_is_named_and_left_as_it_is(tmp_path: Path, store_client_on: StoreClientOn) -> None:
    file = tmp_path / "notes.db"
    file.write_bytes(b"not a database at all, but long enough to have a header of its own" * 20)
    before = file.read_bytes()
    kept = store_client_on(sqlite(file))
    await kept.start()
    assert kept.problem == "The database file notes.db is not a SQLite database."
    await kept.close()
    assert file.read_bytes() == before


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("fleet.db", "The database address is not one that the gateway knows: use sqlite:/// or postgresql://."),
        ("mongodb://ana:geheim@db/fleet", "The database address is not one that the gateway knows"),
        ("sqlite://", "The database lacks the gateway's tables: `tentaculo db upgrade` makes them."),
        ("postgresql://ana:geheim@127.0.0.1:1/fleet", "The database server cannot be reached."),
        ("postgresql://ana:geheim@nowhere.invalid/fleet", "The database server cannot be reached."),
    ],
)
async def test_an_address_that_leads_nowhere_is_named_without_its_secrets(
    url: str, problem: str, store_client_on: StoreClientOn
) -> None:
    kept = store_client_on(url)
    await kept.start()
    await eventually(lambda: kept.problem)
    assert kept.problem is not None
    assert kept.problem.startswith(problem)
    assert "geheim" not in repr(kept) + kept.problem
    kept.record_services([view()])
    with pytest.raises(StoreUnavailable):
        await store_samples.store(kept, store_samples.event(1))


async def test_a_server_that_ends_the_session_is_taken_up_again(
    postgresql: Server, store_client_on: StoreClientOn, caplog: pytest.LogCaptureFixture
) -> None:
    with postgresql.database() as url:
        migrate.upgrade(url)
        kept = store_client_on(url, event_wait=20.0)
        await kept.start()
        await store_samples.store(kept, store_samples.event(1))
        name = make_url(url).database
        postgresql.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        await eventually(lambda: kept.problem)
        await eventually(lambda: kept.problem is None)
        await store_samples.store(kept, store_samples.event(2))
        assert len(await store_samples.newest_events(kept, 5)) == 2
        await kept.close()
    # Its driver cannot say goodbye to it, which the gateway's own line of the loss need not repeat with a traceback.
    assert [record.getMessage() for record in caplog.records if record.name.startswith("sqlalchemy")] == []


async def test_a_server_that_refuses_the_database_is_named(postgresql: Server, store_client_on: StoreClientOn) -> None:
    kept = store_client_on(postgresql.url("nobody_made_this"))
    await kept.start()
    # The driver sometimes sees the server hang up before it reads why.
    await eventually(lambda: kept.problem == "PostgreSQL has no database of the configured name.")


async def test_who_waits_too_long_is_told_so_and_the_event_is_not_stored(
    file: Path, store_client_on: StoreClientOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "STORE_WAIT", 0.05)
    monkeypatch.setattr(client, "READ_WAIT", 0.05)
    monkeypatch.setattr(client, "OPEN_WAIT", 0.05)
    monkeypatch.setattr("tentaculo.store.database.LOCK_WAIT", 1.0)
    kept = store_client_on(sqlite(file))
    with locked(file):
        await kept.start()
        with pytest.raises(StoreUnavailable, match="in time"):
            await store_samples.store(kept, store_samples.event(1))
        with pytest.raises(StoreUnavailable, match="in time"):
            await store_samples.newest_events(kept, 1)
    monkeypatch.setattr(client, "STORE_WAIT", 5)
    monkeypatch.setattr(client, "READ_WAIT", 5)
    await eventually(lambda: kept.problem is None)
    await store_samples.store(kept, store_samples.event(2))
    assert [one.id for one in await store_samples.newest_events(kept, 5)] == [2]
    assert kept.dropped == 1


@pytest.mark.parametrize("later", [0, 1], ids=["while nothing is written", "while events are written"])
async def test_the_write_ahead_log_is_cut_back_when_its_reader_has_gone(
    file: Path, store_client_on: StoreClientOn, later: int
) -> None:
    kept = store_client_on(sqlite(file))
    await kept.start()
    log = file.with_name("fleet.db-wal")
    large = {"text": "x" * 200_000}
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM tentaculo_events").fetchone() == (0,)
        for number in range(60):
            await store_samples.store(kept, store_samples.event(number + 1, payload=large))
        assert log.stat().st_size > 2 * LOG_LIMIT
    if later:
        # The first one finds the reader gone, the second one starts the log over.
        await store_samples.store(kept, store_samples.event(100))
        await store_samples.store(kept, store_samples.event(101))
    await eventually(lambda: log.stat().st_size <= LOG_LIMIT)
    assert kept.problem is None


async def test_many_events_that_find_no_database_are_refused_and_that_is_no_defect(
    tmp_path: Path, store_client_on: StoreClientOn, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = store_client_on(sqlite(tmp_path / "missing" / "fleet.db"), event_wait=0.05)
    await kept.start()
    many = [store_samples.event(number) for number in range(client.ROWS_AT_ONCE + 1)]
    before = kept.dropped
    with pytest.raises(StoreUnavailable):
        await kept.store_events(many)
    assert kept.dropped == before + len(many)
    assert "task failed" not in capsys.readouterr().out
