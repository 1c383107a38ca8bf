from __future__ import annotations

import asyncio
import itertools
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tentaculo.events.hub import QUEUE_BYTES, SHARE, WRITE_BYTES, End, Hub
from tentaculo.model.event import Event
from tentaculo.model.failure import Failure, Problem
from tests.events.conftest import Sink, next_frame


def event(number: int, **payload: Any) -> Event:
    return Event(number, "s", "t", payload, datetime.now(UTC), broadcast=True)


async def test_everybody_but_the_sender_gets_the_same_bytes() -> None:
    hub = Hub(limit=10, queue=4)
    first, second, sender = (hub.subscribe("same") for _ in range(3))
    hub.publish(event(1, x=1), exclude=sender)
    one, two = await next_frame(first), await next_frame(second)
    assert one is two
    assert json.loads(one)["event_id"] == 1
    assert repr(sender) == "<Subscriber 'same': 0 of 4 waiting>"


async def test_publish_never_waits_and_cuts_off_the_slow_one_alone() -> None:
    hub = Hub(limit=10, queue=3)
    slow, quick = hub.subscribe("slow"), hub.subscribe("quick")
    ended: list[str] = []
    slow.when_ended(lambda: ended.append("slow"))
    quick.when_ended(lambda: ended.append("quick"))
    for number in range(1, 6):
        hub.publish(event(number))
        assert json.loads(await next_frame(quick))["event_id"] == number
    assert ended == ["slow"]
    assert (slow.end, quick.end, hub.cut_off) == (End.TOO_SLOW, None, 1)
    assert repr(slow) == "<Subscriber 'slow': too slow>"
    assert repr(hub) == "<Hub: 2 of 10 subscribers, 1 cut off>"


async def test_when_ended_after_the_end_is_called_at_once() -> None:
    hub = Hub(limit=1, queue=1)
    subscriber = hub.subscribe("a")
    hub.publish(event(1))
    hub.publish(event(2))
    ended: list[int] = []
    subscriber.when_ended(lambda: ended.append(1))
    assert ended == [1]


async def test_places_are_bounded_and_given_back() -> None:
    hub = Hub(limit=2, queue=1)
    first = hub.subscribe("a")
    hub.subscribe("a")
    with pytest.raises(Problem) as caught:
        hub.subscribe("b")
    assert caught.value.failure is Failure.OVERLOADED
    assert caught.value.headers["Retry-After"]
    hub.unsubscribe(first)
    hub.unsubscribe(first)
    assert len(hub) == 1
    hub.subscribe("b")
    assert len(hub) == 2


async def test_close_waits_until_all_have_left_and_takes_no_more() -> None:
    hub = Hub(limit=2, queue=1)
    subscriber = hub.subscribe("a")
    told = asyncio.Event()
    subscriber.when_ended(told.set)
    async with asyncio.TaskGroup() as group:
        closing = group.create_task(hub.close())
        await told.wait()
        assert not closing.done()
        assert subscriber.end is End.STOPPING
        hub.unsubscribe(subscriber)
    with pytest.raises(Problem):
        hub.subscribe("late")
    await hub.close()


async def test_what_was_published_is_one_write() -> None:
    hub, sinks = Hub(limit=2, queue=1000), (Sink(), Sink())
    for sink in sinks:
        hub.subscribe("a").attach(sink)
    for number in range(1, 6):
        hub.publish(event(number))
    assert [sink.written for sink in sinks] == [[], []]
    await hub.deliver()
    assert [len(sink.written) for sink in sinks] == [1, 1]
    assert sinks[0].ids == [1, 2, 3, 4, 5]
    await hub.deliver()
    assert len(sinks[0].written) == 1


async def test_a_write_has_a_bounded_size_unless_one_event_alone_has_more() -> None:
    hub, sink = Hub(limit=1, queue=1000), Sink()
    hub.subscribe("a").attach(sink)
    sizes = (10, 7_000, 7_000, 20_000, 10, 10)
    for number, size in enumerate(sizes, 1):
        hub.publish(event(number, pad="x" * size))
    await hub.deliver()
    assert sink.ids == [1, 2, 3, 4, 5, 6]
    assert [len(one) > WRITE_BYTES for one in sink.written] == [False, False, True, False]


async def test_a_large_event_behind_small_ones_of_the_same_turn_cuts_off_no_client_that_reads() -> None:
    hub, sinks = Hub(limit=2, queue=1000), (Sink(), Sink())
    for name, sink in zip(("reads", "stalls"), sinks, strict=True):
        hub.subscribe(name).attach(sink)
    sinks[1].is_paused = True
    for number, size in enumerate((10, 10, QUEUE_BYTES, 10), 1):
        hub.publish(event(number, pad="x" * size))
    await hub.deliver()
    assert sinks[0].ids == [1, 2, 3, 4]
    assert (sinks[1].written, hub.cut_off) == ([], 1)


async def test_a_client_that_takes_no_more_keeps_its_queue_until_it_does() -> None:
    hub, sink = Hub(limit=1, queue=1000), Sink()
    subscriber = hub.subscribe("a")
    subscriber.attach(sink)
    sink.is_paused = True
    hub.publish(event(1))
    await hub.deliver()
    assert (sink.written, subscriber.waiting) == ([], 1)
    await asyncio.wait_for(subscriber.wait_stalled(), 5)
    sink.is_paused = False
    subscriber.flush()
    assert (sink.ids, subscriber.waiting) == ([1], 0)
    hub.unsubscribe(subscriber)
    hub.publish(event(2))
    await hub.deliver()
    assert sink.ids == [1]


async def test_one_turn_of_the_loop_writes_to_a_share_of_the_clients() -> None:
    hub, sinks = Hub(limit=1000, queue=10), [Sink() for _ in range(1000)]
    for sink in sinks:
        hub.subscribe("a").attach(sink)
    hub.publish(event(1))
    loop, seen = asyncio.get_running_loop(), [0]

    def look() -> None:
        seen.append(sum(bool(sink.written) for sink in sinks))
        if seen[-1] < len(sinks):
            loop.call_soon(look)

    loop.call_soon(look)
    await hub.deliver()
    await asyncio.sleep(0)
    assert seen[-1] == len(sinks)
    assert max(after - before for before, after in itertools.pairwise(seen)) == SHARE
