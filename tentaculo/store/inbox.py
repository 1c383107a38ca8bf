"""What waits for the writer thread: bounded, filled by the event loop, emptied by the thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from threading import Condition
from typing import Any, Generic, TypeVar

from tentaculo.model import ServiceView
from tentaculo.store.repo import EventRow, Query

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Ask(Generic[T]):
    """Something that a coroutine waits for: an event's row to be stored, or a query to be answered."""

    what: T
    answer: asyncio.Future[Any]


@dataclass(slots=True)
class Work:
    """What the thread takes at once. It removes what it has done, so that the rest can be told of a failure."""

    events: list[Ask[EventRow]] = field(default_factory=list)
    reads: list[Ask[Query]] = field(default_factory=list)
    views: dict[str, ServiceView] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.events or self.reads or self.views)


class Inbox:
    """A bounded queue between the event loop and the writer thread. Nothing here waits but `take` and `pause`.

    Of each service only the newest state is kept: while the database is away the others would be stale anyway.
    """

    def __init__(self, asks: int, views: int) -> None:
        """`asks` bounds the events, and the queries, that wait; `views` bounds the services."""
        self._max_asks = asks
        self._max_views = views
        self._events: deque[Ask[EventRow]] = deque()
        self._reads: deque[Ask[Query]] = deque()
        self._views: dict[str, ServiceView] = {}
        self._changed = Condition()
        self._closed = False
        self._dropped = 0

    def __repr__(self) -> str:
        return f"<Inbox: {len(self._events)} events, {len(self._reads)} reads, {len(self._views)} services>"

    @property
    def dropped(self) -> int:
        """Events refused, and states of services that a newer one replaced before the table saw them."""
        return self._dropped

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is taken in."""
        return self._closed

    def put_event(self, ask: Ask[EventRow]) -> bool:
        """Queue an event; False where the queue is full or closed."""
        return self._put(self._events, ask)

    def put_read(self, ask: Ask[Query]) -> bool:
        """Queue a query; False where the queue is full or closed."""
        return self._put(self._reads, ask)

    def put_views(self, views: Iterable[ServiceView]) -> None:
        """Queue the newest states of services; the oldest ones are dropped where there is no room."""
        with self._changed:
            for view in views:
                self._dropped += self._closed or self._views.pop(view.name, None) is not None
                if not self._closed:
                    self._views[view.name] = view
            self._trim()
            self._changed.notify()

    def put_back(self, views: dict[str, ServiceView]) -> None:
        """Return states that could not be written, unless newer ones came meanwhile."""
        with self._changed:
            self._dropped += sum(1 for name in views if name in self._views)
            self._views = views | self._views
            self._trim()

    def count_dropped(self, number: int) -> None:
        """Count what was refused or lost elsewhere."""
        with self._changed:
            self._dropped += number

    def take(self, wait: float, batch: int) -> Work | None:
        """What waits, at most `batch` events of it; empty after `wait` seconds without any; None when it is all over."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_work or self._closed, wait)
            if self._closed and not self._has_work:
                return None
            events = [self._events.popleft() for _ in range(min(batch, len(self._events)))]
            work = Work(events, list(self._reads), self._views)
            self._reads.clear()
            self._views = {}
            return work

    def take_asks(self) -> Sequence[Ask[Any]]:
        """Everything that somebody waits for, to be refused."""
        with self._changed:
            asks: list[Ask[Any]] = [*self._events, *self._reads]
            self._events.clear()
            self._reads.clear()
            return asks

    def pause(self, seconds: float) -> None:
        """Wait `seconds`, or until closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)

    def close(self) -> None:
        """Take nothing more in, and wake the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def _has_work(self) -> bool:
        return bool(self._events or self._reads or self._views)

    def _put(self, queue: deque[Ask[T]], ask: Ask[T]) -> bool:
        with self._changed:
            if self._closed or len(queue) >= self._max_asks:
                return False
            queue.append(ask)
            self._changed.notify()
            return True

    def _trim(self) -> None:
        while len(self._views) > self._max_views:
            del self._views[next(iter(self._views))]
            self._dropped += 1
