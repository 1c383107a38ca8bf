from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.exc import ArgumentError

from tentaculo.store.database import database_file, parse_url


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///a.db", "sqlite"),
        ("sqlite+aiosqlite:///a.db", "sqlite"),
        ("postgres://db/fleet", "postgresql+pg8000"),
        ("postgresql://db/fleet", "postgresql+pg8000"),
        ("postgresql+asyncpg://db/fleet", "postgresql+pg8000"),
        ("postgresql+psycopg://db/fleet", "postgresql+psycopg"),
    ],
)
def test_the_driver_is_the_one_we_are_shipped_with_unless_one_is_named(url: str, driver: str) -> None:
    assert parse_url(url).drivername == driver


def test_a_password_survives() -> None:
    url = "postgresql+pg8000://ana:p%40ss%25@db/fleet?unix_sock=%2Frun%2Fx"
    assert parse_url(parse_url(url).render_as_string(hide_password=False)).password == "p@ss%"


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:////srv/fleet.db", Path("/srv/fleet.db")),
        ("sqlite:///data/a b?.db", Path("data/a b")),
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        ("sqlite:///file:fleet.db?uri=true", None),
        ("postgresql://db/fleet", None),
    ],
)
def test_the_file_behind_an_address(url: str, file: Path | None) -> None:
    assert database_file(parse_url(url)) == file


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ArgumentError):
        parse_url("fleet.db")
