"""Raw sockets on both sides: a client that says exactly what it is told, and upstreams that misbehave on purpose."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeAlias

TIMEOUT = 10.0
"""Seconds that any one step of a test may take."""

WEBSOCKET = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
"""Header lines of the request that opens a WebSocket, without their ends."""
Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter


class Message:
    """What a request and a response have in common."""

    headers: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The one value of a header; the test fails if it is repeated."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0] if values else None


@dataclass
class Response(Message):
    """An answer as it came over the wire."""

    status: int
    version: str
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    raw_head: bytes = b""


@dataclass
class Request(Message):
    """A request as an upstream got it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    raw_head: bytes


def split_head(head: bytes) -> tuple[str, list[tuple[str, str]]]:
    """First line and headers of a head, as latin-1 text."""
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    return first, [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]


async def read_chunked(reader: Reader) -> bytes:
    """A chunked body, trailers dropped."""
    body = b""
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if not size:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return body
        body += (await reader.readexactly(size + 2))[:-2]


async def read_request(reader: Reader) -> Request:
    """One request, its body included. Raises `asyncio.IncompleteReadError` when the client leaves."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, headers = split_head(head)
    method, target, _ = first.split(" ", 2)
    request = Request(method, target, headers, b"", head)
    if request.get("transfer-encoding"):
        request.body = await read_chunked(reader)
    elif length := request.get("content-length"):
        request.body = await reader.readexactly(int(length))
    return request


@dataclass
class Wire:
    """A client's connection."""

    reader: Reader
    writer: Writer

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Response:
        """The next head, interim ones included."""
        async with asyncio.timeout(TIMEOUT):
            head = await self.reader.readuntil(b"\r\n\r\n")
        first, headers = split_head(head)
        version, status, *reason = first.split(" ", 2)
        return Response(int(status), version, reason[0] if reason else "", headers, raw_head=head)

    async def response(self, method: str = "GET") -> Response:
        """The next final answer with its body, by its framing."""
        async with asyncio.timeout(TIMEOUT):
            response = await self.head()
            while response.status < 200 and response.status != 101:
                response = await self.head()
            if method == "HEAD" or response.status in (101, 204, 304):
                return response
            if response.get("transfer-encoding"):
                response.body = await read_chunked(self.reader)
            elif (length := response.get("content-length")) is not None:
                response.body = await self.reader.readexactly(int(length))
            else:
                response.body = await self.reader.read(-1)
            return response

    async def rest(self) -> bytes:
        """Everything until the connection ends, however it ends."""
        data = b""
        async with asyncio.timeout(TIMEOUT):
            with suppress(ConnectionError):
                while more := await self.reader.read(65536):
                    data += more
        return data

    def abort(self) -> None:
        """Leave without a word."""
        self.writer.transport.abort()

    def reset(self) -> None:
        """Leave with a reset: a plain close looks like the end of the sending half at first."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


@asynccontextmanager
async def dial(port: int, host: str = "127.0.0.1") -> AsyncIterator[Wire]:
    """A connection to `port` of this machine."""
    reader, writer = await asyncio.open_connection(host, port, limit=2**20)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


@dataclass
class Upstream:
    """A server whose every connection runs a script."""

    port: int
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    gone: int = 0
    """Connections that have ended."""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; looked at whenever something happens here."""
        async with asyncio.timeout(TIMEOUT), self.changed:
            await self.changed.wait_for(condition)

    async def note(self) -> None:
        """Wake every waiter."""
        async with self.changed:
            self.changed.notify_all()


Answerer: TypeAlias = Callable[[Request], bytes | Awaitable[bytes]]
Script: TypeAlias = "Callable[[Reader, Writer, Upstream], Awaitable[None]]"


@asynccontextmanager
async def upstream(
    script: Script, host: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Upstream]:
    """A server on a free port that runs `script` for each connection and closes it afterwards."""
    state = Upstream(0)
    writers: set[Writer] = set()

    async def serve(reader: Reader, writer: Writer) -> None:
        state.connections += 1
        await state.note()
        writers.add(writer)
        try:
            await script(reader, writer, state)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writers.discard(writer)
            writer.close()
            state.gone += 1
            await state.note()

    server = await asyncio.start_server(serve, host, 0, limit=2**20, backlog=1024, ssl=tls)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for writer in list(writers):
            writer.transport.abort()


def answering(answer: bytes | Answerer) -> Script:
    """A script that answers each request with the same bytes, or with what a function makes of it."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        while True:
            request = await read_request(reader)
            state.requests.append(request)
            await state.note()
            made = answer(request) if callable(answer) else answer
            writer.write(made if isinstance(made, bytes) else await made)
            await writer.drain()

    return script


def until_it_leaves(marker: bytes) -> Script:
    """Notes a request once `marker` has arrived, sends nothing, and reads until the other side has left."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(marker)
        state.requests.append(Request("", "", [], b"", b""))
        await state.note()
        await reader.read(-1)

    return script


def ok(body: bytes = b"ok", *lines: bytes, status: bytes = b"200 OK") -> bytes:
    """A plain answer with a length."""
    return b"".join((b"HTTP/1.1 ", status, b"\r\n", *(line + b"\r\n" for line in lines))) + (
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
