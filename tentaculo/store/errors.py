"""Errors of the database as one sentence each, without secrets, and with no path but the name of the file."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from tentaculo.config.environment import sqlite_file
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.text import printable

NOT_MIGRATED = "The database lacks the gateway's tables: `tentaculo db upgrade` makes them."

_DISK_FULL = "cannot grow: the disk is full"
# By SQLite's result code, its longest matching prefix first: https://sqlite.org/rescode.html
_SQLITE = (
    ("SQLITE_BUSY", "is locked by another process"),
    ("SQLITE_LOCKED", "is locked by another process"),
    ("SQLITE_READONLY", "is read-only"),
    ("SQLITE_FULL", _DISK_FULL),
    ("SQLITE_CANTOPEN", "cannot be opened: the file or its folder is missing, or may not be read and written"),
    ("SQLITE_PERM", "may not be read and written"),
    ("SQLITE_AUTH", "may not be read and written"),
    ("SQLITE_NOTADB", "is not a SQLite database"),
    ("SQLITE_CORRUPT", "is damaged"),
    ("SQLITE_IOERR", "cannot be read or written: the disk reports an error"),
)

# By SQLSTATE, exact or by class: PostgreSQL manual, appendix A.
_POSTGRESQL = (
    ("42P01", NOT_MIGRATED),
    ("42703", NOT_MIGRATED),
    ("42501", "PostgreSQL does not allow this user to read and write the gateway's tables."),
    ("3D000", "PostgreSQL has no database of the configured name."),
    ("28", "PostgreSQL refuses the configured user or password."),
    ("25006", "PostgreSQL is read-only."),
    ("53300", "PostgreSQL has no connection free."),
    ("53", "PostgreSQL is out of disk space or memory."),
    ("55P03", "The gateway's tables in PostgreSQL are locked by another session."),
    ("57014", "PostgreSQL did not finish in time."),
    ("57", "PostgreSQL is shutting down or starting."),
)


class StoreUnavailable(Problem):
    """The database cannot be used now; `detail` says why in one sentence. The response is 503."""

    def __init__(self, reason: str) -> None:
        super().__init__(Failure.STORE_UNAVAILABLE, reason, headers={"Retry-After": "5"})


def describe(error: BaseException, url: URL) -> str:
    """Why `error` happened on the database at `url`, in one sentence."""
    if isinstance(error, StoreUnavailable):
        return error.detail or error.failure.title
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    if isinstance(error, NoSuchModuleError | ArgumentError):
        return "The database address is not one that the gateway knows: use sqlite:/// or postgresql://."
    if isinstance(error, ImportError):
        return f"The database driver {error.name} is missing: install tentaculo-link[postgresql]."
    if url.get_backend_name() == "sqlite":
        return _describe_sqlite(error, url)
    if isinstance(error, TypeError):
        return _describe_arguments(url)
    if isinstance(error, OSError) or (state := _sqlstate(error)) is None:
        return "The database server cannot be reached."
    return next((words for code, words in _POSTGRESQL if state.startswith(code)), f"PostgreSQL refused ({state}).")


def is_data_error(error: BaseException) -> bool:
    """Whether the database refused what was written (a constraint, a value), and the database itself works."""
    if not isinstance(error, SQLAlchemyError):
        return False
    orig = getattr(error, "orig", None)
    name = getattr(orig, "sqlite_errorname", "")
    state = _sqlstate(orig) or ""
    return name.startswith(("SQLITE_CONSTRAINT", "SQLITE_TOOBIG")) or state[:2] in ("22", "23")


def is_forbidden(error: BaseException) -> bool:
    """Whether PostgreSQL refuses a statement however often it is repeated: no right to it, or nothing of that name."""
    return (_sqlstate(getattr(error, "orig", None)) or "").startswith("42")


def table_fault(error: BaseException, table: str) -> str | None:
    """Why `table` alone cannot be written, as a sentence; None where the error concerns the database or one row."""
    orig = getattr(error, "orig", None)
    name, state = getattr(orig, "sqlite_errorname", ""), _sqlstate(orig) or ""
    # SQLITE_ERROR is what SQLite says of a statement that does not fit the table.
    if name in ("SQLITE_ERROR", "SQLITE_MISMATCH"):
        return f"The table {table} does not take the gateway's rows: {printable(str(orig), 120)}."
    if state == "55P03":
        return f"The table {table} is locked by another session."
    if state[:2] in ("42", "55", "0A"):
        return f"The table {table} does not take the gateway's rows: PostgreSQL refuses them ({state})."
    return None


def is_disk_full(error: BaseException) -> bool:
    """Whether a SQLite file cannot grow."""
    return getattr(getattr(error, "orig", None), "sqlite_errorname", "") == "SQLITE_FULL"


def disk_full(file: Path) -> str:
    """The sentence for a SQLite file that cannot grow."""
    return f"The database file {file.name} {_DISK_FULL}."


def _describe_arguments(url: URL) -> str:
    # The driver takes the parts of the address as arguments of a function: a user is required, others may be unknown.
    if url.username is None:
        return "The database address names no user: use postgresql://user:password@host/name."
    names = printable(", ".join(sorted(url.query)), 120)
    return f"The database driver {url.get_driver_name()} does not know a parameter of the address, of {names}."


def _describe_sqlite(error: BaseException, url: URL) -> str:
    path = sqlite_file(url.database)
    file = f"The database file {path.name}" if path else "The database"
    if "no such table" in str(error) or "no column named" in str(error) or "no such column" in str(error):
        return NOT_MIGRATED
    name = "SQLITE_CANTOPEN" if isinstance(error, OSError) else getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_ERROR":
        # A statement does not fit what the file holds, such as a table of ours that is there already.
        return f"{file} is not as the gateway expects: {printable(str(error), 120)}."
    words = next((words for code, words in _SQLITE if name.startswith(code)), "failed")
    return f"{file} {words}."


def _sqlstate(error: BaseException | None) -> str | None:
    # pg8000 puts the server's message fields into the first argument, SQLSTATE under C.
    fields = error.args[0] if error is not None and error.args else None
    if isinstance(fields, dict):
        return str(fields.get("C", ""))
    state = getattr(error, "sqlstate", None)
    return str(state) if state else None
