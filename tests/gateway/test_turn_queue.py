"""What is done for many services, a few in one turn of the loop."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tentaculo.gateway.turn_queue import TurnQueue


async def test_a_few_are_handled_at_once_and_the_rest_in_later_turns_in_order() -> None:
    handled: list[int] = []
    queue = TurnQueue(most=3)
    for item in range(8):
        queue.add(partial(handled.append, item))
    assert handled == [0, 1, 2]
    await asyncio.sleep(0)
    assert handled == [0, 1, 2, 3, 4, 5]
    queue.add(partial(handled.append, 8))
    assert handled[-1] == 5, "it waits behind the others"
    await asyncio.sleep(0)
    assert handled == list(range(9))
    queue.add(partial(handled.append, 9))
    assert handled == list(range(9)), "this turn has had its three"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    queue.add(partial(handled.append, 10))
    assert handled == list(range(11))


async def test_an_error_of_one_does_not_stop_the_others() -> None:
    handled: list[int] = []

    def handle(item: int) -> None:
        if item == 1:
            raise ValueError
        handled.append(item)

    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
    queue = TurnQueue(most=1)
    for item in range(4):
        queue.add(partial(handle, item))
    for _ in range(4):
        await asyncio.sleep(0)
    assert handled == [0, 2, 3]
    assert [type(one) for one in errors] == [ValueError]
    with pytest.raises(ValueError):
        TurnQueue().add(partial(handle, 1))


async def test_the_end_handles_all_that_waits() -> None:
    handled: list[int] = []
    queue = TurnQueue(most=1)
    for item in range(5):
        queue.add(partial(handled.append, item))
    queue.finish()
    assert handled == list(range(5))
