"""The offsets of the services' clocks in the database, which the machine that probes stores for the others.

They are against the database's own clock, which all machines can read: each knows between which two moments of its own
the database has responded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from tentaculo.store.lease import database_ms
from tentaculo.store.tables import clocks


class StoredOffset(NamedTuple):
    """The clock of one endpoint, less that of the database, in milliseconds."""

    service: str
    endpoint: str
    """`host:port`."""
    low_ms: float
    high_ms: float
    at_ms: int
    """When that was so, by the database's clock."""


def read_clock(connection: Connection) -> int:
    """Milliseconds since 1970 by the database's clock, rounded down."""
    return int(connection.execute(select(database_ms())).scalar_one())


def store_offsets(connection: Connection, offsets: Sequence[StoredOffset]) -> None:
    """Store all offsets, in place of those before."""
    connection.execute(delete(clocks))
    if offsets:
        connection.execute(insert(clocks), [one._asdict() for one in offsets])


def read_offsets(connection: Connection) -> tuple[int, list[StoredOffset]]:
    """The database's clock as in `read_clock`, and all offsets."""
    c = clocks.c
    rows = connection.execute(select(c.service, c.endpoint, c.low_ms, c.high_ms, c.at_ms)).all()
    return read_clock(connection), [StoredOffset(*row) for row in rows]
