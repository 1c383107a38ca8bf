"""The tail of the log: every event once, in the order of ids, to the subscribers of this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from tentaculo.events.hub import Hub, Subscriber
from tentaculo.events.tail import AT_ONCE, EventTail
from tentaculo.model.event import Event
from tentaculo.model.failure import Failure, Problem
from tentaculo.tasks import TaskGroup
from tests.events.conftest import Ledger, Sink, next_frame
from tests.support.waits import eventually

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Log(Ledger):
    """A log that other processes write too."""

    asked_last = 0
    """How often it was asked for its last id."""

    async def last_event_id(self) -> int:
        self.asked_last += 1
        return await super().last_event_id()

    def append(self, *ids: int) -> None:
        self.events += [Event(id_, "s", "t", {}, NOW, broadcast=True) for id_ in ids]


class Tailing:
    def __init__(self) -> None:
        self.hub = Hub(limit=4, queue=2000)
        self.log = Log()
        self.rung = 0
        self.tail = EventTail(self.hub, self.log, self._ring)

    def _ring(self) -> None:
        self.rung += 1

    async def ids(self, subscriber: Subscriber, number: int) -> list[int]:
        sink = Sink()
        subscriber.attach(sink)
        await eventually(lambda: len(sink.ids) >= number)
        subscriber.attach(None)
        assert len(sink.ids) == number
        return sink.ids


@pytest.fixture
async def tailing() -> AsyncIterator[Tailing]:
    made, tasks = Tailing(), TaskGroup("test")
    made.log.append(5)
    tasks.start(made.tail.run(), "tail")
    await eventually(lambda: made.tail.mark == 5)
    yield made
    await tasks.close()


async def test_what_others_store_is_published_once_and_in_order(tailing: Tailing) -> None:
    subscriber = tailing.hub.subscribe("a")
    tailing.log.append(7, 9)
    tailing.tail.ring()
    assert await tailing.ids(subscriber, 2) == [7, 9]
    tailing.log.append(10)
    tailing.tail.ring()
    assert await tailing.ids(subscriber, 1) == [10]
    assert repr(subscriber) == "<Subscriber 'a': 0 of 2000 waiting>"


async def test_it_looks_without_a_bell(tailing: Tailing) -> None:
    subscriber = tailing.hub.subscribe("a")
    tailing.log.append(7)
    assert await tailing.ids(subscriber, 1) == [7]


async def test_a_subscriber_gets_nothing_from_before_it_came(tailing: Tailing) -> None:
    tailing.log.append(6)
    tailing.tail.ring()
    await eventually(lambda: tailing.tail.mark == 6)
    subscriber = tailing.hub.subscribe("a")
    tailing.log.append(7)
    tailing.tail.ring()
    assert await tailing.ids(subscriber, 1) == [7]


async def test_what_others_store_before_the_database_responds_here_is_not_lost() -> None:
    hub, log, tasks = Hub(limit=4, queue=10), Log(), TaskGroup("test")
    log.append(5)
    subscriber = hub.subscribe("a")
    later = int(datetime.now(UTC).timestamp() * 1_000_000) + 1000
    log.append(later)
    tasks.start(EventTail(hub, log).run(), "tail")
    async with asyncio.timeout(5):
        assert json.loads(await next_frame(subscriber))["event_id"] == later
    assert subscriber.waiting == 0
    await tasks.close()


async def test_a_clock_that_was_set_back_repeats_nothing_to_a_subscriber() -> None:
    """Ids are then ahead of the clock: when the subscriber came says nothing about what is older."""
    hub, log, tasks = Hub(limit=4, queue=10), Log(), TaskGroup("test")
    ahead = int(datetime.now(UTC).timestamp() * 1_000_000) + 3600 * 1_000_000
    log.append(ahead, ahead + 1)
    subscriber = hub.subscribe("a")
    tail = EventTail(hub, log)
    tasks.start(tail.run(), "tail")
    await eventually(lambda: tail.mark == ahead + 1)
    log.append(ahead + 2)
    tail.ring()
    async with asyncio.timeout(5):
        assert json.loads(await next_frame(subscriber))["event_id"] == ahead + 2
    await tasks.close()


async def test_many_are_read_in_parts(tailing: Tailing) -> None:
    subscriber = tailing.hub.subscribe("a")
    last = 10 + 2 * AT_ONCE
    tailing.log.append(*range(10, last + 1))
    tailing.tail.ring()
    assert await tailing.ids(subscriber, 2 * AT_ONCE + 1) == list(range(10, last + 1))


async def test_without_a_subscriber_an_event_of_this_process_costs_no_look_at_the_database(tailing: Tailing) -> None:
    asked = tailing.log.asked_last
    tailing.log.append(7)
    tailing.tail.note_stored([7])
    assert tailing.tail.mark == 7
    for _ in range(20):
        await asyncio.sleep(0)
    assert tailing.log.asked_last == asked
    assert tailing.rung == 1, "other processes may have subscribers"
    subscriber = tailing.hub.subscribe("a")
    tailing.log.append(8)
    tailing.tail.ring()
    assert await tailing.ids(subscriber, 1) == [8]


async def test_the_sender_gets_none_of_its_own_however_early_the_tail_reads_them(tailing: Tailing) -> None:
    sender, other = tailing.hub.subscribe("sender"), tailing.hub.subscribe("other")
    release = tailing.tail.hold()
    tailing.log.append(7)
    tailing.tail.ring()
    for _ in range(20):
        await asyncio.sleep(0)
    assert tailing.tail.mark == 5, "it waits until the sender is known"
    tailing.tail.note_stored([7], {7: sender})
    release()
    tailing.log.append(8)
    tailing.tail.ring()
    assert await tailing.ids(other, 2) == [7, 8]
    assert await tailing.ids(sender, 1) == [8]
    assert tailing.rung == 1, "the bell of the others rings once"


async def test_a_database_that_is_away_loses_nothing(tailing: Tailing, monkeypatch: pytest.MonkeyPatch) -> None:
    subscriber = tailing.hub.subscribe("a")
    read = tailing.log.next_events
    failures = 0

    async def fail(*_: object, **__: object) -> list[Event]:
        nonlocal failures
        failures += 1
        raise Problem(Failure.STORE_UNAVAILABLE)

    monkeypatch.setattr(tailing.log, "next_events", fail)
    tailing.log.append(7)
    tailing.tail.ring()
    await eventually(lambda: failures > 0)
    monkeypatch.setattr(tailing.log, "next_events", read)
    tailing.tail.ring()
    assert await tailing.ids(subscriber, 1) == [7]
