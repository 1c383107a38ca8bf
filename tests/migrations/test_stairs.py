"""Step by step up and down again, with rows in every table: each revision takes back exactly what it brought."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert, inspect, select, text

from tentaculo.model.event import EventFilter
from tentaculo.model.health import Health
from tentaculo.model.history import HOUR, Period, Tally
from tentaculo.store import migrate, tables
from tentaculo.store.database import write_services
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.event_queries import read_events
from tentaculo.store.events import event_row, insert_events
from tentaculo.store.history import add_history, history_row
from tentaculo.store.tables import VERSION_TABLE
from tests.migrations.test_shapes import make, table_names
from tests.support.runtime_tables import OURS, SERVICES, SHAPES, opened, snapshot
from tests.support.store_samples import event, view

FIRST_COLUMNS = ("id", "source", "type", "payload", "metadata", "canonical", "broadcast", "received_at")
"""Those that the first revision gave to events."""
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def everything(url: str) -> dict[str, Any]:
    """Columns, indexes and rows of every table, ours included."""
    found: dict[str, Any] = {}
    with opened(url) as connection:
        inspector = inspect(connection)
        columns, indexes = inspector.get_multi_columns(), inspector.get_multi_indexes()
        for name in sorted(set(inspector.get_table_names()) - {VERSION_TABLE}):
            described = [{**column, "type": str(column["type"])} for column in columns[None, name]]
            rows = sorted(repr(tuple(row)) for row in connection.execute(text(f'SELECT * FROM "{name}"')))
            options = [
                {key: str(one) for key, one in index["dialect_options"].items()} for index in indexes[None, name]
            ]
            listed = [
                str({**index, "dialect_options": one}) for index, one in zip(indexes[None, name], options, strict=True)
            ]
            found[name] = (described, sorted(listed), rows)
    return found


@pytest.mark.parametrize("start", ["none", *SHAPES])
def test_every_step_down_leads_to_what_was_there_on_the_way_up(url: str, start: str) -> None:
    make(url, start)
    seen = []
    for revision in migrate.revisions():
        migrate.upgrade(url, revision.name)
        seen.append((revision.name, everything(url)))
    for name, before in reversed(seen):
        migrate.downgrade(url, name)
        assert everything(url) == before
        assert migrate.current(url) == name


def test_who_has_used_it_since_the_first_revision_loses_nothing_on_the_way_to_the_last_and_back(url: str) -> None:
    make(url, "c")
    first = migrate.revisions()[0].name
    migrate.upgrade(url, first)
    with opened(url) as connection:
        for number in (1, 2):
            row = event_row(event(number))._asdict() | {"received_at": tables.naive_utc(event(number).received_at)}
            row = {name: row[name] for name in FIRST_COLUMNS}
            connection.execute(insert(tables.events), row)
    write_services(url, [view("madre"), view("mcp", Health.DOWN)], NOW)
    before = everything(url)
    migrate.upgrade(url)
    with opened(url) as connection:
        add_history(connection, [history_row(Period("madre", HOUR, 0, Tally(1, 1)))])
    migrate.check(url)
    after = everything(url)
    extended = {"tentaculo_schema_notes", "tentaculo_events"}
    assert {name: after[name] for name in before.keys() - extended} == {
        name: kept for name, kept in before.items() if name not in extended
    }
    with opened(url) as connection:
        assert read_events(connection, EventFilter(), limit=5, newest_first=True).events == [event(2), event(1)]
    migrate.downgrade(url, first)
    assert everything(url) == before


def test_a_size_that_another_version_counted_is_forgotten(url: str) -> None:
    migrate.upgrade(url, "0025")
    with opened(url) as connection:
        connection.execute(insert(tables.event_sequence).values(id=1, last_id=7))
    for step, to in ((migrate.upgrade, "head"), (migrate.downgrade, "0025")):
        with opened(url) as connection:
            connection.execute(tables.event_sequence.update().values(total_bytes=5))
        step(url, to)
        with opened(url) as connection:
            (kept,) = connection.execute(select(tables.event_sequence))
        assert (kept.last_id, kept.total_bytes) == (7, None)


def test_a_downgrade_takes_our_rows_and_no_others(url: str) -> None:
    make(url, "c")
    before = snapshot(url)
    migrate.upgrade(url)
    with opened(url) as connection:
        insert_events(connection, [event_row(event(1))])
        add_history(connection, [history_row(Period("madre", HOUR, 0, Tally(1, 1)))])
    write_services(url, [view("newcomer")], NOW)
    migrate.downgrade(url, "base")
    after = snapshot(url)
    # The row that was written into the adopted table is that table's now.
    (added,) = (row for row in after[SERVICES]["rows"] if row not in before[SERVICES]["rows"])
    assert added["service_name"] == "newcomer"
    after[SERVICES]["rows"].remove(added)
    after.pop("sequences", None), before.pop("sequences", None)  # it took a number
    assert after == before


@pytest.mark.parametrize("name", sorted(OURS - {VERSION_TABLE, "tentaculo_schema_notes"}))
def test_a_table_of_another_hand_under_our_name_stops_everything_and_nothing_is_changed(url: str, name: str) -> None:
    make(url, "a")
    with opened(url) as connection:
        connection.exec_driver_sql(f"CREATE TABLE {name} (theirs INTEGER)")
        connection.exec_driver_sql(f"INSERT INTO {name} VALUES (7)")
    before = everything(url)
    with pytest.raises(StoreUnavailable):
        migrate.upgrade(url)
    # All revisions are one transaction: those before the one that failed are undone with it.
    assert everything(url) == before
    assert migrate.current(url) is None


def test_what_the_models_say_is_what_the_revisions_made(url: str) -> None:
    """`alembic check` does not look at everything: a key, a table without rowids."""

    def definitions() -> dict[str, Any]:
        found = {name: (columns, indexes) for name, (columns, indexes, _) in everything(url).items()}
        with opened(url) as connection:
            if connection.dialect.name != "sqlite":
                keys = inspect(connection).get_multi_pk_constraint()
                return {**found, "keys": {name: key for name, key in keys.items() if name[1] != VERSION_TABLE}}
            stated = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
            return {**found, "stated": {name: sql.split() for name, sql in stated if name != VERSION_TABLE}}

    migrate.upgrade(url)
    made = definitions()
    if "stated" in made:
        assert made["stated"]["tentaculo_history"][-2:] == ["WITHOUT", "ROWID"]
    migrate.downgrade(url, "base")
    with opened(url) as connection:
        tables.metadata.create_all(connection)
    assert definitions() == made


def test_names_of_ours_are_all_told_apart_from_theirs(url: str) -> None:
    migrate.upgrade(url)
    assert table_names(url) == OURS | {SERVICES}
    assert {name for name in OURS if not name.startswith("tentaculo_")} == set()
