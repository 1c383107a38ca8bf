"""The upstream for what nginx has no module for: WebSocket echo, a stream of events, and uploads.

    python -m bench.programs.live PORT

It expects well-formed requests, one at a time on each connection, and frames of one fragment.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
import time
from typing import cast

import uvloop

from bench import traffic

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
_EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
SLOTS = 20
"""The streams are spread over so many moments of each tenth of a second."""


class Streams:
    """Sends each subscriber ten events a second; an event is the moment of its sending, in nanoseconds."""

    def __init__(self) -> None:
        self._slots: list[set[Live]] = [set() for _ in range(SLOTS)]
        self._next = 0
        self._count = 0

    def add(self, connection: Live) -> None:
        """Begin to send."""
        self._slots[self._count % SLOTS].add(connection)
        self._count += 1

    def remove(self, connection: Live) -> None:
        """Stop to send."""
        for slot in self._slots:
            slot.discard(connection)

    def tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        """Serve one slot, and come again a twentieth of a tenth of a second later."""
        for connection in self._slots[self._next]:
            event = b"data: %d\n\n" % time.monotonic_ns()
            connection.transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        self._next = (self._next + 1) % SLOTS
        due += 0.1 / SLOTS
        loop.call_at(due, self.tick, loop, due)


class Live(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._buffer = b""
        self._left = 0
        self._is_chunked = self._is_socket = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the streams."""
        self._streams.remove(self)

    def data_received(self, data: bytes) -> None:
        """A head, a part of a body or frames."""
        if self._is_socket:
            self._echo(data)
        elif self._left or self._is_chunked:
            self._take_body(data)
        else:
            self._buffer += data
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if end:
                self._buffer = b""
                self._answer(head, rest)

    def _answer(self, head: bytes, rest: bytes) -> None:
        target = head.split(b" ", 2)[1].decode()
        lower = head.lower()
        if target == traffic.ECHO:
            key = head[lower.index(b"sec-websocket-key:") + 18 :].split(b"\r\n", 1)[0].strip()
            accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324 - RFC 6455 §4.2.2
            self.transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
            )
            self._is_socket = True
            self._echo(rest)
        elif target == traffic.TICKS:
            self.transport.write(_EVENTS)
            self._streams.add(self)
        elif target == traffic.UPLOAD and b"content-length:" in lower:
            self._left = int(lower.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            self._take_body(rest)
        elif target == traffic.UPLOAD:
            self._is_chunked = True
            self._take_body(rest)
        else:
            self.transport.write(_OK)

    def _take_body(self, data: bytes) -> None:
        if self._is_chunked:
            # The body never holds such bytes, so that only the last chunk looks like this.
            self._buffer = (self._buffer + data)[-len(_LAST_CHUNK) :]
            if self._buffer != _LAST_CHUNK:
                return
            self._buffer, self._is_chunked = b"", False
        else:
            self._left -= len(data)
            if self._left:
                return
        self.transport.write(_OK)

    def _echo(self, data: bytes) -> None:
        data = self._buffer + data
        answer = b""
        while len(data) >= 6 and len(data) >= (size := data[1] & 0x7F) + 6:
            if data[0] & 0x0F == 8:
                self.transport.close()
                return
            mask = int.from_bytes((data[2:6] * (size // 4 + 1))[:size])
            answer += bytes((data[0], size)) + (int.from_bytes(data[6 : size + 6]) ^ mask).to_bytes(size)
            data = data[size + 6 :]
        self._buffer = data
        if answer:
            self.transport.write(answer)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    streams = Streams()
    server = await loop.create_server(lambda: Live(streams), "127.0.0.1", port, backlog=4096)
    streams.tick(loop, loop.time())
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
