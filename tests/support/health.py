"""Fleets for the health tests: configurations in a line, clocks that obey, and servers that do as they are told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tentaculo.config.schema import Config
from tests.support.certificates import self_signed

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., Awaitable[int]]


class Clock:
    """A clock that moves when told to, monotonic seconds and time of day together."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2025, 12, 16, 9, 45, tzinfo=UTC) + timedelta(seconds=self.seconds - 1000)


def fleet(**services: Any) -> Config:
    """A configuration of `services`, each given as the table of the file."""
    return Config.of({"services": services})


def answer(body: bytes = b'{"status":"ok"}', status: str = "200 OK", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status.encode(), len(body), headers, body)


def says(*answers: bytes) -> Talk:

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in answers:
            writer.write(part)
        await writer.drain()

    return talk


def by_path(answers: dict[str, bytes]) -> Talk:
    """Answers each path with its bytes, any other with 404."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.get(head.split(b" ")[1].decode(), answer(b"no", "404 Not Found")))
        await writer.drain()

    return talk


def websocket_response(head: bytes, salt: bytes = b"") -> bytes:
    """The 101 to a WebSocket handshake with this head; with `salt` its accept value is wrong."""
    key = next(line[19:] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11" + salt).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """`await serve(talk, host=…, port=…, ssl=…)` → port. `talk` has each connection to itself; it is closed after."""
    servers: list[asyncio.Server] = []
    writers: set[asyncio.StreamWriter] = set()
    talks: set[asyncio.Task[Any]] = set()

    async def start(talk: Talk, host: str = "127.0.0.1", port: int = 0, ssl: ssl.SSLContext | None = None) -> int:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            talks.add(task)
            writers.add(writer)
            try:
                await talk(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass  # the prober has left, or the test is over
            finally:
                writer.close()

        server = await asyncio.start_server(connected, host, port, ssl=ssl, backlog=512)
        servers.append(server)
        found: int = server.sockets[0].getsockname()[1]
        return found

    yield start
    for server in servers:
        server.close()
    for task in talks:
        task.cancel()
    await asyncio.gather(*talks, return_exceptions=True)
    for writer in writers:
        writer.transport.abort()


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's context with a certificate that it signed itself."""
    return self_signed(tmp_path_factory.mktemp("tls")).server_context()
