"""From history to live: a reader gets what it missed, then what is published, each event once.

    position ─▶ pages of the log, up to the mark of the tail ─▶ the reader has reached the mark ─▶ its queue in the hub

The step to live is taken without a pause at the moment in which the reader has everything up to the mark, so that no
event is between the two. Before it the subscriber has a place in the hub and no queue: history is read as fast as the
client takes it, however much of it there is. A reader that has come near the mark collects what is published while it
reads the rest. So it becomes live also where each read takes longer than the next event is away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from tentaculo.events.hub import Subscriber
from tentaculo.events.query import Position
from tentaculo.events.tail import CLOCK_DIFFERENCE, EventTail
from tentaculo.model.event import Event, EventFilter, FoundEvents
from tentaculo.model.failure import Failure, Problem

RETRY_SECONDS = 0.5
"""Between two attempts to read while the database is away."""
MOST_READS = 8
"""Pages that are read at once, for all readers together: the database has other work."""
LEAST_PAGE, MOST_PAGE = 8, 256
"""Events of one page."""
SHARE = 16
"""Events encoded in one turn of the event loop."""

LogName = Callable[[], str]
"""The random name of the log, 12 hex digits; empty until it is known. A restored database has another one."""


class Client(Protocol):
    """The connection of a reader."""

    async def write(self, frame: bytes) -> None:
        """Send an encoded event. It need not wait until the client takes it."""

    @property
    def is_paused(self) -> bool:
        """Whether the send buffer is full."""

    async def wait_writable(self) -> None:
        """Wait until the send buffer has room."""

    async def idle(self) -> None:
        """Called now and then while nothing is sent: the database is away, or a search finds nothing."""


class Beginning(NamedTuple):
    """Where a reader begins."""

    name: str
    """The name of the log."""
    after: int
    """The id before its first event."""
    reset: str | None = None
    """Why that is not the position that it asked for, in a sentence."""


class LogReader:
    """Reads the log for clients, a bounded number of pages at once."""

    def __init__(self, tail: EventTail, log_name: LogName) -> None:
        self._tail = tail
        self._log_name = log_name
        self._free = asyncio.Semaphore(MOST_READS)

    def __repr__(self) -> str:
        return f"<LogReader of {self._tail!r}>"

    @property
    def mark(self) -> int:
        """The id up to which all events are published; 0 while that is unknown."""
        return self._tail.mark or 0

    @property
    def name(self) -> str:
        """The name of the log. Raises `Problem` (503) while it is unknown."""
        name = self._log_name()
        if not name:
            raise Problem(
                Failure.STORE_UNAVAILABLE, "The database has not responded yet.", headers={"Retry-After": "5"}
            )
        return name

    async def read(
        self,
        wanted: EventFilter,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int,
        newest_first: bool = False,
    ) -> FoundEvents:
        """One page, or what was found of it in a bounded time. Raises `Problem` while the database is away."""
        async with self._free:
            return await self._tail.log.read_events(
                wanted, after=after, before=before, limit=limit, newest_first=newest_first
            )

    def now(self) -> int | None:
        """An id that no later event has, as far as it is known without the database; None where nothing is.

        All of this process are published. Of another one, whose clock may differ, an event of the last second may be later.
        """
        mark = self._tail.mark
        return None if mark is None else max(mark, time.time_ns() // 1000 - CLOCK_DIFFERENCE)

    async def begin(
        self, position: Position | None, wanted: EventFilter, client: Client, now: int | None = None
    ) -> Beginning:
        """Where a reader of `position` begins: there, or now. Waits for the database.

        `now` was taken before the client knew that it is connected: what it sends from then on is not skipped. Without a
        position a reader whose filter has a `since` begins with the log.
        """
        while True:
            try:
                name, last = self.name, await self._tail.log.last_event_id()
            except Problem:
                await self._pause(client)
                continue
            if self._tail.mark is not None:
                break
            await self._pause(client)
        if position is None:
            return Beginning(name, 0 if wanted.since is not None else last if now is None else min(last, now))
        if position.name not in (None, name):
            return Beginning(name, last, "The position is one of another log: this database was restored or replaced.")
        if position.event_id > last:
            return Beginning(name, last, "No event of this log ever had such a great id.")
        return Beginning(name, position.event_id)

    async def replay(self, subscriber: Subscriber, after: int, client: Client) -> None:
        """Send `subscriber` the events after an id, and make it live. `begin` has waited for the mark."""
        limit, mark, is_near = MOST_PAGE, 0, False
        while True:
            if not subscriber.is_collecting:
                mark = self.mark
                if after < mark and is_near:
                    subscriber.collect(mark)
            if after >= mark:
                subscriber.start(after)
                return
            try:
                page = await self.read(subscriber.wanted, after=after, before=mark + 1, limit=limit)
            except Problem:
                await self._pause(client)
                continue
            found = page.events
            sent = await self._send(found, subscriber, client)
            if sent:
                after = found[sent - 1].id
            if sent == len(found):
                is_last = page.reached is None and len(found) < limit
                after = max(after, mark if is_last else page.reached or after)
                is_near |= is_last
            # What the client did not take is read again: a reader that stalls must not hold a page.
            limit = min(max(2 * (limit if sent == len(found) else sent), LEAST_PAGE), MOST_PAGE)
            del page, found
            if not sent:
                # A search may find nothing for long.
                await client.idle()
            await client.wait_writable()

    async def _send(self, page: list[Event], subscriber: Subscriber, client: Client) -> int:
        """Send the events of a page until the client's buffer is full; returns how many."""
        for number, event in enumerate(page):
            if client.is_paused:
                return number
            if number % SHARE == SHARE - 1:
                await asyncio.sleep(0)
            if event.id not in subscriber.own:
                await client.write(subscriber.encode(event))
        return len(page)

    async def _pause(self, client: Client) -> None:
        await client.idle()
        await asyncio.sleep(RETRY_SECONDS)
