"""The row with the changes of the write API, for several machines on one PostgreSQL. It contains secrets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, Connection, Integer, Table, Text, func, select, update

from tentaculo.store.lease import notify_fleet
from tentaculo.store.tables import dialect_module, metadata

# One row at most: the changes of the write API, which several machines share. It contains secrets.
configuration_changes = Table(
    "tentaculo_configuration_changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    # Grows with each change: one that was made for an earlier one is refused.
    Column("revision", BigInteger, nullable=False),
    # As the file of changes has it, JSON.
    Column("document", Text, nullable=False),
)

_ONLY_ROW = 1
_c = configuration_changes.c


class StoredChanges(NamedTuple):
    """The layer of changes as it is stored."""

    revision: int
    document: bytes
    """As the file of changes has it, but for the times of overrides, which are those of the database's clock."""


def read_revision(connection: Connection) -> int | None:
    """The revision; None where no machine has changed anything."""
    found: int | None = connection.execute(select(_c.revision)).scalar_one_or_none()
    return found


def read_changes(connection: Connection) -> StoredChanges | None:
    """The layer; None where no machine has changed anything."""
    row = connection.execute(select(_c.revision, _c.document)).one_or_none()
    return None if row is None else StoredChanges(row.revision, row.document.encode())


def replace_changes(connection: Connection, before: int, after: StoredChanges) -> bool:
    """Put `after` in the place of the revision `before`; False where that is not the one in the table.

    An empty table has every revision: the first machine that changes something brings the changes of its file.
    """
    values = {"revision": after.revision, "document": after.document.decode()}
    found = connection.execute(update(configuration_changes).where(_c.revision == before).values(values))
    if not found.rowcount:
        first = dialect_module(connection).insert(configuration_changes).values(id=_ONLY_ROW, **values)
        if not connection.execute(first.on_conflict_do_nothing()).rowcount:
            return False
    notify_fleet(connection)
    return True


def clock_ahead(connection: Connection, now: datetime) -> timedelta:
    """How far the clock of PostgreSQL is ahead of `now`, so that machines agree about a moment though their clocks do not.

    Zero on SQLite, which one machine alone uses.
    """
    if connection.dialect.name != "postgresql":
        return timedelta()
    moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return moment.astimezone(UTC) - now
