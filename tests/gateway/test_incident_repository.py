"""What the repository of incidents and maintenance windows stores, with a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from tentaculo.config.schema import Config
from tentaculo.gateway.alert_channels import AlertChannels
from tentaculo.gateway.incident_repository import IncidentRepository
from tentaculo.health.steady_clock import SteadyClock
from tentaculo.incidents.availability import MaintenanceCalendar
from tentaculo.incidents.tracker import IncidentTracker
from tentaculo.model.incident import MaintenanceWindow
from tentaculo.store import incidents
from tentaculo.store.client import StoreClient
from tests.support.databases import sqlite

CONFIG = Config.of({"services": {"hermes": {"url": "http://127.0.0.1:1"}}})
STEP = timedelta(hours=2)
"""By how much the system clock is set."""


@pytest.fixture
async def store_client(file: Path) -> AsyncIterator[StoreClient]:
    client = StoreClient(sqlite(file))
    await client.start()
    yield client
    await client.close()


@pytest.fixture
def repository(store_client: StoreClient) -> IncidentRepository:
    return IncidentRepository(
        CONFIG,
        store_client,
        IncidentTracker(settle=60),
        MaintenanceCalendar((), CONFIG.services),
        channels=AlertChannels(CONFIG, store_client, dict),
        on_windows=lambda: None,
        clock=SteadyClock(),
    )


async def an_hour_from_now(repository: IncidentRepository) -> MaintenanceWindow:
    now = datetime.now(UTC)
    window = MaintenanceWindow(("hermes",), now, now + timedelta(hours=1), "a new disk", is_from_now=True)
    return await repository.add_window(window)


async def stored(store_client: StoreClient) -> list[tuple[datetime, datetime]]:
    after = datetime.now(UTC) - timedelta(days=1)
    found = await store_client.run(partial(incidents.windows, after=after, limit=9))
    return [(one.starts_at, one.ends_at) for one in found]


async def test_a_window_that_is_ended_before_its_move_is_stored_stays_ended(
    repository: IncidentRepository, store_client: StoreClient
) -> None:
    window = await an_hour_from_now(repository)
    assert window.id is not None
    repository.correct(lambda moment: moment + STEP)
    ended = await repository.end_window(window.id)
    assert ended is not None
    await repository.store_moved()
    assert await stored(store_client) == [(ended.starts_at, ended.ends_at)]


async def test_a_window_that_another_process_has_ended_is_not_moved(
    repository: IncidentRepository, store_client: StoreClient
) -> None:
    window = await an_hour_from_now(repository)
    assert window.id is not None
    ended = await store_client.run(partial(incidents.end_window, number=window.id, now=datetime.now(UTC)))
    for _ in range(2):
        repository.correct(lambda moment: moment + STEP)
        await repository.store_moved()
    assert await stored(store_client) == [(ended.starts_at, ended.ends_at)]


async def test_a_clock_that_is_set_twice_moves_a_window_twice(
    repository: IncidentRepository, store_client: StoreClient
) -> None:
    window = await an_hour_from_now(repository)
    repository.correct(lambda moment: moment + STEP)
    repository.correct(lambda moment: moment + STEP)
    await repository.store_moved()
    repository.correct(lambda moment: moment - STEP)
    await repository.store_moved()
    assert await stored(store_client) == [(window.starts_at + STEP, window.ends_at + STEP)]
