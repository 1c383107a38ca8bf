"""What the exchange on one connection waits for: room in a send buffer, and at most until a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_NEVER = float("inf")
_PAUSE = 1.0
"""Seconds by which a timer is late after a pause of this process, such as SIGSTOP; then a limit ends that much later."""


def _nothing() -> None:
    """What there is to do once a deadline has been stopped."""


class Deadline:
    """Calls `on_reached` once when a limit passes.

    Setting and lifting only writes a number: the timer is left standing and looked at when it fires, so that an
    exchange of a few milliseconds schedules none.
    """

    __slots__ = ("_at", "_loop", "_on_reached", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_reached: Callable[[], None]) -> None:
        self._loop = loop
        self._on_reached = on_reached
        self._at = _NEVER
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return "<Deadline: none>" if self._at == _NEVER else f"<Deadline: in {self._at - self._loop.time():.3f} s>"

    def set(self, seconds: float) -> None:
        """The limit is `seconds` from now; an earlier one is forgotten."""
        at = self._at = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._look)

    def lift(self) -> None:
        """There is no limit."""
        self._at = _NEVER

    def stop(self) -> None:
        """Lift the limit for ever, with its timer and its reference to the callback."""
        self._at = _NEVER
        self._on_reached = _nothing
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._at == _NEVER:
            return
        now = self._loop.time()
        if now - self._at >= _PAUSE:
            # This process was paused. What the service sent meanwhile is read before the limit counts.
            self._at = now + _PAUSE
        if now < self._at:
            self._timer = self._loop.call_at(self._at, self._look)
            return
        self._at = _NEVER
        self._on_reached()


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
