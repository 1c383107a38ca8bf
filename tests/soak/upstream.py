"""An upstream of many moods, cheap enough not to be what a soak measures: the path says how it behaves.

An `asyncio.Protocol` without tasks. It runs in the process of the load, never in that of the gateway.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

PATTERN = bytes(range(256)) * 8192
"""2 MiB; what `/plain/N` answers with is its first N bytes."""
FLOOD = 16 * 2**20
"""Bytes that `/flood` sends, whether anybody reads them or not: more than all buffers on the way hold."""
EVENT_SECONDS = 0.01
_PIECE = 16384


def reset(transport: asyncio.BaseTransport) -> None:
    """Close with a RST in place of a FIN."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    cast(asyncio.Transport, transport).abort()


class Upstream:
    """The server: where it is, and what is connected to it."""

    def __init__(self) -> None:
        self.port = 0
        self.requests = 0
        """Requests so far, probes not counted."""
        self.connections: set[_Connection] = set()

    def close_idle(self) -> None:
        """Close every connection, as a server does with those that have idled for long."""
        for connection in list(self.connections):
            connection.transport.close()


@asynccontextmanager
async def moody_upstream() -> AsyncIterator[Upstream]:
    """An upstream on a free port."""
    state = Upstream()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(state, loop), "127.0.0.1", 0, backlog=4096)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()


