"""The tail of the log: every process reads what any process has committed, and publishes it to its subscribers.

Ids are given inside the serialised commit, so that no event appears behind the mark: a reader gets each one once, in the
order of ids. The bell only says that there is more; the tail also looks without it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from tentaculo.events.hub import Hub, Subscriber
from tentaculo.model.event import Event, EventFilter, FoundEvents
from tentaculo.model.failure import Problem

LOOK_EVERY = 1.0
"""Seconds between two looks without a bell."""
AT_ONCE = 500
"""Events read at once."""
SHARE = 32
"""Events published in one turn of the event loop at most: in between the subscribers get theirs."""
SHARE_BYTES = 16 * 1024
"""Bytes published in one turn, unless a single event has more: a queue has room for what two turns bring."""

CLOCK_DIFFERENCE = 1_000_000
"""Microseconds by which the clocks of machines may differ."""


class EventLog(Protocol):
    """Reads the log. All raise `Problem` while the database is away."""

    async def last_event_id(self) -> int:
        """The greatest id that an event ever had."""
        ...

    async def read_events(
        self,
        wanted: EventFilter,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int,
        newest_first: bool = False,
    ) -> FoundEvents:
        """Events between two ids, by id. A search ends after a bounded time, and says how far it got."""
        ...

    async def next_events(self, after: int, limit: int) -> list[Event]:
        """The next events after an id, by id."""
        ...


class EventTail:
    """Publishes committed events to the subscribers of `hub`, in the order of their ids.

    `mark` is the id up to which all are published. `ring_others` rings the bell of the other processes, where there are any.
    """

    def __init__(self, hub: Hub, log: EventLog, ring_others: Callable[[], None] | None = None) -> None:
        self.mark: int | None = None
        """None until the database has responded."""
        self._hub = hub
        self.log = log
        self._ring_others = ring_others
        self._bell = asyncio.Event()
        self._storing: dict[asyncio.Future[None], None] = {}
        self._senders: dict[int, Subscriber] = {}

    def __repr__(self) -> str:
        return f"<EventTail: published up to {self.mark}>"

    def ring(self) -> None:
        """Look now: there is more."""
        self._bell.set()

    def hold(self) -> Callable[[], None]:
        """Publish no event that is read from now on before the returned function is called.

        For an event with a sender: the tail may read it before its id and sender are noted.
        """
        settled = asyncio.get_running_loop().create_future()
        self._storing[settled] = None

        def release() -> None:
            del self._storing[settled]
            settled.set_result(None)

        return release

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            try:
                is_behind = await self._publish_next()
            except Problem:
                is_behind = False  # The store says what is wrong; the next look tries again.
            if not is_behind:
                await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(LOOK_EVERY):
                await self._bell.wait()
        except TimeoutError:
            return
        finally:
            self._bell.clear()

    async def _publish_next(self) -> bool:
        """Publish the next events; returns whether there may be more."""
        if self.mark is None or not len(self._hub):
            before = self.mark
            last = await self.log.last_event_id()
            if not len(self._hub):
                # This process may have stored later events meanwhile.
                self.mark = last if self.mark == before else self.mark
                self._senders.clear()
                return False
            self._begin(last)
        assert self.mark is not None
        found = await self.log.next_events(self.mark, AT_ONCE)
        if self._storing:
            await asyncio.wait(list(self._storing))
        await self._publish(found)
        if found:
            self._senders = {id_: sender for id_, sender in self._senders.items() if id_ > found[-1].id}
        return len(found) == AT_ONCE

    def _begin(self, last: int) -> None:
        """Set the first mark: `last`, or less where other processes may have stored events for the first subscriber."""
        if self.mark is not None:
            return
        # Where the clock was set back, all ids are ahead of it: events from before the subscriber came would be too.
        is_clock_right = last <= time.time_ns() // 1000 + CLOCK_DIFFERENCE
        self.mark = min(last, self._hub.first_at) if len(self._hub) and is_clock_right else last

    async def _publish(self, found: Sequence[Event]) -> None:
        events, size = 0, 0
        for event in found:
            size += self._hub.publish(event, exclude=self._senders.pop(event.id, None))
            self.mark = event.id
            events += 1
            if events >= SHARE or size >= SHARE_BYTES:
                events, size = 0, 0
                await self._hub.deliver()
                # A client that reads has taken its share before the next one.
                await asyncio.sleep(0)
        await self._hub.deliver()

    def note_stored(self, ids: Sequence[int], senders: Mapping[int, Subscriber] | None = None) -> None:
        """This process has stored events; `senders` are, by id, those that are not to get them."""
        if not ids:
            return
        if len(self._hub):
            self._begin(ids[0] - 1)
            self._senders.update(senders or {})
            self._bell.set()
        else:
            # Ids are given in the order of commits, so all events up to these are there, and nobody to publish them to.
            self.mark = max(ids[-1], self.mark or 0)
        if self._ring_others is not None:
            self._ring_others()
