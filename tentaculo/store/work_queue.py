"""The bounded queue of work for the database thread: filled by the event loop, emptied by the thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from threading import Condition
from time import monotonic
from typing import Any, Generic, TypeVar

from tentaculo.model.health import ServiceView
from tentaculo.model.history import Period
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.events import EventRetention, EventRow, Query
from tentaculo.store.history import HistoryRow, RollUpRequest, history_row
from tentaculo.store.route_history import route_rows

T = TypeVar("T")

MOST_BYTES = 32 * 1024 * 1024
"""Bytes of the rows of events that wait: `events.queue` bounds their number, and each may be large."""


@dataclass(frozen=True, slots=True, eq=False)
class PendingWork(Generic[T]):
    """Work that a coroutine waits for: rows of events to store together, or a query to run."""

    what: T
    answer: asyncio.Future[Any]


def complete(
    asks: Sequence[PendingWork[Any]], results: Sequence[object], reason: str | StoreUnavailable | None = None
) -> None:
    """Complete each future on its own loop with its result, or all with `StoreUnavailable` for `reason`."""
    if not asks:
        return

    def finish() -> None:
        for ask, result in zip(asks, results, strict=True):
            if ask.answer.done():
                continue
            if reason is None:
                ask.answer.set_result(result)
            else:
                ask.answer.set_exception(StoreUnavailable(reason) if isinstance(reason, str) else reason)

    try:
        asks[0].answer.get_loop().call_soon_threadsafe(finish)
    except RuntimeError:
        # The loop is closed: no caller waits any more.
        pass


@dataclass(slots=True)
class Work:
    """The work that the thread takes at once. It removes what is done, so that after a failure the rest can be refused."""

    events: list[PendingWork[Sequence[EventRow]]] = field(default_factory=list)
    reads: list[PendingWork[Query]] = field(default_factory=list)
    views: dict[str, ServiceView] = field(default_factory=dict)
    history: list[HistoryRow] = field(default_factory=list)
    roll_up: RollUpRequest | None = None
    trim: EventRetention | None = None

    def __bool__(self) -> bool:
        return bool(self.events or self.reads or self.views or self.history or self.roll_up or self.trim)


class WorkQueue:
    """A bounded queue between the event loop and the writer thread. Nothing here waits but `take` and `pause`.

    Of each service only the newest state is kept: while the database is away the others would be stale anyway.
    """

    def __init__(self, asks: int, views: int, history: int) -> None:
        """`asks` bounds the rows of events, and the queries, that wait; `views` the services; `history` its rows."""
        self._max_asks = asks
        self._max_views = views
        self._max_history = history
        self._events: deque[PendingWork[Sequence[EventRow]]] = deque()
        self._rows = 0
        self._bytes = 0
        self._reads: deque[PendingWork[Query]] = deque()
        self._views: dict[str, ServiceView] = {}
        self._history: deque[HistoryRow | Period] = deque()
        self._roll_up: RollUpRequest | None = None
        self._trim_request: EventRetention | None = None
        self._changed = Condition()
        self._closed = False
        self._dropped = 0

    def __repr__(self) -> str:
        asks = f"{self._rows} events, {len(self._reads)} reads"
        return f"<WorkQueue: {asks}, {len(self._views)} services, {len(self._history)} rows of history>"

    @property
    def dropped(self) -> int:
        """Events refused, states of services replaced before the table saw them, and rows of history not stored."""
        return self._dropped

    @property
    def is_closed(self) -> bool:
        """Whether no more work is accepted."""
        return self._closed

    @property
    def has_events(self) -> bool:
        """Whether events wait."""
        return bool(self._events)

    @property
    def no_room(self) -> str:
        """Why work is refused, one sentence."""
        return "The gateway is stopping." if self._closed else "Too many requests wait for the database."

    def put_events(self, ask: PendingWork[Sequence[EventRow]]) -> bool:
        """Queue rows of events; False where the queue is closed, or rows that wait leave no room for these."""
        rows, size = len(ask.what), _bytes(ask)
        with self._changed:
            is_full = self._rows + rows > self._max_asks or self._bytes + size > MOST_BYTES
            if self._closed or (self._events and is_full):
                return False
            self._events.append(ask)
            self._rows += rows
            self._bytes += size
            self._changed.notify()
            return True

    def put_read(self, ask: PendingWork[Query]) -> bool:
        """Queue a query; False where the queue is full or closed."""
        with self._changed:
            if self._closed or len(self._reads) >= self._max_asks:
                return False
            self._reads.append(ask)
            self._changed.notify()
            return True

    def put_views(self, views: Iterable[ServiceView]) -> None:
        """Queue the newest states of services; the oldest ones are dropped where there is no room."""
        with self._changed:
            for view in views:
                self._dropped += self._closed or self._views.pop(view.name, None) is not None
                if not self._closed:
                    self._views[view.name] = view
            self._trim()
            self._changed.notify()

    def put_history(self, rows: Iterable[HistoryRow | Period]) -> None:
        """Queue rows of history; the oldest ones are dropped where there is no room. `take` makes rows of periods."""
        with self._changed:
            rows = list(rows)
            self._dropped += len(rows) if self._closed else 0
            self._history.extend(() if self._closed else rows)
            self._trim()
            self._changed.notify()

    def put_roll_up(self, roll_up: RollUpRequest) -> None:
        """Queue a roll-up of history, in place of an earlier request that still waits."""
        with self._changed:
            self._roll_up = roll_up
            self._changed.notify()

    def put_trim(self, kept: EventRetention) -> None:
        """Queue the deletion of events, in place of an earlier request that still waits."""
        with self._changed:
            self._trim_request = kept
            self._changed.notify()

    def put_back(self, work: Work) -> None:
        """Return work that failed, except queries, to be tried again; states only where no newer ones have come meanwhile."""
        with self._changed:
            waiting = [ask for ask in work.events if not ask.answer.done()]
            self._events.extendleft(reversed(waiting))
            self._rows += sum(len(ask.what) for ask in waiting)
            self._bytes += sum(map(_bytes, waiting))
            self._dropped += sum(1 for name in work.views if name in self._views)
            self._views = work.views | self._views
            self._history.extendleft(reversed(work.history))
            self._roll_up = self._roll_up or work.roll_up
            self._trim()

    def count_dropped(self, number: int) -> None:
        """Count rows that were refused or lost elsewhere."""
        with self._changed:
            self._dropped += number

    def take(self, wait: float, batch: int) -> Work | None:
        """What waits, about `batch` of each kind of row; empty after `wait` seconds without any; None when all is over.

        Once closed, history is not rolled up any more: the next start does it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._has_work or self._closed, wait)
            if self._closed and not self._has_work:
                return None
            events = self._take_events(batch)
            history = [self._history.popleft() for _ in range(min(batch, len(self._history)))]
            work = Work(events, list(self._reads), self._views, [], self._roll_up, self._trim_request)
            self._reads.clear()
            self._views, self._roll_up, self._trim_request = {}, None, None
        # Neither on the event loop nor with its lock: a thousand take 3 ms.
        work.history = [_history_row(one) for one in history]
        return work

    def take_reads(self) -> Sequence[PendingWork[Any]]:
        """All queries, to be refused."""
        with self._changed:
            reads = list(self._reads)
            self._reads.clear()
            return reads

    def take_asks(self) -> Sequence[PendingWork[Any]]:
        """All work that a coroutine waits for, to be refused."""
        with self._changed:
            return [*self._take_events(self._rows), *self.take_reads()]

    def pause(self, seconds: float, with_events: float) -> None:
        """Wait `seconds`, or until closed; only `with_events` seconds where events wait, or come meanwhile."""
        began = monotonic()
        with self._changed:
            while not self._closed:
                left = began + (min(seconds, with_events) if self.has_events else seconds) - monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)

    def close(self) -> None:
        """Accept no more work, and wake the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def _has_work(self) -> bool:
        has_upkeep = (self._roll_up is not None or self._trim_request is not None) and not self._closed
        return bool(self._events or self._reads or self._views or self._history or has_upkeep)

    def _take_events(self, batch: int) -> list[PendingWork[Sequence[EventRow]]]:
        taken, rows = list[PendingWork[Sequence[EventRow]]](), 0
        while self._events and (not taken or rows + len(self._events[0].what) <= batch):
            taken.append(self._events.popleft())
            rows += len(taken[-1].what)
        self._rows -= rows
        self._bytes -= sum(map(_bytes, taken))
        return taken

    def _trim(self) -> None:
        while len(self._views) > self._max_views:
            del self._views[next(iter(self._views))]
            self._dropped += 1
        while len(self._history) > self._max_history:
            self._history.popleft()
            self._dropped += 1


def _history_row(one: HistoryRow | Period) -> HistoryRow:
    return {**history_row(one), "routes": route_rows(one)} if isinstance(one, Period) else one


def _bytes(ask: PendingWork[Sequence[EventRow]]) -> int:
    return sum([row.size for row in ask.what])
