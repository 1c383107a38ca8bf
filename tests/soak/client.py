"""A client that costs little, keeps its connection while it may, and can leave at any point."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from tests.soak.upstream import reset
from tests.support.wire import Reader, Writer, read_chunked

_LIMIT = 2**18


class UnexpectedError(Exception):
    """The gateway did something else than the contract says."""


class Answer(NamedTuple):
    """An answer, whole."""

    status: int
    head: bytes
    """In lower case."""
    body: bytes


class Client:
    """One client. `reader` and `writer` are those of its connection, for exchanges that need raw bytes.

    `headers` are sent with each request, the token among them.
    """

    reader: Reader
    writer: Writer

    def __init__(self, port: int, headers: bytes) -> None:
        self.port = port
        self.headers = headers
        self.is_open = False

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    async def open(self) -> None:
        """Connect, unless it is connected."""
        if not self.is_open:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=_LIMIT)
            self.is_open = True

    def leave(self, *, with_reset: bool = False) -> None:
        """Hang up at once; `with_reset` by a RST."""
        if self.is_open:
            self.is_open = False
            if with_reset:
                reset(self.writer.transport)
            else:
                self.writer.transport.abort()

    def head(self, method: str, target: str, *lines: str, version: str = "1.1") -> bytes:
        """A request's head."""
        more = "".join(f"{line}\r\n" for line in lines)
        return f"{method} {target} HTTP/{version}\r\nHost: gateway\r\n{more}".encode() + self.headers + b"\r\n"

    async def send(self, data: bytes) -> None:
        """Send bytes on a connection of which nothing is known: a new one."""
        self.leave()
        await self.open()
        self.writer.write(data)

    async def ask(
        self,
        method: str,
        target: str,
        *lines: str,
        body: bytes | None = None,
        chunks: Iterable[bytes] | None = None,
        version: str = "1.1",
    ) -> Answer:
        """A request and its answer, on the connection that there is if there is one."""
        await self.open()
        if body is not None:
            lines = (*lines, f"Content-Length: {len(body)}")
        elif chunks is not None:
            lines = (*lines, "Transfer-Encoding: chunked")
        self.writer.write(self.head(method, target, *lines, version=version))
        if body is not None:
            self.writer.write(body)
        elif chunks is not None:
            for chunk in chunks:
                self.writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                await self.writer.drain()
            self.writer.write(b"0\r\n\r\n")
        return await self.answer(method)

    async def answer(self, method: str = "GET") -> Answer:
        """The next final answer. The connection is closed if the answer says so."""
        status, head = await self.read_head()
        while status < 200 and status != 101:
            status, head = await self.read_head()
        body = await self._body(method, status, head)
        if b"\r\nconnection: close" in head or head.startswith(b"http/1.0"):
            self.leave()
        return Answer(status, head, body)

    async def read_head(self) -> tuple[int, bytes]:
        """The next head, interim ones included: its status, and all of it in lower case."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        return int(head[9:12]), head

    async def _body(self, method: str, status: int, head: bytes) -> bytes:
        if method == "HEAD" or status in (101, 204, 304):
            return b""
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            return await self.reader.readexactly(int(head[at + 17 : head.index(b"\r\n", at + 17)]))
        if b"\r\ntransfer-encoding:" in head:
            return await read_chunked(self.reader)
        return await self.reader.read(-1)


def expect(answer: Answer, *statuses: int) -> None:
    """Raise `UnexpectedError` unless the answer has one of these statuses."""
    if answer.status not in statuses:
        wanted = " or ".join(map(str, statuses))
        raise UnexpectedError(f"{answer.status} in place of {wanted}: {answer.body[:300]!r}")


async def expect_end(client: Client) -> bytes:
    """What still comes until the connection ends, however it ends."""
    data = b""
    try:
        while more := await client.reader.read(_LIMIT):
            data += more
    except ConnectionError:
        pass
    client.leave()
    return data
