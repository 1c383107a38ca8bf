"""An upstream and a client that cost as little as can be, and the same each time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

BODY = b"x" * 1024
HEADERS = (
    b"Host: localhost\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0)\r\nAccept: application/json\r\n"
    b"Accept-Language: en-GB,en;q=0.7\r\nAccept-Encoding: gzip, deflate, br\r\nReferer: http://localhost:8020/\r\n"
    b"Cookie: session=0123456789abcdef\r\nCache-Control: no-cache\r\n"
)
"""With the token, the nine ordinary headers of a request."""
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 19:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 1024\r\n\r\n" + BODY
)


class Upstream(asyncio.Protocol):
    """Answers each request at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        assert data.endswith(b"\r\n\r\n"), "a request came in parts"
        self._write(_ANSWER)


class Client(asyncio.Protocol):
    """One keep-alive connection to a gateway, one request at a time."""

    def __init__(self, token: bytes, targets: int, body: bytes) -> None:
        method, length = (b"POST", b"Content-Length: %d\r\n" % len(body)) if body else (b"GET", b"")
        rest = b" HTTP/1.1\r\n" + HEADERS + token + length + b"\r\n" + body
        self._requests = [method + b" /web/k%d" % number + rest for number in range(targets)]
        self._data = b""
        self._answered: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._data.endswith(BODY) and self._answered is not None:
            self._answered.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionError("the gateway hung up"))

    async def ask(self, times: int) -> None:
        """Send a request, and the next when its answer has come; each has another target than the one before it."""
        for number in range(times):
            self._data = b""
            self._answered = asyncio.get_running_loop().create_future()
            self.transport.write(self._requests[number % len(self._requests)])
            await self._answered
            assert self._data.startswith(b"HTTP/1.1 200 ")


@pytest.fixture
async def upstream_port() -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def dialled(port: int, token: bytes, targets: int = 1, body: bytes = b"") -> AsyncIterator[Client]:
    """A client whose connections, and the gateway's to the upstream, stand and are warm. It asks for `targets` in turn.

    With a `body` it sends POST requests. It ends as a head does.
    """
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_connection(lambda: Client(token, targets, body), "127.0.0.1", port)
    try:
        await client.ask(200)
        yield client
    finally:
        transport.abort()
