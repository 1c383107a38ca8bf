from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tentaculo.events.hub import End, Hub
from tentaculo.model.event import Event
from tentaculo.model.failure import Failure, Problem


def event(number: int, **payload: Any) -> Event:
    return Event(number, "s", "t", payload, datetime.now(UTC), broadcast=True)


async def test_everybody_but_the_sender_gets_the_same_bytes() -> None:
    hub = Hub(limit=10, queue=4)
    first, second, sender = (hub.subscribe("same") for _ in range(3))
    hub.publish(event(1, x=1), exclude=sender)
    one, two = await first.next(), await second.next()
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
        assert json.loads(await quick.next())["event_id"] == number
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
