"""What identifies the log of events: the database that holds it, and a memory of its last id outside of it.

A log has a random name, which readers keep with their place in it. A backup that is restored has the name of the log that
it was made of, and lacks its last events: a reader's place in it would mean other events. So a copy gets a new name.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from time import monotonic

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from tentaculo.store.errors import is_forbidden

REMEMBER_EVERY = 10.0
"""Seconds between two writes of the file."""

_SERVER = "SELECT system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system()"
_TABLE = "SELECT oid, 'tentaculo_event_sequence'::regclass::oid FROM pg_database WHERE datname = current_database()"


def home_of(connection: Connection, file: Path | None) -> str:
    """What identifies the database: the file's inode; on PostgreSQL the numbers of the database and of the table, which a
    copy and a restored dump do not share, and the cluster and its timeline, which restored files do not."""
    if connection.dialect.name == "postgresql":
        parts = list(map(str, connection.execute(text(_TABLE)).one()))
        try:
            with connection.begin_nested():
                parts += map(str, connection.execute(text(_SERVER)).one())
        except SQLAlchemyError as error:
            # A service of PostgreSQL may forbid or lack these functions. A server that is only slow is the same server.
            if not is_forbidden(error):
                raise
        return "postgresql " + " ".join(parts)
    return "memory" if file is None else f"inode {file.stat().st_ino}"


class LogMemory:
    """Name and last id of the log, which outlive a backup that is restored: beside a SQLite file in a file, for a server
    in this process only."""

    def __init__(self, file: Path | None) -> None:
        """`file` is the database, None for a server."""
        self._path = None if file is None else file.with_name(f"{file.name}-log")
        self._in_process = ("", 0)
        self.due = 0.0
        """When it is to be remembered again, by `time.monotonic`. A server's costs nothing, and is always due."""

    def __repr__(self) -> str:
        return f"<LogMemory {self._path}>"

    def recall(self) -> tuple[str, int]:
        """Name and last id, as last remembered; an empty name where there is none."""
        if self._path is None:
            return self._in_process
        try:
            name, _, last = self._path.read_text(encoding="ascii").strip().partition(" ")
            return name, int(last)
        except (OSError, ValueError):
            return "", 0

    def remember(self, name: str, last: int) -> None:
        """Remember the last id. Other processes may do so too."""
        if self._path is None:
            self._in_process = (name, last)
            return
        self.due = monotonic() + REMEMBER_EVERY
        known, greatest = self.recall()
        if known == name and greatest >= last:
            return
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        # A full disk or a read-only folder costs only this memory.
        with suppress(OSError):
            draft.write_text(f"{name} {last}\n", encoding="ascii")
            draft.chmod(0o600)
            draft.replace(self._path)
