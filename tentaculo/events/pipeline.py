"""The path of every accepted event into the log. Counts events by type."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

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
MOST_TOGETHER = 250
"""Events of a turn that are passed on together, unless one request has more. Where too many wait, they are refused together."""


class Receipt(NamedTuple):
    """When an event was received."""

    at: datetime
    us: int
    """Microseconds since 1970, which is the least id that the event may get."""
    ms: int
    """Milliseconds since 1970."""


Correct = Callable[[str, int, datetime], CorrectedTime | None]
"""The time by our own clock of an event of a source that states a time and is received at a moment; None if unknown."""
Done = Callable[[Sequence[StoredEvent] | BaseException], None]
"""Takes the result for each event of a request, or the `Problem` for which none is stored."""


class _Request(NamedTuple):
    """Events that are stored together, and what waits for that."""

    new: Sequence[Event]
    done: Done
    sender: Subscriber | None
    release: Callable[[], None] | None
    """Ends the hold of the tail for the sender."""


class EventPipeline:
    """Stores accepted events. The tail of the log publishes them.

    All that is submitted in one turn of the event loop is stored together: woken by the first of 64 events, the database
    thread would commit that one alone, and each commit waits for the disk. A caller that disconnects does not stop an
    event that has been accepted.
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
        self._turn: list[_Request] = []

    def __repr__(self) -> str:
        return f"<EventPipeline: {len(self._turn)} requests of this turn, {self._tail!r}>"

    def receive(self) -> Receipt:
        """The receipt of an event that arrives now."""
        at = self._now()
        us = int(at.timestamp() * 1_000_000)
        return Receipt(at, us, us // 1000)

    def event(self, sent: Envelope, receipt: Receipt) -> Event:
        """The event that a producer sent."""
        stated_ms = sent.stated_ms
        return Event(
            id=receipt.us,
            source=sent.source,
            type=sent.type,
            payload=sent.payload,
            received_at=receipt.at,
            canonical=sent.canonical,
            broadcast=sent.broadcast,
            metadata=sent.metadata,
            key=sent.key,
            digest=sent.digest,
            severity=sent.severity,
            stated_ms=stated_ms,
            corrected=None if stated_ms is None else self._correct(sent.source, stated_ms, receipt.at),
        )

    async def accept(self, new: Sequence[Event], *, sender: Subscriber | None = None) -> Sequence[StoredEvent]:
        """Store events as `submit` does. Returns the result for each, or raises `Problem`."""
        stored: asyncio.Future[Sequence[StoredEvent]] = asyncio.get_running_loop().create_future()

        def finish(results: Sequence[StoredEvent] | BaseException) -> None:
            if stored.done():
                return
            if isinstance(results, BaseException):
                stored.set_exception(results)
            else:
                stored.set_result(results)

        self.submit(new, finish, sender=sender)
        return await stored

    def submit(self, new: Sequence[Event], done: Done, *, sender: Subscriber | None = None) -> None:
        """Store events in one transaction, then call `done`. A broadcast is not sent to `sender`.

        `done` gets the result for each, or the `Problem` for which they are neither stored nor published.
        """
        if not self._turn:
            asyncio.get_running_loop().call_soon(self._store_turn)
        self._turn.append(_Request(new, done, sender, None if sender is None else self._tail.hold()))

    def _store_turn(self) -> None:
        turn, self._turn = self._turn, []
        together, events = list[_Request](), list[Event]()
        for request in turn:
            if events and len(events) + len(request.new) > MOST_TOGETHER:
                self._store_together(together, events)
                together, events = [], []
            together.append(request)
            events += request.new
        self._store_together(together, events)

    def _store_together(self, requests: Sequence[_Request], events: Sequence[Event]) -> None:
        self._store(events).add_done_callback(lambda stored: self._finish(requests, events, stored))

    def _finish(
        self, requests: Sequence[_Request], events: Sequence[Event], stored: asyncio.Future[list[StoredEvent]]
    ) -> None:
        error = stored.exception()
        results = [] if error is not None else stored.result()
        senders = dict[int, Subscriber]()
        call_soon, start = asyncio.get_running_loop().call_soon, 0
        for new, done, sender, release in requests:
            own = results[start : start + len(new)]
            start += len(new)
            # In a callback of its own: an error in one costs no other request.
            call_soon(done, own if error is None else error)
            if sender is not None and release is not None:
                senders.update((id_, sender) for id_, outcome in own if outcome is _STORED)
                release()
        if results:
            self._tail.note_stored([id_ for id_, outcome in results if outcome is _STORED], senders)
            pairs = zip(events, results, strict=True)
            self._cardinality.count([event.type for event, (_, outcome) in pairs if outcome is _STORED])
