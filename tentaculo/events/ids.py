"""Ids of events, which grow strictly."""

from __future__ import annotations

from collections.abc import Callable


class EventIds:
    """Ids that grow strictly: microseconds since 1970, or one more than the last where the clock stands or goes back.

    `now_us` is that clock. `last` is an id that all must exceed, 0 for none. Today's fit in 51 of 53 bits. Of several
    `workers` each takes the ids that leave its own remainder, so that no two take the same; `worker` counts from 1.
    """

    def __init__(self, now_us: Callable[[], int], last: int = 0, *, worker: int = 1, workers: int = 1) -> None:
        self._now_us = now_us
        self._last = last
        self._worker = worker
        self._workers = workers

    def __repr__(self) -> str:
        return f"<EventIds: last {self._last}>"

    def next(self) -> int:
        """A new id."""
        least = max(self._last + 1, self._now_us())
        self._last = least + (self._worker - least) % self._workers
        return self._last
