from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy.exc import ArgumentError, DBAPIError

from tentaculo.store import migrate
from tentaculo.store.database import connect, database_file, parse_url
from tentaculo.store.errors import StoreUnavailable


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


TLS = struct.pack("!ii", 8, 80877103)
"""What a client of PostgreSQL sends first that would like to use TLS."""


@pytest.mark.parametrize("work", [lambda url: connect(parse_url(url)), migrate.upgrade], ids=["gateway", "migration"])
@pytest.mark.parametrize("by", ["Unix", "TCP"])
def test_tls_is_asked_for_on_the_network_only(work: Callable[[str], object], by: str) -> None:
    with (
        TemporaryDirectory(prefix="tlpg") as folder,
        socket.socket(socket.AF_UNIX if by == "Unix" else socket.AF_INET) as server,
        ThreadPoolExecutor(1) as threads,
    ):
        server.bind(f"{folder}/s" if by == "Unix" else ("127.0.0.1", 0))
        server.listen()
        server.settimeout(20)

        def first_bytes() -> bytes:
            with server.accept()[0] as connection:
                return connection.recv(8)

        found = threads.submit(first_bytes)
        place = f"/d?unix_sock={folder}/s" if by == "Unix" else f"127.0.0.1:{server.getsockname()[1]}/d"
        with pytest.raises((DBAPIError, StoreUnavailable)):
            work(f"postgresql://tests@{place}")
        assert (found.result() == TLS) is (by == "TCP")
