"""The path of every accepted event into the log. Counts events by type."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tentaculo.events.hub import Subscriber
from tentaculo.events.tail import EventTail
from tentaculo.model.clock import CorrectedTime
from tentaculo.model.event import Event, StoredEvent, StoreOutcome
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


Store = Callable[[Sequence[Event]], Awaitable[list[StoredEvent]]]
"""Stores events in one transaction and returns the result for each. Raises `Problem` if it cannot."""

Correct = Callable[[str, int, datetime], CorrectedTime | None]
"""The time by our own clock of an event of a source that states a time and is received at a moment; None if unknown."""


class EventPipeline:
    """Stores accepted events. The tail of the log publishes them.

    A caller that disconnects does not stop an event that has been accepted, so `tasks` own the work.
    """

    def __init__(
        self,
        store: Store,
        tail: EventTail,
        tasks: TaskGroup,
        cardinality: Cardinality,
        now: Callable[[], datetime],
        correct: Correct,
    ) -> None:
        self._store = store
        self._tail = tail
        self._tasks = tasks
        self._cardinality = cardinality
        self._now = now
        self._correct = correct

    def __repr__(self) -> str:
        return f"<EventPipeline: {self._tail!r}>"

    def now_ms(self) -> int:
        """The timestamp of an event that has none: milliseconds since 1970."""
        return int(self._now().timestamp() * 1000)

    def event(self, source: str, type_: str, payload: Mapping[str, Any], **members: Any) -> Event:
        """An event that is received now; `members` are the others of `Event`."""
        received_at, stated_ms = self._now(), members.get("stated_ms")
        corrected = None if stated_ms is None else self._correct(source, stated_ms, received_at)
        id_ = int(received_at.timestamp() * 1_000_000)
        return Event(id_, source, type_, payload, received_at, corrected=corrected, **members)

    async def accept(self, new: Sequence[Event], *, sender: Subscriber | None = None) -> list[StoredEvent]:
        """Store events in one transaction; returns the result for each. A broadcast is not sent to `sender`.

        Raises `Problem` when they cannot be stored; then they are not published either.
        """
        outcome: Problem | list[StoredEvent] = await asyncio.shield(
            self._tasks.start(self._keep(new, sender), "events")
        )
        if isinstance(outcome, Problem):
            raise outcome
        return outcome

    async def _keep(self, new: Sequence[Event], sender: Subscriber | None) -> Problem | list[StoredEvent]:
        with self._tail.storing(sender) as note:
            try:
                results: list[StoredEvent] = await self._store(new)
            except Problem as problem:
                return problem
            note([result.id for result in results if result.outcome is StoreOutcome.STORED])
        for event, result in zip(new, results, strict=True):
            if result.outcome is StoreOutcome.STORED:
                self._cardinality.count(event.type)
        return results
