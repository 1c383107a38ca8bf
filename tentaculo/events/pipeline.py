"""The path of every accepted event into the log. Counts events by type."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache

from tentaculo.events.hub import Subscriber
from tentaculo.events.schemas import Envelope
from tentaculo.events.tail import EventTail
from tentaculo.model.clock import CorrectedTime
from tentaculo.model.event import Event, StoredEvent, StoreOutcome

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

    def count(self, types: Sequence[str]) -> None:
        """Count an event of each of `types`."""
        number, totals = self._slide(), self._totals
        if not self._buckets or self._buckets[-1][0] != number:
            self._buckets.append((number, Counter()))
        bucket = self._buckets[-1][1]
        counted = Counter(types) if len(types) > 1 else dict.fromkeys(types, 1)
        for type_, events in counted.items():
            known = type_
            if type_ not in totals and len(totals) - (OTHER in totals) >= self._types:
                known = OTHER
            bucket[known] += events
            totals[known] += events

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


Store = Callable[[Sequence[Event]], asyncio.Future[list[StoredEvent]]]
"""Stores events in one transaction. The future gets the result for each, or a `Problem`."""
_STORED = StoreOutcome.STORED


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return int(moment.timestamp() * 1000)


@lru_cache(maxsize=8)
def least_id(received_at: datetime) -> int:
    """The least id of an event received at this moment: microseconds since 1970. The events of a batch have one moment."""
    return int(received_at.timestamp() * 1_000_000)


Correct = Callable[[str, int, datetime], CorrectedTime | None]
"""The time by our own clock of an event of a source that states a time and is received at a moment; None if unknown."""


class EventPipeline:
    """Stores accepted events. The tail of the log publishes them.

    A caller that disconnects does not stop an event that has been accepted.
    """

    def __init__(
        self,
        store: Store,
        tail: EventTail,
        cardinality: Cardinality,
        now: Callable[[], datetime],
        correct: Correct,
    ) -> None:
        self._store = store
        self._tail = tail
        self._cardinality = cardinality
        self._now = now
        self._correct = correct

    def __repr__(self) -> str:
        return f"<EventPipeline: {self._tail!r}>"

    def now(self) -> datetime:
        """The time of receipt of an event that arrives now."""
        return self._now()

    def event(self, sent: Envelope, received_at: datetime) -> Event:
        """The event that a producer sent, received at this moment."""
        stated_ms = sent.stated_ms
        return Event(
            id=least_id(received_at),
            source=sent.source,
            type=sent.type,
            payload=sent.payload,
            received_at=received_at,
            canonical=sent.canonical,
            broadcast=sent.broadcast,
            metadata=sent.metadata,
            key=sent.key,
            digest=sent.digest,
            severity=sent.severity,
            stated_ms=stated_ms,
            corrected=None if stated_ms is None else self._correct(sent.source, stated_ms, received_at),
        )

    async def accept(self, new: Sequence[Event], *, sender: Subscriber | None = None) -> list[StoredEvent]:
        """Store events as `submit` does. Returns the result for each, or raises `Problem`."""
        return await asyncio.shield(self.submit(new, sender=sender))

    def submit(self, new: Sequence[Event], *, sender: Subscriber | None = None) -> asyncio.Future[list[StoredEvent]]:
        """Store events in one transaction; the future gets the result for each. A broadcast is not sent to `sender`.

        The future gets a `Problem` when they cannot be stored; then they are not published either.
        """
        release = None if sender is None else self._tail.hold()
        stored = self._store(new)
        stored.add_done_callback(lambda _: self._note(new, stored, sender, release))
        return stored

    def _note(
        self,
        new: Sequence[Event],
        stored: asyncio.Future[list[StoredEvent]],
        sender: Subscriber | None,
        release: Callable[[], None] | None,
    ) -> None:
        if not stored.cancelled() and stored.exception() is None:
            results = stored.result()
            self._tail.note_stored([result.id for result in results if result.outcome is _STORED], sender)
            pairs = zip(new, results, strict=True)
            self._cardinality.count([event.type for event, result in pairs if result.outcome is _STORED])
        if release is not None:
            release()
