"""The one door for events that came in, by HTTP or WebSocket: an id, the database, then the subscribers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tentaculo.events.cardinality import Cardinality
from tentaculo.events.hub import Hub, Subscriber
from tentaculo.model.event import Event
from tentaculo.model.failure import Problem
from tentaculo.tasks import TaskGroup

Store = Callable[[Event], Awaitable[None]]
"""Returns when the event is stored; raises `Problem` when it cannot be."""


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


@dataclass(slots=True, eq=False)
class _Pending:
    event: Event
    sender: Subscriber | None
    is_settled: bool = False
    is_stored: bool = False


class EventPipeline:
    """Gives accepted events their ids, stores them and publishes them in the order of their ids.

    The order is what lets a subscriber that comes back with its last id be told all it missed, and nothing twice.
    A caller that leaves does not stop an event that has been accepted, so `tasks` own the work.
    """

    def __init__(
        self,
        hub: Hub,
        ids: EventIds,
        store: Store,
        tasks: TaskGroup,
        cardinality: Cardinality,
        now: Callable[[], datetime],
    ) -> None:
        self._hub = hub
        self._ids = ids
        self._store = store
        self._tasks = tasks
        self._cardinality = cardinality
        self._now = now
        self._turns: deque[_Pending] = deque()

    def __repr__(self) -> str:
        return f"<Intake: {len(self._turns)} events under way>"

    def now_ms(self) -> int:
        """The time to fill in where an event has none: milliseconds since 1970."""
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
        event = Event(self._ids.next(), source, type_, payload, received_at, canonical, broadcast, metadata or {})
        turn = _Pending(event, sender)
        self._turns.append(turn)
        problem = await asyncio.shield(self._tasks.start(self._keep(turn), f"event {event.id}"))
        if problem is not None:
            raise problem
        return event

    async def _keep(self, turn: _Pending) -> Problem | None:
        try:
            await self._store(turn.event)
            turn.is_stored = True
        except Problem as problem:
            return problem
        finally:
            turn.is_settled = True
            self._publish_settled()
        return None

    def _publish_settled(self) -> None:
        while self._turns and self._turns[0].is_settled:
            turn = self._turns.popleft()
            if turn.is_stored:
                self._cardinality.count(turn.event.type)
            if turn.is_stored and turn.event.broadcast:
                self._hub.publish(turn.event, exclude=turn.sender)
