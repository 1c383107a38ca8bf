"""The services' rows in every shape of their table, migrated or not."""

from __future__ import annotations

import gc
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tentaculo.model.health import Health
from tentaculo.store import migrate
from tentaculo.store.database import once, write_services
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.runtime_table import RuntimeTable, end_rows, read_details, word_of
from tests.support.runtime_tables import SERVICES, SHAPES, columns_of, make_services, opened, rows_of
from tests.support.store_samples import NOW, unprobed, view

LATER = NOW + timedelta(hours=1)


def rows(url: str) -> list[dict[str, Any]]:
    with opened(url) as connection:
        return rows_of(connection, SERVICES)


def row(url: str, name: str) -> dict[str, Any]:
    (found,) = (row for row in rows(url) if row["service_name"] == name)
    return found


def as_moment(value: object) -> datetime:
    """A time as either driver reads it from the table: text from SQLite, a time from PostgreSQL."""
    return value if isinstance(value, datetime) else datetime.strptime(str(value), "%Y-%m-%d %H:%M:%S.%f")  # noqa: DTZ007


@pytest.fixture(params=[*SHAPES, *(f"{shape}-migrated" for shape in SHAPES)])
def shape_url(request: pytest.FixtureRequest, empty_url: str) -> tuple[str, str]:
    """A database with the drifted table in each shape, as found and as adopted; and the name of the shape."""
    shape, _, migrated = str(request.param).partition("-")
    with opened(empty_url) as connection:
        make_services(connection, shape)
        connection.exec_driver_sql(f"ALTER TABLE {SERVICES} ADD COLUMN owner TEXT DEFAULT 'ana'")
    if migrated:
        migrate.upgrade(empty_url)
    return empty_url, "b" if migrated else shape


@pytest.mark.thorough
def test_rows_are_changed_in_place_in_every_shape(shape_url: tuple[str, str]) -> None:
    url, shape = shape_url
    before = {row["id"]: row for row in rows(url)}
    old = row(url, "madre")

    written = write_services(url, [view("madre"), view("newcomer", Health.DOWN, code=None)], LATER)

    assert written.rows == 2
    assert set(written.columns) == columns_of(shape) - {"id"}
    after = {row["id"]: row for row in rows(url)}
    # Aliases, rows without a name and every other service: untouched, in their places.
    assert {key: kept for key, kept in after.items() if key in before and key != old["id"]} == {
        key: kept for key, kept in before.items() if key != old["id"]
    }
    new = after[old["id"]]
    assert new["created_at"] == old["created_at"]
    assert new["owner"] == "ana"
    assert (new["status"], new["host"], new["port"]) == ("OK", "127.0.0.1", 8001)
    assert new["health_url"] == "http://127.0.0.1:8001/health"
    assert as_moment(new["last_check"]) == NOW.replace(tzinfo=None)
    if shape != "a":
        assert (new["http_code"], new["latency_ms"], new["endpoint_ok"]) == (200, 4, "/health")
        assert new["snippet"] == '{"status":"ok"}'
        assert as_moment(new["checked_at"]) == NOW.replace(tzinfo=None)
    (added,) = (row for key, row in after.items() if key not in before)
    assert (added["service_name"], added["status"]) == ("newcomer", "BROKEN")
    assert as_moment(added["created_at"]) == LATER.replace(tzinfo=None)


def test_a_service_that_was_never_probed_keeps_what_was_found_before(url: str) -> None:
    write_services(url, [view("hermes")], NOW)
    before = row(url, "hermes")

    write_services(url, [unprobed("hermes", port=9003, health_url=None), unprobed("new", Health.OFF)], LATER)

    assert row(url, "hermes") == before | {"status": "UNKNOWN", "port": 9003}
    new = row(url, "new")
    assert (new["status"], new["checked_at"], new["http_code"]) == ("UNKNOWN", None, None)


