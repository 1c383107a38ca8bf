"""Databases for tests, of both kinds: empty ones, and migrated ones that are copies of one template."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tentaculo.model.event import StoredEvent
from tentaculo.store import migrate
from tentaculo.store.database import Database
from tentaculo.store.events import EventRow
from tests.support.postgresql import Server
from tests.support.runtime_tables import SERVICES, opened, rows_of


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database. For SQLite the file does not exist yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'fleet.db'}"
    else:
        server: Server = request.getfixturevalue("postgresql")
        with server.database() as url:
            yield url


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy from. No test may open it."""
    path = tmp_path_factory.mktemp("template") / "fleet.db"
    migrate.upgrade(f"sqlite:///{path}")
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "the file alone is the whole database"
    return path


@pytest.fixture
def file(tmp_path: Path, migrated_file: Path) -> Path:
    """A migrated SQLite file."""
    return Path(shutil.copyfile(migrated_file, tmp_path / "fleet.db"))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a migrated database."""
    if request.param == "sqlite":
        yield f"sqlite:///{request.getfixturevalue('file')}"
    else:
        server: Server = request.getfixturevalue("postgresql")
        with server.database(server.template("migrated", migrate.upgrade)) as url:
            yield url


def sqlite(file: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{file}"


def statuses(url: str) -> dict[str, str]:
    """Service name → status in the runtime table."""
    with opened(url) as connection:
        return {row["service_name"]: row["status"] for row in rows_of(connection, SERVICES)}


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


@contextmanager
def locked(file: Path) -> Iterator[sqlite3.Connection]:
    """Another process's lock on the file, against readers too."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        yield other


@contextmanager
def commits() -> Iterator[list[int]]:
    """The number of events in each transaction of this process that stores some."""
    found: list[int] = []
    append = Database.append_events

    def note(database: Database, rows: Sequence[EventRow]) -> list[StoredEvent]:
        found.append(len(rows))
        return append(database, rows)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Database, "append_events", note)
        yield found
