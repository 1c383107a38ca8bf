"""Short waits for the database thread, and store clients that are closed after the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tentaculo.store import database, worker_thread
from tentaculo.store.client import StoreClient


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits as short as a test can bear."""
    monkeypatch.setattr(database, "LOCK_WAIT", 0.2)
    monkeypatch.setattr(worker_thread, "FIRST_RETRY", 0.02)
    monkeypatch.setattr(worker_thread, "LAST_RETRY", 0.05)
    monkeypatch.setattr(worker_thread, "CHECK_EVERY", 0.1)


@pytest.fixture
async def store_client_on(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., StoreClient]]:
    """Makes store_clients, and closes them afterwards. `start()` waits for the database, however busy the machine is."""
    monkeypatch.setattr("tentaculo.store.client.OPEN_WAIT", 20.0)
    made: list[StoreClient] = []

    def make(url: str, **limits: Any) -> StoreClient:
        # A server that others of its tests keep busy may take a second for the first commit on a connection.
        wait = 0.5 if url.startswith("sqlite") else 3.0
        made.append(StoreClient(url, **{"event_wait": wait, **limits}))
        return made[-1]

    yield make
    for store_client in made:
        await store_client.close()
