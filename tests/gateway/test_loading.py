"""What is loaded when somebody first asks for it."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading

import pytest

from tentaculo.gateway.loading import LoadedLater, beside_the_loop
from tentaculo.tasks import TaskGroup


async def test_it_is_loaded_once_in_a_thread_however_many_ask() -> None:
    threads: list[int] = []

    def load() -> object:
        threads.append(threading.get_ident())
        return object()

    later = LoadedLater(load)
    assert repr(later) == "<LoadedLater: not loaded>"
    assert later.loaded is None
    found = await asyncio.gather(*(later.get() for _ in range(9)), later.get())
    assert len(set(map(id, found))) == 1
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
    assert repr(later) == "<LoadedLater: loaded>"
    assert later.loaded is found[0]


async def test_a_failure_is_not_kept() -> None:
    results = iter((OSError("too many open files"), 5))

    def load() -> int:
        if isinstance(result := next(results), OSError):
            raise result
        return result

    later = LoadedLater(load)
    with pytest.raises(OSError, match="too many"):
        await later.get()
    assert await later.get() == 5


async def test_what_is_built_beside_the_loop_waits_for_no_collection() -> None:
    before = sys.getswitchinterval()

    def build() -> tuple[int, bool, float]:
        return threading.get_ident(), gc.isenabled(), sys.getswitchinterval()

    thread, collects, switch = await beside_the_loop(build)
    assert thread != threading.get_ident()
    assert not collects
    assert switch < before
    assert gc.isenabled()
    assert sys.getswitchinterval() == before


async def test_a_fault_beside_the_loop_leaves_the_collector_as_it_was() -> None:
    before = sys.getswitchinterval()

    def build() -> None:
        raise OSError("no such file")

    with pytest.raises(OSError, match="no such file"):
        await beside_the_loop(build)
    assert gc.isenabled()
    assert sys.getswitchinterval() == before


async def test_several_beside_the_loop_leave_all_as_it_was() -> None:
    before, first, second = sys.getswitchinterval(), threading.Event(), threading.Event()
    tasks = TaskGroup("threads")
    one, other = (tasks.start(beside_the_loop(event.wait), "thread") for event in (first, second))
    await asyncio.sleep(0)
    first.set()
    assert await one
    assert not gc.isenabled()
    assert sys.getswitchinterval() < before
    second.set()
    assert await other
    assert gc.isenabled()
    assert sys.getswitchinterval() == before
