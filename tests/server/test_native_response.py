"""Long computations leave the event loop to others in between, one computation at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial

from tentaculo.server.native_routes import SLICE_SECONDS, Slices


class Turns:
    """Counts turns of the loop while it is entered."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Turns:
        self._handle = asyncio.get_running_loop().call_soon(self._turn)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.cancel()

    def _turn(self) -> None:
        self.count += 1
        self._handle = asyncio.get_running_loop().call_soon(self._turn)


async def test_a_computation_yields_whenever_its_slice_is_over() -> None:
    now = 0.0

    def steps() -> Iterator[int]:
        nonlocal now
        for number in range(100):
            now += SLICE_SECONDS / 4
            yield number

    with Turns() as turns:
        assert await Slices(lambda: now).collect(steps()) == list(range(100))
        assert turns.count == 25


async def test_a_short_computation_takes_no_turn() -> None:
    with Turns() as turns:
        assert await Slices(lambda: 0.0).collect(range(1000)) == list(range(1000))
        assert turns.count == 0


async def test_one_computation_at_a_time() -> None:
    now, order = 0.0, []

    def steps(name: str) -> Iterator[None]:
        nonlocal now
        for _ in range(3):
            now += SLICE_SECONDS
            order.append(name)
            yield None

    slices = Slices(lambda: now)
    await asyncio.gather(slices.collect(steps("a")), slices.collect(steps("b")))
    assert order == ["a", "a", "a", "b", "b", "b"]
    assert repr(slices) == "<Slices: free>"


async def test_a_thread_computes_one_at_a_time_while_the_loop_turns() -> None:
    may_end, found = threading.Event(), list[tuple[str, threading.Thread]]()

    def compute(name: str) -> str:
        assert may_end.wait(5)
        found.append((name, threading.current_thread()))
        return name

    slices = Slices()
    async with asyncio.TaskGroup() as tasks:
        both = [tasks.create_task(slices.in_thread(partial(compute, name))) for name in "ab"]
        await asyncio.sleep(0.01)
        assert not found
        may_end.set()
        assert [await one for one in both] == ["a", "b"]
    assert [name for name, _ in found] == ["a", "b"]
    assert threading.main_thread() not in [thread for _, thread in found]
