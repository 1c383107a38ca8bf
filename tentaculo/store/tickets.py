"""Tickets in the database, where all workers and machines find them.

A ticket is redeemed by the one `DELETE` that removes its row. Its lifetime is measured by the clock of the database: those
of the machines may differ.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, cast, delete, extract, func, insert, select

from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.events import Query
from tentaculo.store.tables import tickets

_BATCH = 500
"""Expired rows that are removed at a time."""


def add_ticket(connection: Connection, digest: str, issuer: str, token: str, lifetime: int) -> None:
    """Store a ticket of the token with the fingerprint `token` that expires in `lifetime` seconds, and remove expired ones."""
    forget_expired(connection)
    connection.execute(
        insert(tickets).values(
            hash=digest, expires_at=clock_seconds(connection) + lifetime, issued_by=issuer, token=token
        )
    )


def take_ticket(connection: Connection, digest: str) -> str:
    """The token's fingerprint of a ticket, which is gone afterwards; empty where there was none that had not expired.

    A ticket that an older version gave has none, and is worth nothing.
    """
    c = tickets.c
    is_it = (c.hash == digest, c.expires_at > clock_seconds(connection))
    # An invented ticket, which costs its sender nothing, is not to hold up those that write.
    if (row := connection.execute(select(c.token).where(*is_it)).first()) is None:
        return ""
    is_taken = connection.execute(delete(tickets).where(*is_it)).rowcount == 1
    return row.token or "" if is_taken else ""


def remove_tickets(connection: Connection, digests: Sequence[str]) -> None:
    """Remove these tickets, and expired ones."""
    for start in range(0, len(digests), _BATCH):
        connection.execute(delete(tickets).where(tickets.c.hash.in_(digests[start : start + _BATCH])))
    forget_expired(connection)


def unused_tickets(connection: Connection, issuer: str) -> set[str]:
    """The tickets that the process `issuer` gave and nobody has redeemed."""
    return set(connection.scalars(select(tickets.c.hash).where(tickets.c.issued_by == issuer)))


def forget_expired(connection: Connection) -> None:
    """Remove expired tickets, some hundreds at most; those that another transaction is removing are left to it."""
    c = tickets.c
    expired = (
        select(c.hash).where(c.expires_at <= clock_seconds(connection)).limit(_BATCH).with_for_update(skip_locked=True)
    )
    connection.execute(delete(tickets).where(c.hash.in_(expired)))


class TicketTable:
    """The tickets of all workers and machines, for one of them. Nothing here raises while the database is away."""

    def __init__(self, run: Callable[[Query], Awaitable[Any]]) -> None:
        """`run` gives the result of a query in a transaction of its own, and raises `StoreUnavailable`."""
        self._run = run

    def __repr__(self) -> str:
        return "<TicketTable>"

    async def add(self, digest: str, issuer: str, token: str, lifetime: int) -> bool:
        """Store a ticket of a token, by its fingerprint, for `lifetime` seconds; False where that failed or is uncertain."""
        try:
            await self._run(lambda connection: add_ticket(connection, digest, issuer, token, lifetime))
        except StoreUnavailable:
            return False
        return True

    async def take(self, digest: str) -> str | None:
        """As `take_ticket`; None while the database is away."""
        try:
            token: str = await self._run(lambda connection: take_ticket(connection, digest))
        except StoreUnavailable:
            return None
        return token

    async def remove(self, digests: Sequence[str]) -> bool:
        """Remove tickets; False where that failed or is uncertain."""
        try:
            await self._run(lambda connection: remove_tickets(connection, digests))
        except StoreUnavailable:
            return False
        return True

    async def unused(self, issuer: str) -> set[str] | None:
        """The tickets of `issuer` that are there. None while the database is away."""
        try:
            found: set[str] = await self._run(lambda connection: unused_tickets(connection, issuer))
        except StoreUnavailable:
            return None
        return found


def clock_seconds(connection: Connection) -> ColumnElement[int]:
    """The seconds since 1970 of the database's clock."""
    if connection.dialect.name == "sqlite":
        return cast(func.strftime("%s", "now"), BigInteger)
    return cast(func.floor(extract("epoch", func.clock_timestamp())), BigInteger)
