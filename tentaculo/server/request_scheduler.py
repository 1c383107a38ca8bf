"""How much of a turn of the event loop new requests may take."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Protocol

LOOK = 16
"""Requests begun before it is watched whether the loop has turned; watching costs a little."""
MOST = 32
"""Requests begun in one turn. More at once are no faster: what they touch leaves the processor's cache."""
MAX_KEPT = 16 * 1024
"""Bytes of one connection that wait for a turn; with more it is served at once, and memory stays bounded."""


class Startable(Protocol):
    """A client connection with no request on it."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """None once the client has gone, closing once it has left."""

    def receive(self, data: bytes) -> None:
        """Begin with what the client sent."""


class RequestScheduler:
    """Begins a bounded number of requests in each turn of the loop; the others wait, first come, first served.

    libuv asks for ready sockets up to 48 times before it runs anything else: timers, tasks, new connections. Where a
    thousand clients are quick with their next request, a turn so takes a second, and what needs several, such as a new
    connection to an upstream, many.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._begun = 0
        self._is_watched = False
        self._waiting: OrderedDict[Startable, bytes] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Turns: {self._begun} begun, {len(self._waiting)} waiting>"

    def begin(self, connection: Startable, data: bytes) -> None:
        """Give `data` to `connection`, which has no request on it: at once, or when it is its turn."""
        self._begun += 1
        if self._begun <= LOOK:
            connection.receive(data)
            return
        if not self._is_watched:
            self._watch()
        waiting = self._waiting
        kept = waiting.get(connection)
        if kept is not None:
            waiting[connection] = data = kept + data
            if len(data) > MAX_KEPT:
                connection.receive(waiting.pop(connection))
        elif (self._begun > MOST or waiting) and len(data) <= MAX_KEPT:
            waiting[connection] = data
        else:
            connection.receive(data)

    def _watch(self) -> None:
        self._is_watched = True
        self._loop.call_soon(self._turned)

    def _turned(self) -> None:
        # Whoever sends on while it is served must not overtake those who wait.
        self._begun = LOOK
        waiting = self._waiting
        try:
            for _ in range(min(MOST, len(waiting))):
                connection, data = waiting.popitem(last=False)
                transport = connection.transport
                if transport is not None and not transport.is_closing():
                    connection.receive(data)
        finally:
            if waiting:
                self._begun = LOOK
                self._watch()
            else:
                self._begun = 0
                self._is_watched = False
