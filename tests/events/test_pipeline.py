from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from itertools import count

import pytest

from tentaculo.events.cardinality import Cardinality
from tentaculo.events.hub import Hub
from tentaculo.events.pipeline import EventIds, EventPipeline, Store
from tentaculo.model.event import Event
from tentaculo.model.failure import Failure, Problem
from tentaculo.tasks import TaskGroup

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


class Desk:
    """An intake and all it needs; `settle` decides when and how each event is stored."""

    def __init__(self) -> None:
        self.hub = Hub(limit=4, queue=8)
        self.cardinality = Cardinality(lambda: 0.0)
        self.tasks = TaskGroup("test")
        self.pending: dict[str, asyncio.Future[None]] = {}
        clock = count(1000)
        ids = EventIds(lambda: next(clock))
        store: Store = self._store
        self.intake = EventPipeline(self.hub, ids, store, self.tasks, self.cardinality, lambda: NOW)

    async def _store(self, event: Event) -> None:
        self.pending[event.type] = asyncio.get_running_loop().create_future()
        await self.pending[event.type]

    def send(self, type_: str, *, broadcast: bool = True) -> asyncio.Task[Event]:
        work = self.intake.accept("s", type_, {}, canonical=False, broadcast=broadcast)
        task: asyncio.Task[Event] = self.tasks.start(work, type_)
        return task

    async def sent(self, *types: str) -> None:
        async with asyncio.timeout(5):
            while not all(type_ in self.pending for type_ in types):
                await asyncio.sleep(0)


async def test_publishes_in_the_order_of_ids_however_the_store_answers() -> None:
    desk = Desk()
    listener = desk.hub.subscribe("a")
    first, lost, quiet, last = (
        desk.send(name, broadcast=name != "quiet") for name in ("first", "lost", "quiet", "last")
    )
    await desk.sent("first", "lost", "quiet", "last")
    desk.pending["last"].set_result(None)
    desk.pending["quiet"].set_result(None)
    desk.pending["lost"].set_exception(Problem(Failure.STORE_UNAVAILABLE))
    assert (await last).id == 1003
    assert (await quiet).id == 1002
    assert repr(listener) == "<Subscriber 'a': 0 of 8 waiting>"
    desk.pending["first"].set_result(None)
    assert (await first).id == 1000
    assert [json.loads(await listener.next())["id"] for _ in range(2)] == [1000, 1003]
    assert repr(listener) == "<Subscriber 'a': 0 of 8 waiting>"
    with pytest.raises(Problem):
        await lost
    assert desk.cardinality.counts() == {"first": 1, "quiet": 1, "last": 1}
    assert repr(desk.intake) == "<Intake: 0 events under way>"


async def test_a_caller_that_is_cancelled_does_not_stop_the_event() -> None:
    desk = Desk()
    listener = desk.hub.subscribe("a")
    caller = desk.send("t")
    await desk.sent("t")
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    desk.pending["t"].set_result(None)
    assert json.loads(await asyncio.wait_for(listener.next(), 5))["type"] == "t"


async def test_the_event_is_what_was_accepted() -> None:
    desk = Desk()
    task = desk.send("t")
    await desk.sent("t")
    desk.pending["t"].set_result(None)
    assert await task == Event(1000, "s", "t", {}, NOW, canonical=False, broadcast=True, metadata={})
    assert desk.intake.now_ms() == 1767323045678
