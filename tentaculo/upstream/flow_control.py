"""Whether a send buffer has room, and who waits until it has."""

from __future__ import annotations

import asyncio


class WriteGate:
    """Room in one send buffer. One task waits for it at most."""

    __slots__ = ("_loop", "_waiter", "is_there")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self.is_there = True

    def __repr__(self) -> str:
        return f"<Room: {'there' if self.is_there else 'none'}>"

    def end(self) -> None:
        """The buffer is over its mark."""
        self.is_there = False

    def begin(self) -> None:
        """The buffer has room again, or nobody needs it any more."""
        self.is_there = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Wait until there is room."""
        while not self.is_there:
            self._waiter = self._loop.create_future()
            await self._waiter