def test_a_probe_without_an_answer_clears_what_the_last_one_found(url: str) -> None:
    write_services(url, [view("hermes")], NOW)
    lost = view("hermes", Health.DOWN, code=None, latency_ms=None, endpoint="/healthz", snippet=None, checked_at=LATER)
    write_services(url, [lost], LATER)
    found = row(url, "hermes")
    assert (found["status"], found["http_code"], found["latency_ms"], found["snippet"]) == ("BROKEN", None, None, None)
    assert found["endpoint_ok"] is None, "no endpoint is ok"
    assert as_moment(found["last_check"]) == LATER.replace(tzinfo=None)
    assert as_moment(found["created_at"]) == NOW.replace(tzinfo=None)


def test_a_service_that_was_turned_off_says_so(url: str) -> None:
    write_services(url, [view("hermes")], NOW)
    write_services(url, [unprobed("hermes", Health.OFF, reason="Off on purpose.")], LATER)
    found = row(url, "hermes")
    assert (found["status"], found["snippet"]) == ("UNKNOWN", "Off on purpose.")
    assert (found["http_code"], found["latency_ms"], found["endpoint_ok"]) == (None, None, None)
    assert as_moment(found["last_check"]) == NOW.replace(tzinfo=None), "that is when it was last probed"


@pytest.mark.parametrize(("health", "word"), [(Health.UP, "OK"), (Health.DOWN, "BROKEN")])
def test_a_service_that_is_not_probed_any_more_keeps_nothing_of_its_last_probe(
    url: str, health: Health, word: str
) -> None:
    write_services(url, [view("hermes")], NOW)
    write_services(url, [unprobed("hermes", health, reason="not probed; its requests decide")], LATER)
    found = row(url, "hermes")
    assert (found["status"], found["snippet"]) == (word, "not probed; its requests decide")
    assert (found["http_code"], found["latency_ms"], found["endpoint_ok"]) == (None, None, None)


@pytest.mark.thorough
def test_the_row_of_a_service_that_is_gone_is_ended_in_every_shape(shape_url: tuple[str, str]) -> None:
    url, shape = shape_url
    write_services(url, [view("madre"), view("other")], NOW)
    before = {one["id"]: one for one in rows(url)}
    # The row of the other says another word than this gateway has last found.
    words = {"madre": "OK", "absent": "OK", "other": "UNKNOWN"}
    once(url, lambda connection: end_rows(connection, words, "Gone."))
    after = {one["id"]: one for one in rows(url)}
    changed = [one for key, one in after.items() if one != before[key]]
    assert [(one["service_name"], one["status"]) for one in changed] == [("madre", "UNKNOWN")]
    if shape != "a":
        (ended,) = changed
        assert (ended["http_code"], ended["endpoint_ok"], ended["snippet"]) == (None, None, "Gone.")


def test_a_table_that_is_none_has_no_row_to_end(empty_url: str) -> None:
    with opened(empty_url) as connection:
        end_rows(connection, {"madre": "OK"}, "Gone.")
        connection.exec_driver_sql(f"CREATE TABLE {SERVICES} (id INTEGER PRIMARY KEY, service_name VARCHAR(9) UNIQUE)")
        connection.exec_driver_sql(f"INSERT INTO {SERVICES} VALUES (1, 'madre')")
    once(empty_url, lambda connection: end_rows(connection, {"madre": "OK"}, "Gone."))
    assert rows(empty_url) == [{"id": 1, "service_name": "madre"}]


def test_a_state_from_before_a_restart_keeps_what_its_probe_found(url: str) -> None:
    write_services(url, [view("hermes")], NOW)
    before = row(url, "hermes")
    write_services(url, [unprobed("hermes", Health.UP, is_restored=True)], LATER)
    assert row(url, "hermes") == before | {"health_url": row(url, "hermes")["health_url"]}


def test_an_open_breaker_leaves_no_endpoint_that_is_ok(url: str) -> None:
    write_services(url, [view("hermes", breaker="open")], NOW)
    found = row(url, "hermes")
    assert (found["status"], found["http_code"], found["endpoint_ok"]) == ("BROKEN", 200, None)


def test_text_that_a_column_cannot_hold_is_made_to_fit(url: str) -> None:
    write_services(url, [view("hermes", health_url="h" * 300, endpoint="/" * 200, snippet="a\0b\ud800<script>")], NOW)
    found = row(url, "hermes")
    assert found["health_url"] == "h" * 256
    assert found["endpoint_ok"] == "/" * 128
    assert found["snippet"] == "a\ufffdb?<script>"


