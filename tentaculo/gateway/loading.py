"""Code that few gateways need, loaded when somebody first asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LoadedLater(Generic[T]):
    """What `load` returns, which is called once, in a thread: imports take some hundred milliseconds."""

    def __init__(self, load: Callable[[], T]) -> None:
        self._load = load
        self._loaded: list[T] = []
        self._loading = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<LoadedLater: {'loaded' if self._loaded else 'not loaded'}>"

    async def get(self) -> T:
        """It, as soon as it is loaded. If `load` raises, this raises the same, and the next call tries again."""
        async with self._loading:
            if not self._loaded:
                self._loaded.append(await asyncio.to_thread(self._load))
        return self._loaded[0]
