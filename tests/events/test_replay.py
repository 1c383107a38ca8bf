"""From history to live, step by step, without a network."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from tentaculo.events.hub import Hub
from tentaculo.events.query import Position
from tentaculo.events.replay import LEAST_PAGE, MOST_PAGE, LogReader
from tentaculo.events.tail import EventTail
from tentaculo.model.event import Event, EventFilter, FoundEvents
from tentaculo.tasks import TaskGroup
from tests.events.conftest import NAME, Ledger, next_frame
from tests.support.waits import eventually

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Client:
    """A client that takes `room` events before its buffer is full, and makes room when it is waited for."""

    def __init__(self, room: int = 10**6) -> None:
        self.ids: list[int] = []
        self.room = self.left = room
        self.idled = 0

    @property
    def is_paused(self) -> bool:
        return self.left <= 0

    async def write(self, frame: bytes) -> None:
        self.left -= 1
        self.ids.append(json.loads(frame)["event_id"])

    async def wait_writable(self) -> None:
        self.left = self.room

    async def idle(self) -> None:
        self.idled += 1


class Reading:
    def __init__(self, *ids: int) -> None:
        self.log, self.hub = Ledger(), Hub(limit=4, queue=2000)
        self.tail = EventTail(self.hub, self.log)
        self.reader = LogReader(self.tail, lambda: self.log.name)
        self.store(*ids)
        self.tail.mark = ids[-1] if ids else 0
        self.subscriber = self.hub.subscribe("a", is_live=False)

    def store(self, *ids: int) -> None:
        self.log.events += [Event(id_, "s", "t", {}, NOW, broadcast=True) for id_ in ids]

    def publish(self, *ids: int, by_itself: bool = False) -> None:
        self.store(*ids)
        for event in self.log.events[-len(ids) :]:
            self.hub.publish(event, exclude=self.subscriber if by_itself else None)
            self.tail.mark = event.id

    async def live_ids(self, number: int) -> list[int]:
        return [json.loads(await next_frame(self.subscriber))["event_id"] for _ in range(number)]


async def test_what_is_published_while_history_is_read_comes_once() -> None:
    reading, client = Reading(*range(1, 50)), Client(room=7)
    write, published = client.write, iter(range(50, 80))

    async def write_and_publish(frame: bytes) -> None:
        await write(frame)
        if (id_ := next(published, None)) is not None:
            reading.publish(id_)

    client.write = write_and_publish  # type: ignore[method-assign]
    await reading.reader.replay(reading.subscriber, 3, client)
    reading.publish(80, 81)
    assert client.ids == list(range(4, 80))
    assert await reading.live_ids(2) == [80, 81]


async def test_a_client_that_takes_little_is_given_small_pages() -> None:
    reading, client = Reading(*range(1, 201)), Client(room=2)
    limits = list[int]()
    read = reading.log.read_events

    async def note(wanted: EventFilter, *, limit: int, **bounds: Any) -> FoundEvents:
        limits.append(limit)
        return await read(wanted, limit=limit, **bounds)

    reading.log.read_events = note  # type: ignore[method-assign]
    await reading.reader.replay(reading.subscriber, 0, client)
    assert client.ids == list(range(1, 201))
    assert set(limits[1:]) == {LEAST_PAGE}


async def test_a_position_ahead_of_the_mark_gets_nothing_twice() -> None:
    """Another gateway has published more than this one yet."""
    reading, client = Reading(1, 2), Client()
    await reading.reader.replay(reading.subscriber, 5, client)
    reading.publish(3, 4, 5, 6)
    assert await reading.live_ids(1) == [6]


async def test_its_own_events_are_not_sent_back_to_it() -> None:
    reading, client = Reading(1, 2), Client()
    reading.publish(3, by_itself=True)
    reading.publish(4)
    await reading.reader.replay(reading.subscriber, 1, client)
    assert client.ids == [2, 4]


async def test_it_waits_for_the_database_and_for_the_mark() -> None:
    reading, client = Reading(1, 2), Client()
    reading.log.is_lost, reading.tail.mark = True, None
    tasks = TaskGroup("test")
    beginning = tasks.start(reading.reader.begin(Position(NAME, 1), EventFilter(), client), "begin")
    await eventually(lambda: client.idled == 1)
    reading.log.is_lost, reading.tail.mark = False, 2
    assert await beginning == (NAME, 1, None)
    reading.log.name = ""
    beginning = tasks.start(reading.reader.begin(None, EventFilter(), client), "begin")
    await eventually(lambda: client.idled == 2)
    reading.log.name = NAME
    assert await beginning == (NAME, 2, None)


NOTHING = EventFilter(severities=("L9",))
"""What no event has."""


async def test_a_reader_becomes_live_though_each_read_takes_longer_than_the_next_event_is_away() -> None:
    """As with a filter that selects nothing, and a database that reads all rows for it."""
    reading, client, new = Reading(*range(1, 50)), Client(), iter(range(50, 90))
    reading.subscriber.wanted = NOTHING
    read = reading.log.read_events

    async def read_slowly(wanted: EventFilter, **bounds: Any) -> FoundEvents:
        found = await read(wanted, **bounds)
        reading.publish(next(new))
        return found

    reading.log.read_events = read_slowly  # type: ignore[method-assign]
    await reading.reader.replay(reading.subscriber, 3, client)
    assert reading.subscriber.is_live
    assert reading.log.reads == 2


async def test_what_is_published_during_the_last_read_comes_once_and_behind_it() -> None:
    reading, client, new = Reading(*range(1, 50)), Client(), iter(range(50, 90))
    read = reading.log.read_events

    async def read_slowly(wanted: EventFilter, **bounds: Any) -> FoundEvents:
        found = await read(wanted, **bounds)
        # One of them is the client's own.
        reading.publish(next(new), by_itself=True)
        reading.publish(next(new))
        return found

    reading.log.read_events = read_slowly  # type: ignore[method-assign]
    await reading.reader.replay(reading.subscriber, 3, client)
    reading.publish(60)
    assert client.ids == [*range(4, 50), 51]
    assert await reading.live_ids(2) == [53, 60]


async def test_a_search_that_takes_many_reads_becomes_live_too() -> None:
    reading, client, new = Reading(*range(1, 50)), Client(), iter(range(50, 200))
    reading.subscriber.wanted = NOTHING

    async def read_some(wanted: EventFilter, *, after: int, before: int, **_: Any) -> FoundEvents:
        """Two rows, in a time in which one more is stored."""
        reading.log.reads += 1
        reading.publish(next(new))
        return FoundEvents([], after + 2 if after + 2 < before - 1 else None)

    reading.log.read_events = read_some  # type: ignore[method-assign, assignment]
    await reading.reader.replay(reading.subscriber, 3, client)
    assert reading.subscriber.is_live
    assert client.idled == reading.log.reads


async def test_more_than_its_queue_holds_is_read_and_ends_nothing() -> None:
    reading, client, new = Reading(*range(1, 50)), Client(), iter(range(50, 9000))
    read, bursts = reading.log.read_events, iter((1, 2100, 2100, 5))

    async def read_slowly(wanted: EventFilter, **bounds: Any) -> FoundEvents:
        found = await read(wanted, **bounds)
        if burst := next(bursts, 0):
            reading.publish(*(next(new) for _ in range(burst)))
        return found

    reading.log.read_events = read_slowly  # type: ignore[method-assign]
    await reading.reader.replay(reading.subscriber, 3, client)
    last = reading.log.events[-1].id
    waiting = await reading.live_ids(reading.subscriber.waiting) if reading.subscriber.waiting else []
    assert [*client.ids, *waiting] == list(range(4, last + 1))
    assert reading.subscriber.end is None


async def test_a_filter_that_selects_little_reads_large_pages() -> None:
    """A page of a few events would leave the reader behind where few of many events are wanted."""
    reading, client, limits = Reading(*range(1, 5000)), Client(), list[int]()
    read = reading.log.read_events

    async def note(wanted: EventFilter, *, limit: int, **bounds: Any) -> FoundEvents:
        limits.append(limit)
        found = await read(wanted, limit=limit, **bounds)
        return FoundEvents([], found.events[-1].id) if len(limits) < 3 else found

    reading.log.read_events = note  # type: ignore[method-assign]
    await reading.reader.replay(reading.subscriber, 0, client)
    assert set(limits) == {MOST_PAGE}
