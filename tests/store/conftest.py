"""Migrated databases of each kind, and a recorder on one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tentaculo.store import database, migrate, worker_thread
from tentaculo.store.client import StoreClient
from tests.support.postgresql import Server, running_server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database; for SQLite not even a file."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'fleet.db'}"
    else:
        server: Server = request.getfixturevalue("postgresql")
        with server.database() as address:
            yield address


@pytest.fixture
def url(empty_url: str) -> str:
    """A migrated database of each kind."""
    migrate.upgrade(empty_url)
    return empty_url


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A migrated SQLite file."""
    path = tmp_path / "fleet.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits as short as a test can bear."""
    monkeypatch.setattr(database, "LOCK_WAIT", 0.2)
    monkeypatch.setattr(worker_thread, "FIRST_RETRY", 0.02)
    monkeypatch.setattr(worker_thread, "LAST_RETRY", 0.05)
    monkeypatch.setattr(worker_thread, "CHECK_EVERY", 0.1)


@pytest.fixture
async def recorder_on() -> AsyncIterator[Callable[..., StoreClient]]:
    """Makes recorders, and closes them afterwards."""
    made: list[StoreClient] = []

    def make(url: str, **limits: Any) -> StoreClient:
        made.append(StoreClient(url, **limits))
        return made[-1]

    yield make
    for recorder in made:
        await recorder.close()


async def eventually(is_so: Callable[[], object], within: float = 10) -> None:
    """Wait until `is_so()`, at most `within` seconds."""
    deadline = monotonic() + within
    while not is_so():
        assert monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)
