"""Gathers the events of one turn of the event loop for the database thread, and limits how long they wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tentaculo.model.event import StoredEvent
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.events import EventRow
from tentaculo.store.work_queue import PendingWork, WorkQueue

LATE = "The database did not respond in time."


class _Waiting(NamedTuple):
    """Events that wait for the database."""

    until: float
    """When they wait no longer, by the clock of the loop."""
    answer: asyncio.Future[list[StoredEvent]]
    rows: int


class EventBatcher:
    """Passes events to `queue`: all that arrive in one turn of the event loop together.

    The thread commits what waits when it wakes up. Woken by the first of 64 events, it would commit that one alone, and
    each commit waits for the disk. An event waits for `wait` seconds at most, then its future gets `StoreUnavailable`
    with what `problem` says.
    """

    def __init__(self, queue: WorkQueue, wait: float, problem: Callable[[], str | None]) -> None:
        self._queue = queue
        self._wait = wait
        self._problem = problem
        self._turn: list[PendingWork[Sequence[EventRow]]] = []
        self._waiting: deque[_Waiting] = deque()
        self._limit: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<EventBatcher: {len(self._turn)} of this turn, {len(self._waiting)} waiting>"

    def put(self, rows: Sequence[EventRow], answer: asyncio.Future[list[StoredEvent]]) -> None:
        """Store rows at the end of this turn; `answer` gets the result for each, or `StoreUnavailable`."""
        if not self._turn:
            asyncio.get_running_loop().call_soon(self.flush)
        self._turn.append(PendingWork(rows, answer))
        self._limit_wait(answer, len(rows))

    def flush(self) -> None:
        """Pass on what has arrived in this turn."""
        turn, self._turn = self._turn, []
        for ask in self._queue.put_events(turn):
            if not ask.answer.done():
                ask.answer.set_exception(self._refused(self._queue.no_room, len(ask.what)))

    def _limit_wait(self, answer: asyncio.Future[list[StoredEvent]], rows: int) -> None:
        """One timer serves all of them, since all wait equally long."""
        loop, waiting = asyncio.get_running_loop(), self._waiting
        while waiting and waiting[0].answer.done():
            waiting.popleft()
        waiting.append(_Waiting(loop.time() + self._wait, answer, rows))
        if self._limit is None:
            self._limit = loop.call_later(self._wait, self._end_waits)

    def _end_waits(self) -> None:
        loop, waiting = asyncio.get_running_loop(), self._waiting
        while waiting and (waiting[0].answer.done() or waiting[0].until <= loop.time()):
            one = waiting.popleft()
            if not one.answer.done():
                one.answer.set_exception(self._refused(self._problem() or LATE, one.rows))
        self._limit = loop.call_at(waiting[0].until, self._end_waits) if waiting else None

    def _refused(self, reason: str, rows: int) -> StoreUnavailable:
        self._queue.count_dropped(rows)
        return StoreUnavailable(reason)
