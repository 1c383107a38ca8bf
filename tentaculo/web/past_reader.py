"""Reads the past for the pages: bounded in time, and seldom however many ask for it."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

WAIT = 1.0
"""Seconds that a page waits for the database before it is shown without the past."""
KEPT = 20.0
"""Seconds for which what was read is reused: it changes once a minute. A failed read is not repeated earlier."""

T = TypeVar("T")


class PastReader(Generic[T]):
    """Keeps what was read, by a key. `problem` is why the database cannot be used, None where it can; `clock` is
    monotonic."""

    def __init__(
        self,
        problem: Callable[[], str | None],
        clock: Callable[[], float] = time.monotonic,
        *,
        kept: float = KEPT,
        most: int = 64,
        wait: float = WAIT,
    ) -> None:
        """At most `most` results are kept, each for `kept` seconds. One that takes longer than `wait` seconds is None."""
        self._wait = wait
        self._kept = kept
        self._most = most
        self._problem = problem
        self._clock = clock
        self._found: OrderedDict[Hashable, tuple[float, T | None]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<PastReader: {len(self._found)} kept>"

    async def read(self, key: Hashable, query: Callable[[], Awaitable[T]]) -> T | None:
        """The result of `query` for `key`, at most as old as it is kept; None where it failed or took too long."""
        read_at, found = self._found.get(key, (float("-inf"), None))
        if self._clock() - read_at < self._kept:
            return found
        try:
            async with asyncio.timeout(self._wait):
                found = await query()
        except Exception as error:  # noqa: BLE001
            # Whatever the store does, and however it fails, the page shows the services.
            log.warning("history not shown", error=type(error).__name__, problem=self._problem())
            found = None
        self._found[key] = self._clock(), found
        self._found.move_to_end(key)
        if len(self._found) > self._most:
            self._found.popitem(last=False)
        return found
