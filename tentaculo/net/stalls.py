"""Connections whose peer takes nothing of what it is sent: they end after a time.

The kernel has such a limit, TCP_USER_TIMEOUT, but each segment from the peer puts it off: a client that reads nothing
and sends a byte now and then would hold its connection, and what waits for it, for ever. So all connections of an event
loop are looked at together, a few times within the limit.

These looks also find a client that has left an event stream unseen: it sent so much behind its request that it is not read
any more, and the stream is silent, so that nothing is written to it either.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from tentaculo.net.tcp import acknowledged, has_ended, reset

LOOKS = 4
"""Looks within the limit. A connection ends once so many in a row have found that its peer took nothing."""


class _Client(Protocol):
    is_endless: bool
    """Whether nothing but its end, or that of its sending half, ends what it is being sent."""


class StallWatch:
    """Resets the connections, of those added, for which bytes have waited for `seconds` and none has been taken.

    Looks are counted, not seconds: a pause of this process, such as SIGSTOP, is one look.
    """

    __slots__ = ("_found", "_seconds", "_timer", "_transports")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._transports: dict[asyncio.Transport, _Client | None] = {}
        self._found: dict[asyncio.Transport, tuple[int | None, int]] = {}
        """What the last look found at those with bytes that wait: bytes taken so far, and looks since that has changed."""
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<StallWatch: {len(self._found)} of {len(self._transports)} connections wait>"

    def use(self, seconds: float) -> None:
        """Have this limit from now on, for the connections that are open as well."""
        if seconds != self._seconds:
            self._seconds = seconds
            self._stop()
            self._start()

    def add(self, transport: asyncio.Transport, client: _Client | None = None) -> None:
        """Watch a connection until it is discarded. `client` is whose connection it is, None for that of no client."""
        self._transports[transport] = client
        if self._timer is None:
            self._start()

    def discard(self, transport: asyncio.Transport) -> None:
        """Watch a connection no more: it is lost."""
        self._transports.pop(transport, None)
        self._found.pop(transport, None)
        if not self._transports:
            self._stop()

    def look(self) -> None:
        """Reset those that have taken nothing at `LOOKS` looks in a row, and those that have left. The timer calls this."""
        before, self._found = self._found, {}
        stalled = []
        for transport, client in self._transports.items():
            if client is not None and client.is_endless and not transport.is_reading() and has_ended(transport):
                stalled.append(transport)
                continue
            if not transport.get_write_buffer_size():
                continue
            taken = acknowledged(transport)
            last, looks = before.get(transport, (None, 0))
            looks = looks + 1 if taken is not None and taken == last else 0
            if looks == LOOKS:
                stalled.append(transport)
            self._found[transport] = (taken, looks)
        for transport in stalled:
            reset(transport)
        self._stop()
        self._start()

    def _start(self) -> None:
        if self._transports:
            self._timer = asyncio.get_running_loop().call_later(self._seconds / LOOKS, self.look)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
