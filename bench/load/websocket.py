"""WebSockets: messages back and forth, or many that are only held open.

python -m bench.load.websocket PORT echo SOCKETS SECONDS
python -m bench.load.websocket PORT hold SOCKETS      prints once they are open, ends with its standard input
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

from bench import traffic

_PAYLOAD = b"x" * 64
_MASK = bytes((0x37, 0xFA, 0x21, 0x3D))
_FRAME = bytes((0x81, 0x80 | len(_PAYLOAD))) + _MASK + bytes(c ^ _MASK[i % 4] for i, c in enumerate(_PAYLOAD))
_ECHO = bytes((0x81, len(_PAYLOAD))) + _PAYLOAD
_AT_ONCE = 64


class Socket(asyncio.Protocol):
    """One WebSocket: sends a message, and the next once it has come back."""

    def __init__(self, *, talks: bool) -> None:
        self._talks = talks
        self._buffer = b""
        self._is_open = False
        self.echoes = 0
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(traffic.upgrade())

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake every waiter."""
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(f"refused: {self._buffer[:100]!r}"))

    def data_received(self, data: bytes) -> None:
        """The answer to the upgrade, then echoes."""
        if self._is_open and data == _ECHO:
            self.echoes += 1
            self._transport.write(_FRAME)
            return
        self._buffer += data
        if not self._is_open:
            self._open()
        elif len(self._buffer) >= len(_ECHO):
            if self._buffer != _ECHO:
                raise ConnectionError(f"came back as {self._buffer[:100]!r}")
            self._buffer = b""
            self.echoes += 1
            self._transport.write(_FRAME)

    def _open(self) -> None:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        if not head.startswith(b"HTTP/1.1 101"):
            self._transport.abort()
            return
        self._is_open, self._buffer = True, rest
        if not self.opened.done():
            self.opened.set_result(None)
        if self._talks:
            self._transport.write(_FRAME)

    @property
    def is_closed(self) -> bool:
        """Whether the other side has ended it."""
        return self._transport.is_closing()


async def open_all(port: int, count: int, *, talks: bool) -> list[Socket]:
    """Open `count` sockets, some at a time. Raises ConnectionError for the first that is refused."""
    loop = asyncio.get_running_loop()
    sockets: list[Socket] = []
    while len(sockets) < count:
        number = min(_AT_ONCE, count - len(sockets))
        made = [await loop.create_connection(lambda: Socket(talks=talks), "127.0.0.1", port) for _ in range(number)]
        sockets += [socket for _, socket in made]
        await asyncio.wait_for(asyncio.gather(*(socket.opened for socket in sockets[-number:])), 30)
    return sockets


async def echo(port: int, count: int, seconds: float) -> dict[str, float]:
    """Messages that came back, a second, and how many seconds it took, with the opening."""
    began = time.perf_counter()
    sockets = await open_all(port, count, talks=True)
    before = sum(socket.echoes for socket in sockets)
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - started
    if any(socket.is_closed for socket in sockets):
        raise ConnectionError("a WebSocket was closed while it talked")
    messages = (sum(socket.echoes for socket in sockets) - before) / took
    return {"messages": messages, "took": time.perf_counter() - began}


async def hold(port: int, count: int) -> None:
    """Keep them open until the standard input ends; then say how many still are."""
    sockets = await open_all(port, count, talks=False)
    print(json.dumps({"open": len(sockets)}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps({"open": sum(not socket.is_closed for socket in sockets)}), flush=True)


if __name__ == "__main__":
    if sys.argv[2] == "hold":
        uvloop.run(hold(int(sys.argv[1]), int(sys.argv[3])))
    else:
        print(json.dumps(uvloop.run(echo(int(sys.argv[1]), int(sys.argv[3]), float(sys.argv[4])))))
