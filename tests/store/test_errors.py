"""What people are told of a database that fails."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from tentaculo.model.failure import Failure, Problem
from tentaculo.store.database import connect, parse_url
from tentaculo.store.errors import StoreUnavailable, describe, is_data_error

SQLITE = parse_url("sqlite:////srv/secret-folder/fleet.db")
POSTGRESQL = parse_url("postgresql://ana:geheim@db.internal/fleet")


class ServerError(Exception):
    """As pg8000 raises it: the server's message fields in a dict."""


def of_sqlite(path: Path, statement: str) -> sqlite3.Error:
    """The error that SQLite itself raises for `statement`."""
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.Error) as caught:
        connection.execute(statement)
    connection.close()
    return caught.value


def of_postgresql(state: str) -> DBAPIError:
    orig = ServerError({"S": "ERROR", "C": state, "M": "ana may not enter db.internal with geheim"})
    return DBAPIError("SELECT geheim", {}, orig)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("42P01", "tentaculo db upgrade"),
        ("42501", "does not allow"),
        ("3D000", "no database of the configured name"),
        ("28P01", "refuses the configured user or password"),
        ("28000", "refuses the configured user or password"),
        ("53300", "no connection free"),
        ("53100", "out of disk space"),
        ("55P03", "locked by another session"),
        ("57014", "did not finish in time"),
        ("57P01", "shutting down"),
        ("XX000", "refused (XX000)"),
    ],
)
def test_postgresql_is_described_by_its_state_and_without_secrets(state: str, words: str) -> None:
    said = describe(of_postgresql(state), POSTGRESQL)
    assert words in said
    assert not any(secret in said for secret in ("geheim", "ana", "db.internal"))


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError(), DBAPIError("", {}, ServerError("gone"))])
def test_a_server_out_of_reach_is_called_so(error: Exception) -> None:
    assert describe(error, POSTGRESQL) == "The database server cannot be reached."


def test_an_address_that_the_driver_cannot_use_says_what_is_wrong_with_it() -> None:
    addresses = {
        "postgresql://127.0.0.1:1/fleet": "The database address names no user",
        "postgresql://ana:geheim@127.0.0.1:1/fleet?sslmode=require": "does not know a parameter of the address, of sslmode.",
        "postgresql://ana:geheim@127.0.0.1:1/fleet?connect_timeout=3&options=geheim": "of connect_timeout, options.",
    }
    for address, words in addresses.items():
        url = parse_url(address)
        with pytest.raises(TypeError) as caught:
            connect(url)
        said = describe(caught.value, url)
        assert words in said
        assert not any(secret in said for secret in ("geheim", "ana", "127.0.0.1"))


def test_a_missing_driver_says_what_to_install() -> None:
    assert "tentaculo-link[postgresql]" in describe(ModuleNotFoundError("no", name="pg8000"), POSTGRESQL)


def test_sqlite_is_described_by_its_code_and_by_the_file_s_name_only(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_bytes(b"no database" * 200)
    errors = {
        "is not a SQLite database": of_sqlite(text, "SELECT * FROM t"),
        "`tentaculo db upgrade` makes them": of_sqlite(tmp_path / "new.db", "SELECT * FROM t"),
        "is not as the gateway expects: incomplete input.": of_sqlite(tmp_path / "new.db", "SELECT nonsense("),
    }
    for words, error in errors.items():
        said = describe(OperationalError("SELECT geheim", {}, error), SQLITE)
        assert words in said
        assert "secret-folder" not in said
        assert "geheim" not in said


def test_only_what_the_row_is_to_blame_for_is_the_row_s(tmp_path: Path) -> None:
    taken = of_sqlite(tmp_path / "a.db", "WITH t AS (SELECT 1) SELECT * FROM t, missing")
    assert not is_data_error(OperationalError("", {}, taken))
    connection = sqlite3.connect(":memory:")
    connection.executescript("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)")
    with pytest.raises(sqlite3.IntegrityError) as caught:
        connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
    assert is_data_error(IntegrityError("", {}, caught.value))
    assert is_data_error(of_postgresql("23505"))
    assert is_data_error(of_postgresql("22021"))
    assert not is_data_error(of_postgresql("57P01"))
    assert not is_data_error(ValueError("not of the database at all"))


def test_it_is_answered_503_by_whoever_renders_problems() -> None:
    problem = StoreUnavailable("The database is away.")
    assert isinstance(problem, Problem)
    assert problem.failure is Failure.STORE_UNAVAILABLE
    assert problem.members()["detail"] == "The database is away."
    assert "Retry-After" in problem.headers
    assert describe(problem, URL.create("sqlite")) == "The database is away."
