"""Counts the requests that incidents cost, from the minutes of the history.

Minutes are kept for two days and incidents for years, so the counts are kept with the incidents.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from tentaculo.incidents.tracker import IncidentTracker
from tentaculo.model.history import MINUTE
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.events import Query
from tentaculo.store.history import read_failed

LATE = 30
"""Seconds after the end of a minute until every worker and machine has stored its requests."""
AT_ONCE = 10 * MINUTE
"""Seconds of history that are read at once: after the database was away there are many minutes to count."""


class FailedRequests:
    """Adds the failed requests of each minute to the incidents that were open in it.

    `run` gives the result of a query after everything that waits for the database was stored, or raises
    `StoreUnavailable`. Minutes of the history are kept for `kept`. `clock` is monotonic.
    """

    def __init__(
        self,
        run: Callable[[Query], Awaitable[Any]],
        incidents: IncidentTracker,
        now: Callable[[], datetime],
        kept: timedelta,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._incidents = incidents
        self._now = now
        self.kept = kept
        """How far back minutes are kept."""
        self._clock = clock
        self._not_before = float("-inf")

    def __repr__(self) -> str:
        return "<FailedRequests>"

    async def count(self) -> None:
        """Count the minutes that are complete. Raises `StoreUnavailable`, and then waits with the next count.

        What other machines and the queue of this one could not store meanwhile is stored first.
        """
        if self._clock() < self._not_before:
            return
        now = self._now()
        known = now - self.kept
        until = int(now.timestamp() - LATE) // MINUTE * MINUTE
        found = self._incidents.uncounted(known, datetime.fromtimestamp(until, UTC))
        if not found:
            return
        since = min(int(one.count_from.timestamp()) for one in found)
        until = min(until, since + AT_ONCE)
        services = {name for one in found for name in one.services}
        query = partial(read_failed, since=since, until=until, services=services)
        try:
            minutes = await self._run(query)
        except StoreUnavailable:
            self._not_before = self._clock() + LATE
            raise
        self._incidents.count_failed(minutes, known, datetime.fromtimestamp(until, UTC))
