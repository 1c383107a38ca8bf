"""How the databases find events: in the order of ids, whatever they believe about the log, and whatever the filter."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from tentaculo.model.event import MAX_EVENT_ID, MOST_LED, EventFilter, FoundEvents
from tentaculo.store import event_queries
from tentaculo.store.event_blocks import Span
from tentaculo.store.event_queries import read_events
from tentaculo.store.events import run_by_driver
from tests.support.runtime_tables import opened
from tests.support.store_samples import NOW

ROWS = 20_000
LOOK = 97
SQLITE_ROWS = f"WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < {ROWS})"
POSTGRESQL_ROWS = f"WITH g(i) AS (SELECT generate_series(1, {ROWS}))"
FILL = """INSERT INTO tentaculo_events (id, source, type, payload, metadata, canonical, broadcast, received_at, size, severity)
    {} SELECT i, 's', 't', '{{}}', '{{}}', {false}, {false}, '2026-01-02 03:04:05', 100, 'info' FROM g"""
"""Events that are all alike: statistics of them say that a filter selects everything, or nothing."""
VALUES = ((), ("none",), ("t", "s", "info", "none"), tuple(f"n{number}" for number in range(MOST_LED + 1)))
OTHERS: tuple[dict[str, Any], ...] = (
    {},
    {"text": "needle"},
    {"since": NOW - timedelta(days=1)},
    {"until": NOW},
    {"since": NOW - timedelta(days=1), "until": NOW},
    {"is_broadcast": True},
    {"not_source": "s"},
    {"about": ("a",), "correlation": "b"},
)
FILTERS = [
    EventFilter(types=types, sources=sources, severities=severities, **others)
    for types, sources, severities, others in itertools.product(VALUES, VALUES, VALUES, OTHERS)
]
"""Every combination."""


@pytest.fixture(params=["no statistics", "statistics", "old statistics"])
def log(url: str, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A log of which the database has no statistics, right ones, or those of a log that was quite different."""
    with opened(url) as connection:
        is_sqlite = connection.dialect.name == "sqlite"
        fill = FILL.format(SQLITE_ROWS if is_sqlite else POSTGRESQL_ROWS, false="0" if is_sqlite else "false")
        if request.param == "old statistics":
            connection.execute(text(fill.replace("'t', ", "'t' || i, ").replace("'info'", "'x' || i")))
            connection.execute(text("ANALYZE"))
            connection.execute(text("DELETE FROM tentaculo_events"))
        connection.execute(text(fill))
        if request.param == "statistics":
            connection.execute(text("ANALYZE"))
    with opened(url) as connection:
        yield connection


def plans(connection: Connection, wanted: EventFilter, *, newest_first: bool) -> Iterator[str]:
    """How the database finds what each index leads to."""
    search = event_queries._Search(connection, wanted, 10, newest_first=newest_first)
    explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN (COSTS OFF)"
    for lead in search._leads or (None,):
        query = search._ordered(Span(0, MAX_EVENT_ID), lead).limit(1000)
        statement = str(query.compile(connection, compile_kwargs={"literal_binds": True})).replace("%%", "%")
        found = run_by_driver(connection, f"{explain} {statement}").fetchall()
        yield " ".join(str(row[-1]) for row in found)


def index_of(wanted: EventFilter) -> str:
    for name, values in (("type", wanted.types), ("severity", wanted.severities), ("source", wanted.sources)):
        if 0 < len(values) <= MOST_LED:
            return f"ix_tentaculo_events_{name}_id"
    return "KEY"


@pytest.mark.thorough
@pytest.mark.parametrize("newest_first", [True, False])
def test_no_filter_has_rows_sorted_or_all_of_them_read(log: Connection, newest_first: bool) -> None:
    """A row that is found comes at once only where an index gives the order of the ids."""
    if log.dialect.name == "postgresql":
        run_by_driver(log, event_queries._ONLY_INDEXES)
    for wanted in FILTERS:
        for plan in plans(log, wanted, newest_first=newest_first):
            assert not any(word in plan for word in ("Sort", "Seq", "Bitmap", "Gather", "SCAN", "TEMP")), (wanted, plan)
            assert index_of(wanted).lower() in plan.replace("pkey", "key").lower(), (wanted, plan)
            if "KEY" not in index_of(wanted):
                # Both columns of the index count, so that it leads to these ids only.
                assert "id>?" in plan or "ROW(" in plan, (wanted, plan)


@pytest.mark.thorough
def test_every_step_of_every_filter_gets_on(log: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_queries, "LOOK_EVERY", LOOK)
    monkeypatch.setattr(event_queries, "SEARCH_SECONDS", 0)
    for wanted in FILTERS[:: 1 if log.dialect.name == "sqlite" else 5]:
        after = 5 * LOOK
        for _ in range(3):
            found: FoundEvents = read_events(log, wanted, after=after, before=ROWS + 1, limit=10)
            reached = found.reached if found.reached is not None or len(found.events) < 10 else found.events[-1].id
            assert reached is None or reached - after == (10 if found.events else LOOK), (wanted, found.reached)
            if reached is None:
                break
            after = reached
