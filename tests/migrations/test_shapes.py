"""Every shape of database that a migration may meet, on SQLite and PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, make_url, select

from tentaculo.store import migrate, tables
from tentaculo.store.database import write_services
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.runtime_table import RuntimeTable
from tests.support.runtime_tables import (
    OURS,
    SERVICES,
    SHAPES,
    columns_of,
    make_foreign,
    make_services,
    opened,
    rows_of,
    snapshot,
)
from tests.support.store_samples import NOW, view

START = ("none", "empty", "foreign", *SHAPES)


def make(url: str, start: str, *, foreign: bool = True) -> None:
    """Bring the empty database at `url` into its state before the migration."""
    if start == "none":
        return
    with opened(url) as connection:
        if start == "empty":
            connection.exec_driver_sql("CREATE TABLE gone (id INTEGER)")
            connection.exec_driver_sql("DROP TABLE gone")
            return
        if foreign:
            make_foreign(connection)
        if start in SHAPES:
            make_services(connection, start)


def table_names(url: str) -> set[str]:
    with opened(url) as connection:
        return set(inspect(connection).get_table_names())


def without_services(found: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in found.items() if name != SERVICES}
    if "statements" in kept:
        kept["statements"] = [row for row in kept["statements"] if row[1] != SERVICES]
    return kept


@pytest.mark.parametrize("start", START)
def test_upgrade_makes_or_adopts_and_changes_nothing_else(url: str, start: str) -> None:
    make(url, start)
    before = snapshot(url) if start != "none" else {}
    assert migrate.current(url) is None

    migrate.upgrade(url)
    migrate.check(url)

    assert migrate.current(url) == migrate.revisions()[-1].name
    assert table_names(url) >= {SERVICES, *OURS}
    after = snapshot(url)
    if start == "none":
        assert set(table_names(url)) == {SERVICES, *OURS}
        return
    # Their rows and definitions to the last character, and the journal mode of their file.
    assert without_services(after) == without_services(before)
    if start not in SHAPES:
        return
    old, new = before[SERVICES], after[SERVICES]
    assert new["columns"][: len(old["columns"])] == old["columns"]
    assert {column["name"] for column in new["columns"]} == {column.name for column in tables.services.c}
    assert all(column["nullable"] for column in new["columns"][len(old["columns"]) :])
    assert [{name: row[name] for name in columns_of(start)} for row in new["rows"]] == old["rows"]
    for what in ("key", "references", "indexes", "unique", "checks"):
        assert new[what] == old[what]


@pytest.mark.parametrize("start", START)
def test_each_revision_goes_up_down_and_up_and_downgrade_removes_only_what_was_added(url: str, start: str) -> None:
    make(url, start)
    before = snapshot(url)
    for revision in migrate.revisions():
        migrate.upgrade(url, revision.name)
        migrate.downgrade(url, revision.parent or "base")
        migrate.upgrade(url, revision.name)
    assert migrate.current(url) == migrate.revisions()[-1].name

    migrate.downgrade(url, "base")

    assert snapshot(url) == before
    assert not table_names(url) & OURS
    assert migrate.current(url) is None


@pytest.mark.parametrize("start", SHAPES)
def test_alembic_check_is_clean_without_other_tables_too(url: str, start: str) -> None:
    make(url, start, foreign=False)
    migrate.upgrade(url)
    migrate.check(url)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (f"ALTER TABLE {SERVICES} DROP COLUMN snippet", "snippet"),
        ("ALTER TABLE tentaculo_events DROP COLUMN broadcast", "broadcast"),
        ("DROP INDEX ix_tentaculo_events_type_id", "ix_tentaculo_events_type_id"),
        ("ALTER TABLE tentaculo_events ADD COLUMN stray INTEGER", "stray"),
        ("DROP INDEX ix_tentaculo_history_span_start", "ix_tentaculo_history_span_start"),
        ("ALTER TABLE tentaculo_incidents DROP COLUMN ending", "ending"),
        ("ALTER TABLE tentaculo_history DROP COLUMN available_ms", "available_ms"),
        ("DROP INDEX ix_tentaculo_state_changes_service", "ix_tentaculo_state_changes_service"),
    ],
)
def test_alembic_check_sees_what_is_missing(url: str, damage: str, found: str) -> None:
    make(url, "a")
    migrate.upgrade(url)
    with opened(url) as connection:
        connection.exec_driver_sql(damage)
    with pytest.raises(StoreUnavailable, match=found):
        migrate.check(url)


def test_columns_that_nobody_knows_stay(url: str) -> None:
    make(url, "c")
    with opened(url) as connection:
        connection.exec_driver_sql(f"ALTER TABLE {SERVICES} ADD COLUMN owner TEXT DEFAULT 'ana'")
        connection.exec_driver_sql(f"CREATE INDEX ix_owner ON {SERVICES} (owner)")
    before = snapshot(url)
    migrate.upgrade(url)
    migrate.check(url)
    assert snapshot(url) == before
    migrate.downgrade(url, "base")
    assert snapshot(url) == before


def test_a_second_upgrade_does_nothing(url: str) -> None:
    make(url, "a")
    migrate.upgrade(url)
    before = snapshot(url)
    migrate.upgrade(url)
    assert snapshot(url) == before
    with opened(url) as connection:
        noted = [row["column_name"] for row in rows_of(connection, "tentaculo_schema_notes")]
    added = ["http_code", "latency_ms", "endpoint_ok", "snippet", "checked_at"]
    later = ["available_ms", "unavailable_ms", "notified"]
    later += [
        "key",
        "digest",
        "severity",
        "stated_ms",
        "size",
        "name",
        "home",
        "total_bytes",
        "corrected_ms",
        "corrected_width_ms",
        "deliveries",
        "reason_code",
        "reason_values",
        "reopened_at",
        "failed_requests",
        "counted_until",
        "ending_code",
        "ending_values",
        "reason_code",
        "reason_values",
        "token",
    ]
    assert [column for column in noted if column] == [*added, *later]
    assert noted.count(None) == len(OURS) - 1, "one note for each table but that of the versions"


@pytest.mark.parametrize(
    "statements",
    [
        [f"CREATE TABLE {SERVICES} (id INTEGER, name TEXT)"],
        ["CREATE TABLE t (service_name TEXT, status TEXT)", f"CREATE VIEW {SERVICES} AS SELECT * FROM t"],
    ],
    ids=["no service_name", "a view"],
)
def test_what_cannot_hold_services_is_left_alone_and_everything_else_is_made(url: str, statements: list[str]) -> None:
    with opened(url) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    before = snapshot(url)
    migrate.upgrade(url)
    migrate.check(url)
    assert table_names(url) >= OURS
    assert snapshot(url) == before
    migrate.downgrade(url, "base")
    assert snapshot(url) == before


def test_a_view_whose_tables_are_gone_costs_the_rows_of_services_only(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/fleet.db"
    with opened(url) as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INTEGER, service_name TEXT)")
        connection.exec_driver_sql(f"CREATE VIEW {SERVICES} AS SELECT * FROM t")
        connection.exec_driver_sql("DROP TABLE t")
    migrate.upgrade(url)
    migrate.check(url)
    with opened(url) as connection, pytest.raises(StoreUnavailable) as caught:
        RuntimeTable.find(connection)
    assert caught.value.detail == f"{SERVICES} is not a table but a view."


def test_what_is_in_the_way_of_an_upgrade_is_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/fleet.db"
    with opened(url) as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
        connection.exec_driver_sql(f"CREATE INDEX {SERVICES} ON t (x)")
    with pytest.raises(StoreUnavailable) as caught:
        migrate.upgrade(url)
    assert caught.value.detail == (
        f"The database file fleet.db is not as the gateway expects: there is already an index named {SERVICES}."
    )


def test_a_revision_of_a_later_version_is_called_that(url: str) -> None:
    migrate.upgrade(url)
    with opened(url) as connection:
        connection.exec_driver_sql("UPDATE tentaculo_schema_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailable) as caught:
        migrate.upgrade(url)
    assert caught.value.detail == "The database has the revision 9999, of another version of the gateway: use that one."
    with pytest.raises(StoreUnavailable, match="'8888'"):
        migrate.downgrade(url, "8888")


def test_a_strict_table_gets_columns_of_its_own_types(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    with opened(url) as connection:
        columns = "id INTEGER PRIMARY KEY, service_name TEXT UNIQUE, port INTEGER, last_check TEXT"
        connection.exec_driver_sql(f"CREATE TABLE {SERVICES} ({columns}) STRICT")
    before = snapshot(url)
    migrate.upgrade(url)
    migrate.check(url)
    write_services(url, [view("madre")], NOW)
    with opened(url) as connection:
        (row,) = rows_of(connection, SERVICES)
    assert (row["service_name"], row["port"], row["status"], row["latency_ms"]) == ("madre", 8001, "OK", 4)
    assert row["last_check"] == row["checked_at"] == "2026-01-02 03:04:05.678901"
    with opened(url) as connection:
        connection.exec_driver_sql(f"DELETE FROM {SERVICES}")
    migrate.downgrade(url, "base")
    assert snapshot(url) == before


THEIRS = "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"


@pytest.mark.parametrize("revision", ["e3a1c9d2f4b5", migrate.revisions()[0].name, migrate.revisions()[-1].name])
def test_the_versions_of_another_product_stay_its_own(url: str, revision: str) -> None:
    with opened(url) as connection:
        connection.exec_driver_sql(THEIRS)
        connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{revision}')")
    before = snapshot(url)
    assert migrate.current(url) is None
    migrate.upgrade(url)
    migrate.check(url)
    assert migrate.current(url) == migrate.revisions()[-1].name
    after = snapshot(url)
    assert after["alembic_version"] == before["alembic_version"]
    migrate.downgrade(url, "base")
    assert snapshot(url) == before


@pytest.mark.parametrize("theirs", [None, "e3a1c9d2f4b5"])
def test_a_revision_of_ours_in_the_usual_table_is_taken_over(url: str, theirs: str | None) -> None:
    third = migrate.revisions()[2].name
    migrate.upgrade(url, third)
    with opened(url) as connection:
        connection.exec_driver_sql(THEIRS)
        connection.exec_driver_sql(f"INSERT INTO alembic_version SELECT version_num FROM {tables.VERSION_TABLE}")
        if theirs is not None:
            connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{theirs}')")
        connection.exec_driver_sql(f"DROP TABLE {tables.VERSION_TABLE}")
    assert migrate.current(url) == third
    migrate.upgrade(url)
    migrate.check(url)
    assert migrate.current(url) == migrate.revisions()[-1].name
    assert ("alembic_version" in table_names(url)) is (theirs is not None)
    if theirs is not None:
        with opened(url) as connection:
            assert rows_of(connection, "alembic_version") == [{"version_num": theirs}]


def test_a_new_database_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "fleet.db"
    migrate.upgrade(f"sqlite:///{file}")
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_missing_is_made(tmp_path: Path) -> None:
    file = tmp_path / "a % b" / "data" / "fleet.db"
    migrate.upgrade(f"sqlite:///{file}")
    assert file.is_file()


def test_a_folder_that_cannot_be_made_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable, match=r"The database file fleet\.db .*folder") as caught:
        migrate.upgrade(f"sqlite:///{tmp_path / 'file' / 'fleet.db'}")
    assert str(tmp_path) not in str(caught.value.detail)


def test_a_server_that_is_not_there_is_said_without_its_address() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        migrate.upgrade("postgresql://ana:geheim@127.0.0.1:1/fleet")
    assert caught.value.detail == "The database server cannot be reached."


def test_the_fixture_is_what_it_says(url: str) -> None:
    """The contract's own words about the data, so that a slip in the fixture cannot make the rest pass."""
    make(url, "c")
    with opened(url) as connection:
        rows = rows_of(connection, SERVICES)
        names = [row["service_name"] for row in rows]
        assert len(set(inspect(connection).get_table_names()) - {SERVICES}) == 50
    assert len([name for name in names if name]) == 12
    assert {"shub", "shubniggurath", "operator", "operator_backend", None} <= set(names)
    assert None in {row["port"] for row in rows}
    assert {"up", "down", "unknown", "OK", "BROKEN", "UNKNOWN"} <= {row["status"] for row in rows}
    if make_url(url).get_backend_name() == "sqlite":
        assert {row["last_check"][10] for row in rows if row["last_check"]} == {"T", " "}


@pytest.mark.parametrize("dropped", [("tentaculo_mutes",), ("tentaculo_events", "tentaculo_event_sequence")])
def test_tables_that_somebody_dropped_are_made_again_and_the_others_stay(url: str, dropped: tuple[str, ...]) -> None:
    migrate.upgrade(url)
    with opened(url) as connection:
        notes = connection.execute(select(tables.schema_notes)).all()
        for name in dropped:
            connection.exec_driver_sql(f"DROP TABLE {name}")
    migrate.upgrade(url)
    migrate.check(url)
    with opened(url) as connection:
        assert connection.execute(select(tables.schema_notes)).all() == notes != []
    migrate.downgrade(url, "base")
    assert table_names(url) & OURS == set()