def test_probing_uses_up_no_ids(url: str) -> None:
    """ON CONFLICT alone would take one from PostgreSQL's sequence at each probe."""
    for _ in range(20):
        write_services(url, [view("hermes"), view("mcp")], NOW)
    write_services(url, [view("switch")], NOW)
    assert sorted(row["id"] for row in rows(url)) == [1, 2, 3]


def test_a_time_column_of_another_type_is_written_in_the_same_spelling(empty_url: str) -> None:
    zoned = "TIMESTAMP WITH TIME ZONE" if empty_url.startswith("postgresql") else "NUMERIC"
    with opened(empty_url) as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE {SERVICES} (id INTEGER, service_name TEXT UNIQUE, last_check TEXT, checked_at {zoned})"
        )
    write_services(empty_url, [view("hermes")], NOW)
    found = row(empty_url, "hermes")
    assert found["last_check"] == "2026-01-02 03:04:05.678901"
    assert found["checked_at"] in (NOW, "2026-01-02 03:04:05.678901")


def test_a_table_with_nothing_but_names_still_gets_its_row(empty_url: str) -> None:
    with opened(empty_url) as connection:
        connection.exec_driver_sql(f"CREATE TABLE {SERVICES} (id INTEGER, service_name TEXT UNIQUE)")
    for _ in range(2):
        assert write_services(empty_url, [view("hermes"), view("hermes")], NOW).columns == ("service_name",)
    assert [row["service_name"] for row in rows(empty_url)] == ["hermes"]


def test_no_table_is_said_in_a_sentence(empty_url: str) -> None:
    with opened(empty_url) as connection:
        connection.exec_driver_sql("CREATE TABLE another (id INTEGER)")
    with pytest.raises(StoreUnavailable, match="tentaculo db upgrade"):
        write_services(empty_url, [view()], NOW)


def test_no_file_is_said_in_a_sentence_and_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"fleet\.db does not exist"):
        write_services(f"sqlite:///{tmp_path / 'fleet.db'}", [view()], NOW)
    assert not any(tmp_path.iterdir())


def test_an_address_that_is_none_is_said_in_a_sentence() -> None:
    with pytest.raises(StoreUnavailable, match="database address"):
        write_services("fleet.db", [view()], NOW)


@pytest.mark.parametrize(
    ("health", "breaker", "word"),
    [
        (Health.UP, "closed", "OK"),
        (Health.UP, "half_open", "OK"),
        (Health.DEGRADED, "closed", "OK"),
        (Health.DOWN, "closed", "BROKEN"),
        (Health.UP, "open", "BROKEN"),
        (Health.UNKNOWN, "open", "BROKEN"),
        (Health.UNKNOWN, "closed", "UNKNOWN"),
        (Health.OFF, "open", "UNKNOWN"),
        (Health.MAINTENANCE, "closed", "UNKNOWN"),
    ],
)
def test_the_words_of_the_seed(health: Health, breaker: str, word: str) -> None:
    assert word_of(view(health=health, breaker=breaker)) == word


def test_a_service_without_addresses_has_a_word_too() -> None:
    assert word_of(view(health=Health.UP, upstreams=())) == "OK"


@pytest.mark.thorough
def test_another_machine_reads_the_details_where_the_table_has_them(shape_url: tuple[str, str]) -> None:
    url, shape = shape_url
    madre = view("madre")
    write_services(url, [madre, unprobed("newcomer")], LATER)
    with opened(url) as connection:
        found = read_details(connection)
    assert found.keys() == (set() if shape == "a" else {"madre"})
    for one in found.values():
        assert (one.checked_at, one.code, one.latency_ms) == (madre.checked_at, madre.code, madre.latency_ms)


def test_a_known_row_is_written_without_garbage(url: str) -> None:
    with opened(url) as connection:
        rows = RuntimeTable.find(connection)
        rows.write(connection, [view("madre")], NOW)
        rows.write(connection, [view("madre")], NOW)
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                rows.write(connection, [view("madre")], NOW)
            found = gc.collect()
        finally:
            gc.enable()
    assert found < 50
