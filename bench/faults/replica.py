"""A service that can be broken from outside: a small HTTP server, and a second port that commands it.

    python -m bench.faults.replica PORT CONTROL_PORT

It expects well-formed requests, one at a time on each connection. A command is a line of JSON: a `Behaviour`, or
`null` to ask for nothing. The response is the line `[[moments], moment]`: when each request of the traffic has come since
the last command, and when its health was last asked for (null if never), by CLOCK_MONOTONIC, which all processes of a
machine share.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import cast

from bench.faults.catalogue import WELL, Behaviour, behaviour_from

HEALTH = b"/health"
_BODY = b'{"status":"ok"}'


class Replica:
    """The server's state."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        # The same failures for every proxy.
        self.random = random.Random(5)  # noqa: S311 - no secret
        self.behaviour = WELL
        self.arrivals: list[float] = []
        self.probed: float | None = None
        self.connections: set[Connection] = set()
        self.gone = asyncio.Event()
        """Whether the bench has gone: then nobody else would end this."""
        self.held: list[Connection] = []
        """Connections on which it was asked something while it hangs."""
        self._busy = 0
        self._waiting: deque[Callable[[], None]] = deque()

    async def behave(self, behaviour: Behaviour) -> None:
        """Do so from now on."""
        self.behaviour = behaviour
        self._work()
        if not behaviour.hangs:
            # As when it is restarted: what it was asked is never answered.
            for connection in self.held:
                connection.transport.abort()
            self.held.clear()
        if behaviour.closed and self._server is not None:
            self._server.close()
            self._server = None
            for connection in list(self.connections):
                connection.transport.abort()
        elif not behaviour.closed and self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: Connection(self), "127.0.0.1", self._port, backlog=1024, reuse_address=True
            )

    def work(self, answer: Callable[[], None]) -> None:
        """Answer a request of the traffic when it has been worked on."""
        self._waiting.append(answer)
        self._work()

    def _work(self) -> None:
        behaviour = self.behaviour
        while self._waiting and (not behaviour.slots or self._busy < behaviour.slots):
            self._busy += 1
            wait = behaviour.delay + behaviour.work
            asyncio.get_running_loop().call_later(wait, self._finish, self._waiting.popleft())

    def _finish(self, answer: Callable[[], None]) -> None:
        self._busy -= 1
        answer()
        self._work()

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take commands until the bench goes."""
        while line := await reader.readline():
            if (command := json.loads(line)) is not None:
                await self.behave(behaviour_from(command))
            arrivals, self.arrivals = self.arrivals, []
            writer.write(json.dumps([arrivals, self.probed]).encode() + b"\n")
        writer.close()
        self.gone.set()


class Connection(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)
        self._replica.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._replica.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """A request, or a part of one."""
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        self._buffer = b""
        replica, behaviour = self._replica, self._replica.behaviour
        is_health = head.split(b" ", 2)[1] == HEALTH
        if is_health:
            replica.probed = time.monotonic()
        else:
            replica.arrivals.append(time.monotonic())
        if behaviour.hangs:
            replica.held.append(self)
            return
        fails = replica.random.random() < (behaviour.failing_health if is_health else behaviour.failing)
        status = b"500 Internal Server Error" if fails else b"200 OK"
        answer = partial(self._answer, status, is_last=b"\r\nconnection: close" in head.lower())
        if is_health:
            asyncio.get_running_loop().call_later(behaviour.delay, answer)
        else:
            replica.work(answer)

    def _answer(self, status: bytes, *, is_last: bool) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (status, len(_BODY), _BODY)
        )
        if is_last:
            self.transport.close()


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


async def _serve(port: int, control: int) -> None:
    replica = Replica(port)
    await replica.behave(WELL)
    await asyncio.start_server(replica.control, "127.0.0.1", control)
    await replica.gone.wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