class _Connection(asyncio.Protocol):
    """One connection: requests one after the other, each answered once its body is whole unless its mood is early."""

    transport: asyncio.Transport

    def __init__(self, state: Upstream, loop: asyncio.AbstractEventLoop) -> None:
        self._state = state
        self._loop = loop
        self._buffer = b""
        self._mood: Callable[[str], None] | None = None
        self._argument = ""
        self._left = 0
        """Bytes of the body that are still to come, or those of the chunk with its line end."""
        self._is_chunked = False
        self._count = 0
        self._crc = 0
        self._raw: Callable[[bytes], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._state.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._raw is not None:
            self._raw(data)
            return
        self._buffer = self._buffer + data if self._buffer else data
        while self._buffer and self._raw is None and not self.transport.is_closing():
            if self._mood is None:
                if not self._read_head():
                    return
            elif not self._read_body():
                return

    # -- reading -----------------------------------------------------------------------------------------------

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head, self._buffer = self._buffer[: end + 2], self._buffer[end + 4 :]
        _, target, _ = head[: head.index(b"\r")].decode("latin-1").split(" ", 2)
        _, name, argument, *_ = f"{target}//".split("/", 3)
        self._state.requests += name != "health"
        lower = head.lower()
        if early := _EARLY.get(name):
            early(self, argument)
            return False
        if b"\r\nexpect:" in lower:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._mood, self._argument = _MOODS[name].__get__(self), argument
        self._count = self._crc = self._left = 0
        self._is_chunked = b"\r\ntransfer-encoding:" in lower
        if not self._is_chunked:
            at = lower.find(b"\r\ncontent-length:")
            if at >= 0:
                self._left = int(lower[at + 17 : lower.index(b"\r\n", at + 17)])
            if not self._left:
                self._answer()
        return True

    def _read_body(self) -> bool:
        """Take what there is of the body; False when more is needed."""
        if self._is_chunked and not self._left:
            end = self._buffer.find(b"\r\n")
            if end < 0:
                return False
            size = int(self._buffer[:end], 16)
            if not size:
                if len(self._buffer) < end + 4:
                    return False
                self._buffer = self._buffer[end + 4 :]
                self._answer()
                return True
            self._buffer, self._left = self._buffer[end + 2 :], size + 2
        return self._take()

    def _take(self) -> bool:
        data, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
        self._left -= len(data)
        if self._is_chunked:
            # The last two of what is left are the chunk's line end.
            data = data[: max(0, len(data) + self._left - 2)] if self._left < 2 else data
        self._count += len(data)
        self._crc = zlib.crc32(data, self._crc)
        if not self._left and not self._is_chunked:
            self._answer()
        return True

    def _answer(self) -> None:
        mood, self._mood = self._mood, None
        assert mood is not None
        mood(self._argument)

    # -- well behaved ------------------------------------------------------------------------------------------

    def _whole(self, body: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def health(self, argument: str) -> None:
        self._whole(b'{"status":"ok"}')

    def plain(self, argument: str) -> None:
        self._whole(PATTERN[: int(argument)])

    def head(self, argument: str) -> None:
        """An answer to HEAD: a length and no body."""
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % int(argument))

    def chunked(self, argument: str) -> None:
        body = PATTERN[: int(argument)]
        pieces = [body[at : at + _PIECE] for at in range(0, len(body), _PIECE)]
        self.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.transport.writelines([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces])
        self.transport.write(b"0\r\n\r\n")

    def closing(self, argument: str) -> None:
        """A body that ends with the connection."""
        self.transport.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + PATTERN[: int(argument)])
        self.transport.close()

    def count(self, argument: str) -> None:
        """How many bytes came, and their sum."""
        self._whole(b"%d %d" % (self._count, self._crc))

    def status(self, argument: str) -> None:
        """An answer without a body: 204 or 304."""
        self.transport.write(b"HTTP/1.1 %d X\r\n\r\n" % int(argument))

    def slow(self, argument: str) -> None:
        """An answer after some milliseconds."""
        self._timer = self._loop.call_later(int(argument) / 1000, self._whole, b"slow")

    def interim(self, argument: str) -> None:
        self.transport.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
        self._whole(b"after all")

    def sse(self, argument: str) -> None:
        """Events until somebody ends it."""
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        self._event()

    def _event(self) -> None:
        self.transport.write(b"data: tick\n\n")
        self._timer = self._loop.call_later(EVENT_SECONDS, self._event)

    # -- badly behaved -----------------------------------------------------------------------------------------

    def hang(self, argument: str) -> None:
        """No answer at all."""

    def deaf(self, argument: str) -> None:
        """Stops reading at the head."""
        self._raw = self._ignore
        self.transport.pause_reading()

    def reset(self, argument: str) -> None:
        reset(self.transport)

    def end(self, argument: str) -> None:
        """Closes in place of an answer."""
        self.transport.close()

    def cut(self, argument: str) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nnot all of it")
        self.transport.close()

    def cutchunk(self, argument: str) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nnot all")
        self.transport.close()

    def cutreset(self, argument: str) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nnot all of it")
        self._timer = self._loop.call_later(0.01, reset, self.transport)

    def stall(self, argument: str) -> None:
        """Half a body, then silence."""
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nand then")

    def garbage(self, argument: str) -> None:
        self.transport.write(b"\x00\x01 this is not HTTP\r\n\r\n")

    def halfhead(self, argument: str) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Le")
        self.transport.close()

    def endless(self, argument: str) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * 20_000)

    def extra(self, argument: str) -> None:
        """Bytes beyond the length."""
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and something that nobody asked for")

    def early(self, argument: str) -> None:
        """A refusal before the body has been read; what still comes is thrown away."""
        self._raw = self._ignore
        self.transport.write(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")

    def _ignore(self, data: bytes) -> None:
        """Nobody reads it."""

    # -- upgrades ----------------------------------------------------------------------------------------------

    def _switch(self, receive: Callable[[bytes], None]) -> None:
        self._raw = receive
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )

    def echo(self, argument: str) -> None:
        """A tunnel that gives back every byte; its frames are the load's own."""
        self._switch(self.transport.write)

    def echoreset(self, argument: str) -> None:
        """A tunnel that is reset at the first byte."""
        self._switch(lambda data: reset(self.transport))

    def echoend(self, argument: str) -> None:
        """A tunnel that ends at the first byte."""
        self._switch(lambda data: self.transport.close())

    def flood(self, argument: str) -> None:
        """A tunnel that sends and sends."""
        self._switch(self._ignore)
        self.transport.writelines([PATTERN] * (FLOOD // len(PATTERN)))

    def mute(self, argument: str) -> None:
        """A tunnel that takes nothing."""
        self._switch(self._ignore)
        self.transport.pause_reading()


_MOODS: dict[str, Callable[[_Connection, str], None]] = {
    name: method for name, method in vars(_Connection).items() if name.isalpha() and callable(method)
}
_EARLY = {name: _MOODS.pop(name) for name in ("early", "deaf", "sse", "echo", "echoreset", "echoend", "flood", "mute")}
