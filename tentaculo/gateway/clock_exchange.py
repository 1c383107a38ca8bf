"""What the leader's probes say about the clocks of services, for the machines that follow and do not probe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tentaculo.events.clock_offsets import KNOWN_FOR, Bounds, ClockOffsets
from tentaculo.health.steady_clock import time_since_boot
from tentaculo.store.client import StoreClient
from tentaculo.store.clocks import StoredOffset, read_clock, read_offsets, store_offsets
from tentaculo.store.events import Query

EVERY = 5.0
"""Seconds between two exchanges."""


class ClockExchange:
    """Stores the offsets of this machine, or takes those of another one, at most every `EVERY` seconds.

    Both raise `StoreUnavailable`. Each side knows the clock of the database to the time of one query, so that the
    interval of a follower is wider than the leader's by the time of two.
    """

    def __init__(
        self, store: StoreClient, offsets: ClockOffsets, elapsed: Callable[[], float] = time_since_boot
    ) -> None:
        self._store = store
        self._offsets = offsets
        self._elapsed = elapsed
        self._due = 0.0

    def __repr__(self) -> str:
        return f"<ClockExchange of {self._offsets!r}>"

    async def store(self) -> None:
        """Store what this machine knows, as the leader."""
        if not self._is_due():
            return
        moment, database, _ = await self._ask(read_clock)
        known = self._offsets.endpoint_bounds()
        rows = [
            StoredOffset(one.service, one.authority, bounds.low - database.high, bounds.high - database.low, moment)
            for one, bounds in known.items()
        ]
        await self._store.run_as_holder(partial(store_offsets, offsets=rows))

    async def read(self) -> None:
        """Take what the leader has stored."""
        if not self._is_due():
            return
        (moment, rows), database, received = await self._ask(read_offsets)
        endpoints = {(one.service, one.authority): one for one in self._offsets.endpoints}
        for row in rows:
            endpoint, age = endpoints.get((row.service, row.endpoint)), max(0.0, (moment - row.at_ms) / 1000)
            if endpoint is not None and age <= KNOWN_FOR:
                bounds = Bounds(row.low_ms + database.low, row.high_ms + database.high).widened(age)
                self._offsets.note_bounds(endpoint, bounds, received)

    def _is_due(self) -> bool:
        now = self._elapsed()
        if now < self._due:
            return False
        self._due = now + EVERY
        return True

    async def _ask(self, query: Query) -> tuple[Any, Bounds, float]:
        """The result, the database's clock less the one that nobody sets, and when the result came by that one."""
        sent = self._elapsed()
        result = await self._store.run(query)
        received = self._elapsed()
        moment = result if isinstance(result, int) else result[0]
        # The clock was read between the two, and is rounded down.
        return result, Bounds(moment - received * 1000, moment + 1 - sent * 1000), received
