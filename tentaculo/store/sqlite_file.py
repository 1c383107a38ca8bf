"""A file of SQLite: opened without being made, also where it can only be read, and the journal that it has."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, select
from sqlalchemy.exc import OperationalError

from tentaculo.store import tables
from tentaculo.store.errors import StoreUnavailable

LOG_LIMIT = 4 * 1024 * 1024
"""Bytes to which the write-ahead log is cut back once no reader needs more of it."""
_CACHE = 512
"""KiB of the file that SQLite keeps in memory for itself, where its default is 2000: the system caches the file too."""


class FrozenFile(sqlite3.Connection):
    """A connection to a file in a folder that we cannot write, and that no process has open: SQLite uses no lock on it."""


def open_file(file: Path, wait: float) -> sqlite3.Connection:
    """A connection that waits `wait` seconds for locks. Raises `StoreUnavailable` where there is no such file."""
    if not file.exists():
        raise StoreUnavailable(f"The database file {file.name} does not exist: `tentaculo db upgrade` makes it.")
    address = f"file:{quote(str(file.absolute()))}?mode="
    connection = sqlite3.connect(f"{address}rw", uri=True, timeout=wait)
    try:
        _prepare(connection)
    except sqlite3.OperationalError:
        connection.close()
        # The write-ahead log needs files beside this one, which cannot be made in a folder that is read-only.
        is_ours = os.access in os.supports_effective_ids
        if os.access(file.parent, os.W_OK, effective_ids=is_ours) or has_log(file):
            raise
        connection = sqlite3.connect(f"{address}ro&immutable=1", uri=True, factory=FrozenFile)
        _prepare(connection)
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA cache_size = -{_CACHE}")
    connection.execute("PRAGMA schema_version").fetchall()


def has_log(file: Path) -> bool:
    """Whether a process has the file open, or left it without a close: there is a write-ahead log."""
    return file.with_name(f"{file.name}-wal").exists()


def choose_journal(connection: Connection, names: set[str], *, survives_power_cut: bool) -> None:
    """Switch on the write-ahead log where the file is ours alone; `names` are its tables.

    The journal mode is written into the file and holds for every program that opens it, so another product's database
    keeps the one it has. `survives_power_cut` says whether a commit waits for the disk.
    """
    with connection.begin():
        noted = select(tables.schema_notes.c.table_name).where(tables.schema_notes.c.column_name.is_(None))
        ours = {tables.VERSION_TABLE, *connection.scalars(noted)}
    with connection.begin():
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        if mode != "wal" and names <= ours:
            try:
                mode = connection.exec_driver_sql("PRAGMA journal_mode = WAL").scalar_one()
            except OperationalError:
                # Another process uses the file at this moment. The old mode is only slower, and the next start tries again.
                pass
        if mode == "wal":
            # Without FULL a power cut loses the last events, though not the file: a commit then waits for no disk.
            connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if survives_power_cut else 'NORMAL'}")
            # The log grows while a reader is active. SQLite cuts it back to this when it starts over.
            connection.exec_driver_sql(f"PRAGMA journal_size_limit = {LOG_LIMIT}")
