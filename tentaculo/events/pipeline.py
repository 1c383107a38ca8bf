"""The path of every accepted event: an id, the database, then the subscribers. Counts events by type."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tentaculo.events.hub import Hub, Subscriber
from tentaculo.model.event import Event
from tentaculo.model.failure import Problem
from tentaculo.tasks import TaskGroup

WINDOW_SECONDS = 300
BUCKET_SECONDS = 5
TYPES = 500
OTHER = "_other"


class Cardinality:
    """Events by type over a window that slides with the clock.

    `clock` gives seconds, monotonic. The window is kept in buckets of `bucket` seconds, so that no event older than
    `window` is ever counted, and one may leave up to `bucket` seconds early. At most `types` types are counted separately;
    while that many are in the window, new ones count as `_other`. Memory is bounded by types times buckets.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        window: int = WINDOW_SECONDS,
        bucket: int = BUCKET_SECONDS,
        types: int = TYPES,
    ) -> None:
        self.window = window
        self._clock = clock
        self._bucket = bucket
        self._span = window // bucket
        self._types = types
        self._buckets: deque[tuple[int, Counter[str]]] = deque()
        self._totals: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Cardinality: {len(self._totals)} types in {len(self._buckets)} buckets>"

    def count(self, type_: str) -> None:
        """Count one event of `type_`."""
        number = self._slide()
        if type_ not in self._totals and len(self._totals) - (OTHER in self._totals) >= self._types:
            type_ = OTHER
        if not self._buckets or self._buckets[-1][0] != number:
            self._buckets.append((number, Counter()))
        self._buckets[-1][1][type_] += 1
        self._totals[type_] += 1

    def counts(self) -> dict[str, int]:
        """Events in the window now, by type, the most frequent first."""
        self._slide()
        return dict(self._totals.most_common())

    def rate_per_min(self, count: int) -> float:
        """`count` events of the window as events per minute."""
        return round(count * 60 / self.window, 3)

    def _slide(self) -> int:
        number = int(self._clock() // self._bucket)
        while self._buckets and self._buckets[0][0] <= number - self._span:
            _, gone = self._buckets.popleft()
            self._totals -= gone  # Counter subtraction also drops the types that reach zero.
        return number


Store = Callable[[Event], Awaitable[int]]
"""Stores an event and returns the id that it got, which is greater than all before it. Raises `Problem` if it cannot."""


@dataclass(slots=True, eq=False)
class _Pending:
    event: Event
    sender: Subscriber | None
    is_settled: bool = False
    is_stored: bool = False


class EventPipeline:
    """Stores accepted events and publishes them in the order in which they were accepted, which is that of their ids.

    The order lets a subscriber that reconnects with its last id get all the events that it missed, and none twice.
    A caller that disconnects does not stop an event that has been accepted, so `tasks` own the work.
    """

    def __init__(
        self,
        hub: Hub,
        store: Store,
        tasks: TaskGroup,
        cardinality: Cardinality,
        now: Callable[[], datetime],
    ) -> None:
        self._hub = hub
        self._store = store
        self._tasks = tasks
        self._cardinality = cardinality
        self._now = now
        self._pending: deque[_Pending] = deque()

    def __repr__(self) -> str:
        return f"<EventPipeline: {len(self._pending)} events under way>"

    def now_ms(self) -> int:
        """The timestamp of an event that has none: milliseconds since 1970."""
        return int(self._now().timestamp() * 1000)

    async def accept(
        self,
        source: str,
        type_: str,
        payload: Mapping[str, Any],
        *,
        canonical: bool,
        broadcast: bool,
        metadata: Mapping[str, Any] | None = None,
        sender: Subscriber | None = None,
    ) -> Event:
        """Store a valid event and, if `broadcast`, publish it to all but `sender`. Returns when it is stored.

        Raises `Problem` when it cannot be stored; then it is not published either.
        """
        received_at = self._now()
        least = int(received_at.timestamp() * 1_000_000)
        event = Event(least, source, type_, payload, received_at, canonical, broadcast, metadata or {})
        pending = _Pending(event, sender)
        self._pending.append(pending)
        problem = await asyncio.shield(self._tasks.start(self._keep(pending), f"event {event.id}"))
        if problem is not None:
            raise problem
        return pending.event

    async def _keep(self, pending: _Pending) -> Problem | None:
        try:
            pending.event = replace(pending.event, id=await self._store(pending.event))
            pending.is_stored = True
        except Problem as problem:
            return problem
        finally:
            pending.is_settled = True
            self._publish_settled()
        return None

    def _publish_settled(self) -> None:
        while self._pending and self._pending[0].is_settled:
            pending = self._pending.popleft()
            if pending.is_stored:
                self._cardinality.count(pending.event.type)
            if pending.is_stored and pending.event.broadcast:
                self._hub.publish(pending.event, exclude=pending.sender)
