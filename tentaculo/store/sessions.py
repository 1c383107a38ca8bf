"""Sessions of the status pages in the database, where all workers and machines find them.

Ages are measured by the clock of the database: those of the machines may differ.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.events import Query
from tentaculo.store.tables import sessions
from tentaculo.store.tickets import clock_seconds

MOST_SESSIONS = 1000
"""Rows. The session that was used longest ago gives way: a token makes any number."""
_BATCH = 500
"""Rows of one statement."""
SessionRow = tuple[str, int, int]
"""Fingerprint of the token, seconds since the session was made, and since it was last used."""


def add_session(connection: Connection, digest: str, token: str, lifetime: int) -> None:
    """Store a new session, and remove those that are older than `lifetime` seconds or too many."""
    c, now = sessions.c, clock_seconds(connection)
    newest = select(c.hash).order_by(c.used_at.desc(), c.hash).limit(MOST_SESSIONS - 1)
    connection.execute(delete(sessions).where((c.created_at <= now - lifetime) | c.hash.not_in(newest)))
    connection.execute(insert(sessions).values(hash=digest, token=token, created_at=now, used_at=now))


def read_sessions(connection: Connection, digests: Sequence[str]) -> dict[str, SessionRow]:
    """Those of `digests` that are there."""
    c, now = sessions.c, clock_seconds(connection)
    found: dict[str, SessionRow] = {}
    for start in range(0, len(digests), _BATCH):
        query = select(c.hash, c.token, now - c.created_at, now - c.used_at)
        for digest, token, age, idle in connection.execute(query.where(c.hash.in_(digests[start : start + _BATCH]))):
            found[digest] = (token, int(age), int(idle))
    return found


def mark_sessions(connection: Connection, digests: Sequence[str]) -> None:
    """Note that these are used now."""
    for start in range(0, len(digests), _BATCH):
        chosen = update(sessions).where(sessions.c.hash.in_(digests[start : start + _BATCH]))
        connection.execute(chosen.values(used_at=clock_seconds(connection)))


def remove_sessions(connection: Connection, digests: Sequence[str]) -> None:
    """Remove these sessions."""
    for start in range(0, len(digests), _BATCH):
        connection.execute(delete(sessions).where(sessions.c.hash.in_(digests[start : start + _BATCH])))


class SessionTable:
    """The sessions of all workers and machines, for one of them. Nothing here raises while the database is away."""

    def __init__(self, run: Callable[[Query], Awaitable[Any]]) -> None:
        """`run` gives the result of a query in a transaction of its own, and raises `StoreUnavailable`."""
        self._run = run

    def __repr__(self) -> str:
        return "<SessionTable>"

    async def add(self, digest: str, token: str, lifetime: int) -> bool:
        """Store a new session of the token with the fingerprint `token`; False where that failed or is uncertain."""
        return await self._write(lambda connection: add_session(connection, digest, token, lifetime))

    async def read(self, digests: Sequence[str]) -> Mapping[str, SessionRow] | None:
        """Those of `digests` that are there; None while the database is away."""
        try:
            found: dict[str, SessionRow] = await self._run(lambda connection: read_sessions(connection, digests))
        except StoreUnavailable:
            return None
        return found

    async def mark(self, digests: Sequence[str]) -> bool:
        """Note that these are used now; False where that failed or is uncertain."""
        return await self._write(lambda connection: mark_sessions(connection, digests))

    async def remove(self, digests: Sequence[str]) -> bool:
        """Remove sessions; False where that failed or is uncertain."""
        return await self._write(lambda connection: remove_sessions(connection, digests))

    async def _write(self, work: Query) -> bool:
        try:
            await self._run(work)
        except StoreUnavailable:
            return False
        return True
