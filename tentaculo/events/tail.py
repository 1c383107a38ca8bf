"""The tail of the log: every process reads what was committed, whoever stored it, and publishes it to its subscribers.

Ids are given inside the serialised commit, so that no event appears behind the mark: a reader gets each one once, in the
order of ids. The bell only says that there is more; the tail also looks without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from tentaculo.events.hub import Hub, Subscriber
from tentaculo.model.event import Event
from tentaculo.model.failure import Problem

LOOK_EVERY = 1.0
"""Seconds between two looks without a bell."""
AT_ONCE = 500
"""Events read and published in one turn of the event loop at most."""

NoteStored = Callable[[Sequence[int]], None]


class EventLog(Protocol):
    """Reads the log. Both raise `Problem` while the database is away."""

    async def last_event_id(self) -> int:
        """The greatest id that an event ever had."""
        ...

    async def next_events(self, after: int, limit: int) -> list[Event]:
        """The next events after an id, by id."""
        ...


class EventTail:
    """Publishes committed events to the subscribers of `hub`, in the order of their ids.

    `mark` is the id up to which all are published. `ring_others` rings the bell of the other processes.
    """

    def __init__(self, hub: Hub, log: EventLog, ring_others: Callable[[], None] = lambda: None) -> None:
        self.mark: int | None = None
        """None until the database has responded."""
        self._hub = hub
        self._log = log
        self._ring_others = ring_others
        self._bell = asyncio.Event()
        self._storing: dict[asyncio.Future[None], None] = {}
        self._senders: dict[int, Subscriber] = {}

    def __repr__(self) -> str:
        return f"<EventTail: published up to {self.mark}>"

    def ring(self) -> None:
        """Look now: there is more."""
        self._bell.set()

    @contextmanager
    def storing(self, sender: Subscriber | None) -> Iterator[NoteStored]:
        """While an event of `sender` is being stored. It gives the function to call with the ids of stored events."""
        settled = asyncio.get_running_loop().create_future()
        if sender is not None:
            # The tail may read an event before its sender is known here.
            self._storing[settled] = None
        try:
            yield lambda ids: self._note_stored(ids, sender)
        finally:
            self._storing.pop(settled, None)
            settled.set_result(None)

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
            last = await self._log.last_event_id()
            if self.mark is None or not len(self._hub):
                self.mark = last
                self._senders.clear()
                return False
        found = await self._log.next_events(self.mark, AT_ONCE)
        if self._storing:
            await asyncio.wait(list(self._storing))
        for event in found:
            self._hub.publish(event, exclude=self._senders.pop(event.id, None))
            self.mark = event.id
        if found:
            self._senders = {id_: sender for id_, sender in self._senders.items() if id_ > self.mark}
            await asyncio.sleep(0)
        return len(found) == AT_ONCE

    def _note_stored(self, ids: Sequence[int], sender: Subscriber | None) -> None:
        if not ids:
            return
        if self.mark is None:
            self.mark = ids[0] - 1
        if sender is not None:
            self._senders.update(dict.fromkeys(ids, sender))
        self._bell.set()
        self._ring_others()
