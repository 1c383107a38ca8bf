"""Values in the form in which both databases accept them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text

from tentaculo.store.tables import aware_utc, dialect_module, naive_utc, storable
from tests.support.runtime_tables import opened

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_a_moment_is_stored_as_utc_without_a_zone_and_read_back() -> None:
    moment = NOON.astimezone(timezone(timedelta(hours=2)))
    assert naive_utc(moment) == datetime(2026, 1, 2, 12)  # noqa: DTZ001
    assert aware_utc(naive_utc(moment)) == NOON


@pytest.mark.parametrize(
    ("given", "stored"), [("plain é", "plain é"), ("a\0b", "a\ufffdb"), ("a\ud800b", "a?b")], ids=ascii
)
def test_text_loses_what_a_database_refuses(url: str, given: str, stored: str) -> None:
    assert storable(given) == stored
    with opened(url) as connection:
        assert (
            connection.execute(text("SELECT CAST(:value AS TEXT)"), {"value": storable(given)}).scalar_one() == stored
        )


def test_the_module_of_a_dialect_has_an_insert_that_can_update(url: str) -> None:
    with opened(url) as connection:
        module = dialect_module(connection)
        assert module.__name__ == f"sqlalchemy.dialects.{connection.dialect.name}"
        assert hasattr(module.insert, "on_conflict_do_update") or hasattr(module.Insert, "on_conflict_do_update")
