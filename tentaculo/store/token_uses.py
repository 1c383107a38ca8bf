"""When each token was used last, in the database, where all workers and machines note it.

The times are those of the database's clock: those of the machines may differ.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import Connection, delete, select

from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.events import Query
from tentaculo.store.tables import dialect_module, token_uses
from tentaculo.store.tickets import clock_seconds

KEPT = 400 * 24 * 3600
"""Seconds after which the row of a token that nobody uses is removed."""


def note_uses(connection: Connection, ages: Mapping[str, int]) -> None:
    """Note that tokens, by their fingerprints, were used so many seconds ago. A later use that is noted already stays."""
    c, now = token_uses.c, clock_seconds(connection)
    insert = dialect_module(connection).insert
    for token, age in sorted(ages.items()):
        made = insert(token_uses).values(token=token, used_at=now - age)
        connection.execute(
            made.on_conflict_do_update(
                index_elements=[c.token],
                set_={"used_at": made.excluded.used_at},
                where=c.used_at < made.excluded.used_at,
            )
        )
    connection.execute(delete(token_uses).where(c.used_at < now - KEPT))


def last_uses(connection: Connection) -> dict[str, int]:
    """The seconds since the last use of each token that was used, by its fingerprint."""
    c, now = token_uses.c, clock_seconds(connection)
    return {token: max(int(age), 0) for token, age in connection.execute(select(c.token, now - c.used_at))}


class TokenUseTable:
    """The last uses, for one process. Nothing here raises while the database is away."""

    def __init__(self, run: Callable[[Query], Awaitable[Any]]) -> None:
        """`run` gives the result of a query in a transaction of its own, and raises `StoreUnavailable`."""
        self._run = run

    def __repr__(self) -> str:
        return "<TokenUseTable>"

    async def note(self, ages: Mapping[str, int]) -> bool:
        """As `note_uses`; False where that failed or is uncertain."""
        try:
            await self._run(lambda connection: note_uses(connection, ages))
        except StoreUnavailable:
            return False
        return True

    async def read(self) -> Mapping[str, int] | None:
        """As `last_uses`; None while the database is away."""
        try:
            found: dict[str, int] = await self._run(last_uses)
        except StoreUnavailable:
            return None
        return found
