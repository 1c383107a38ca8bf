"""A file of SQLite that can only be read is read, with the name of its log; nothing is taken for frozen that is written."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection
from sqlalchemy.exc import OperationalError

from tentaculo.model.event import EventFilter
from tentaculo.store import database, migrate
from tentaculo.store.client import StoreClient
from tentaculo.store.database import Database
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.sqlite_file import FrozenFile, open_file
from tests.support.databases import not_root
from tests.support.store_samples import event, newest_events, store, view
from tests.support.waits import eventually

StoreClientOn = Callable[..., StoreClient]


@pytest.fixture
async def stored(store_client_on: StoreClientOn) -> AsyncIterator[tuple[Path, str]]:
    """A file with the write-ahead log and one event that no process has open, and the name of its log."""
    folder = Path(tempfile.mkdtemp(prefix="tlfile"))
    file = folder / "fleet.db"
    migrate.upgrade(f"sqlite:///{file}")
    client = store_client_on(f"sqlite:///{file}")
    await client.start()
    await store(client, event(1, payload={"text": "needle"}))
    name = client.log_name()
    await client.close()
    yield file, name
    folder.chmod(0o755)
    shutil.rmtree(folder)


def freeze(file: Path) -> None:
    for one in file.parent.iterdir():
        one.chmod(0o444)
    file.parent.chmod(0o555)


async def test_a_file_in_a_read_only_folder_is_read(stored: tuple[Path, str], store_client_on: StoreClientOn) -> None:
    file, name = stored
    assert not file.with_name("fleet.db-wal").exists()
    freeze(file)
    client = store_client_on(f"sqlite:///{file}")
    with not_root():
        await client.start()
        assert client.problem == "The database file fleet.db is read-only."
        assert client.log_name() == name
        assert [one.id for one in await newest_events(client, 5)] == [1]
        assert [one.id for one in (await client.read_events(EventFilter(text="needle"), limit=5)).events] == [1]
        assert await client.last_event_id() == 1
        assert [one.id for one in await client.next_events(0, 5)] == [1]
        with pytest.raises(StoreUnavailable, match="read-only"):
            await store(client, event(2))
    file.parent.chmod(0o755)
    file.chmod(0o644)
    await eventually(lambda: client.problem is None)
    await store(client, event(2))
    assert client.log_name() == name
    assert [one.id for one in await newest_events(client, 5)] == [2, 1]


async def test_a_file_that_cannot_be_written_is_read_while_it_is_opened_again(
    stored: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = stored
    freeze(file)
    tried, seen = Database(f"sqlite:///{file}"), list[bool]()

    def connect(url: URL) -> Connection:
        seen.append(tried.is_readable)
        return connect_before(url)

    connect_before = database.connect
    monkeypatch.setattr(database, "connect", connect)
    for _ in range(2):
        with not_root(), pytest.raises(OperationalError):
            tried.ready()
        tried.close()
    assert seen == [False, True]


async def test_a_frozen_file_is_opened_again_once_another_process_writes_it(stored: tuple[Path, str]) -> None:
    file, _ = stored
    freeze(file)
    reader = Database(f"sqlite:///{file}", only_reads=True)
    with not_root():
        reader.ready()
        frozen = reader.driver_connection
        assert isinstance(frozen, FrozenFile)
        reader.ready()
        assert reader.driver_connection is frozen
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            frozen.execute("DELETE FROM tentaculo_events")
    file.parent.chmod(0o755)
    file.chmod(0o644)
    with closing(open_file(file, 0.1)) as writer:
        assert not isinstance(writer, FrozenFile)
        writer.execute("UPDATE tentaculo_events SET type = 'changed'")
        reader.ready()
        assert not isinstance(reader.driver_connection, FrozenFile)
    reader.close()


async def test_a_database_whose_lock_another_process_holds_is_read(file: Path, store_client_on: StoreClientOn) -> None:
    client = store_client_on(f"sqlite:///{file}")
    await client.start()
    await store(client, event(1))
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        client.record_services([view()])
        await eventually(lambda: client.problem, "the lock is noticed")
        assert [one.id for one in await newest_events(client, 5)] == [1]
        assert await client.last_event_id() == 1
    await eventually(lambda: client.problem is None)


async def test_a_file_that_is_gone_is_not_read(file: Path, store_client_on: StoreClientOn) -> None:
    client = store_client_on(f"sqlite:///{file}")
    await client.start()
    for part in file.parent.glob("fleet.db*"):
        part.unlink()
    await eventually(lambda: client.problem and "does not exist" in client.problem)
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await newest_events(client, 5)


def test_a_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="does not exist"):
        open_file(tmp_path / "none.db", 0.1)
    assert list(tmp_path.iterdir()) == []
