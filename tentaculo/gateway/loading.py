"""What takes long is done in a thread: a reload, and the loading of code that few gateways need."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Generic, TypeVar

from tentaculo.net.memory import without_collections

_SWITCH = 0.0005
"""Seconds that the event loop waits for the interpreter while a thread computes; Python's own 5 ms would delay each
request by as much."""

T = TypeVar("T")


class LoadedLater(Generic[T]):
    """What `load` returns, which is called once, in a thread: imports take some hundred milliseconds."""

    def __init__(self, load: Callable[[], T]) -> None:
        self._load = load
        self.loaded: T | None = None
        """It, where it is loaded: a request that finds it need not wait for `get`."""
        self._loading = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<LoadedLater: {'not loaded' if self.loaded is None else 'loaded'}>"

    async def get(self) -> T:
        """It, as soon as it is loaded. If `load` raises, this raises the same, and the next call tries again."""
        async with self._loading:
            if self.loaded is None:
                self.loaded = await asyncio.to_thread(self._load)
            return self.loaded


async def beside_the_loop(build: Callable[[], T]) -> T:
    """The result of `build`, which runs in a thread and gives the event loop its turns as often as it wants them.

    The garbage is not collected meanwhile: a collection stops the event loop too.
    """
    with _beside:
        return await asyncio.to_thread(build)


class _Beside:
    """What holds while a thread computes beside the event loop: from the first one to the last one."""

    def __init__(self) -> None:
        self._threads = 0
        self._held = ExitStack()

    def __enter__(self) -> None:
        if not self._threads:
            self._held.callback(sys.setswitchinterval, sys.getswitchinterval())
            sys.setswitchinterval(_SWITCH)
            self._held.enter_context(without_collections())
        self._threads += 1

    def __exit__(self, *_: object) -> None:
        self._threads -= 1
        if not self._threads:
            self._held.close()


_beside = _Beside()
