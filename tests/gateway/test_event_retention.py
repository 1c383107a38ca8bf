"""Which events the gateway has deleted or indexed, and when, on a real database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from tentaculo.config.schema import Config
from tentaculo.gateway import leading
from tentaculo.gateway.leading import index_events, trim_events
from tentaculo.model.health import GATEWAY_NAME
from tentaculo.store import database, event_blocks, tables
from tentaculo.store.client import StoreClient
from tentaculo.tasks import TaskGroup
from tests.support.runtime_tables import opened
from tests.support.store_samples import NOW, event, store
from tests.support.waits import eventually


def remaining(url: str) -> list[int]:
    with opened(url) as connection:
        return list(connection.scalars(select(tables.events.c.id).order_by(tables.events.c.id)))


def blocks(url: str) -> list[int]:
    with opened(url) as connection:
        return list(connection.scalars(select(tables.event_blocks.c.last_id).order_by(tables.event_blocks.c.last_id)))


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "TRIM_EVERY", 0.01)


async def test_the_age_counts_only_while_the_clock_is_steady(url: str) -> None:
    config = Config.of({"events": {"keep": 10}, "incidents": {"keep": 20}})
    client, tasks = StoreClient(url), TaskGroup("test")
    await client.start()
    for number, days, source in ((1, 30, GATEWAY_NAME), (2, 15, GATEWAY_NAME), (3, 15, "madre"), (4, 5, "madre")):
        await store(client, event(number, source=source, received_at=NOW - timedelta(days=days)))
    asked, steady = 0, False

    def is_steady() -> bool:
        nonlocal asked
        asked += 1
        return steady

    tasks.start(trim_events(lambda: config, client, is_steady, lambda: NOW), "trim")
    await eventually(lambda: asked > 5)
    assert remaining(url) == [1, 2, 3, 4]
    steady = True
    await eventually(lambda: remaining(url) == [2, 4], "what is too old is gone, an own event later than others")
    await tasks.close()
    await client.close()


async def test_the_skip_index_is_made_behind_the_log(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "INDEX_EVERY", 0.01)
    monkeypatch.setattr(leading, "INDEX_REST", 0.0)
    monkeypatch.setattr(event_blocks, "MOST_ROWS", 20)
    client, tasks = StoreClient(url, event_wait=20.0), TaskGroup("test")
    await client.start()
    tasks.start(index_events(client), "blocks")
    await client.store_events([event(number) for number in range(1, 51)])
    await eventually(lambda: blocks(url) == [20, 40])
    await client.store_events([event(number) for number in range(51, 61)])
    await eventually(lambda: blocks(url) == [20, 40, 60])
    await tasks.close()
    await client.close()


async def test_the_skip_index_waits_while_the_database_cannot_be_written(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leading, "INDEX_EVERY", 0.01)
    monkeypatch.setattr(event_blocks, "MOST_ROWS", 20)
    monkeypatch.setattr(database, "LOCK_WAIT", 0.05)
    url = f"sqlite:///{file}"
    client, tasks = StoreClient(url, event_wait=20.0), TaskGroup("test")
    await client.start()
    await client.store_events([event(number) for number in range(1, 31)])
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        task = tasks.start(index_events(client), "blocks")
        await eventually(lambda: client.problem, "a block could not be stored")
        assert not task.done()
    await eventually(lambda: blocks(url) == [20])
    await tasks.close()
    await client.close()
