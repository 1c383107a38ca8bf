"""The log that a search is measured in."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import func, select

from bench.load.fill_log import fill
from tentaculo.model.event import EventFilter
from tentaculo.store import event_blocks, tables
from tentaculo.store.event_queries import read_events
from tentaculo.store.events import name_log
from tests.support.databases import sqlite
from tests.support.runtime_tables import opened


def test_it_has_its_events_and_its_index(file: Path) -> None:
    with opened(sqlite(file)) as connection:
        name_log(connection, "here", ("", 0))
    rows = 2 * event_blocks.MOST_ROWS + 10
    assert fill(file, rows)["seconds"] > 0
    with opened(sqlite(file)) as connection:
        assert connection.scalar(select(func.count()).select_from(tables.events)) == rows
        assert connection.scalar(select(func.count()).select_from(tables.event_blocks)) == 2
        found = read_events(connection, EventFilter(text="warehouse"), limit=3).events
        assert [one.type for one in found] == ["order.placed"] * 3
