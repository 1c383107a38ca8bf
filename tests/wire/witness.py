"""An upstream that writes down every byte it is sent, and clients that send any bytes at all, by the thousand."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from tests.wire.readers import BrokenError, IncompleteError, Message, read_body, read_head

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [\t -~]*")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t -~\x80-\xff]*)")
_NUMBER = re.compile(rb"-([0-9]+)$")


@dataclass
class Seen:
    """What one connection brought to the upstream."""

    raw: bytearray = field(default_factory=bytearray)
    messages: list[Message] = field(default_factory=list)
    position: int = 0
    """Behind the last whole message."""
    fault: str = ""
    """What no strict reader accepts, empty while there is none."""


class Witness:
    """The upstream: answers each request by its method, target and body, and remembers them by their numbers."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: list[Seen] = []
        self.by_number: dict[int, list[Message]] = defaultdict(list)
        """Whole requests whose target ends in `-<number>`, in the order in which they came."""
        self.begun: dict[int, Message] = {}
        """The same for a request whose body has not ended."""

    def protocol(self) -> asyncio.Protocol:
        """For one connection."""
        return _WitnessConnection(self)

    def note(self, message: Message, *, is_whole: bool) -> None:
        """Remember a request."""
        match = _NUMBER.search(message.target)
        if match is None:
            return
        number = int(match[1])
        if is_whole:
            self.begun.pop(number, None)
            self.by_number[number].append(message)
        else:
            self.begun[number] = message


def echo(method: bytes, target: bytes, body: bytes) -> bytes:
    """The body of the witness's answer, one for each request."""
    return b"%b %b %d %b" % (method, target, len(body), body)


class _WitnessConnection(asyncio.Protocol):
    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._seen = Seen()
        self._transport: asyncio.Transport | None = None
        witness.connections.append(self._seen)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        seen = self._seen
        seen.raw += data
        while seen.position < len(seen.raw) and not seen.fault:
            message = None
            try:
                message = read_head(bytes(seen.raw), seen.position)
                read_body(bytes(seen.raw), message)
            except IncompleteError:
                if message is not None:
                    self._witness.note(message, is_whole=False)
                return
            except BrokenError as error:
                seen.fault = f"broken {error.where}: {bytes(seen.raw[seen.position :])[:300]!r}"
                assert self._transport is not None
                self._transport.abort()
                return
            seen.position = message.end
            seen.messages.append(message)
            self._witness.note(message, is_whole=True)
            self._answer(message)

    def _answer(self, message: Message) -> None:
        body = echo(message.method, message.target, message.body)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert self._transport is not None
        self._transport.write(head if message.method == b"HEAD" else head + body)


@asynccontextmanager
async def listening(witness: Witness) -> AsyncIterator[Witness]:
    """`witness` on a free port."""
    server = await asyncio.get_running_loop().create_server(witness.protocol, "127.0.0.1", 0, backlog=1024)
    witness.port = server.sockets[0].getsockname()[1]
    try:
        yield witness
    finally:
        server.close()


@dataclass
class Answer:
    """A final answer as a client got it."""

    status: int
    body: bytes
    closes: bool


class Caller(asyncio.Protocol):
    """A client's connection: sends pieces, and reads answers strictly.

    `done` is set once as many answers have come as were awaited, one has said that it is the last, or the connection
    has ended. What is no answer stands in `fault`.
    """

    def __init__(self, methods: Sequence[bytes], awaited: int) -> None:
        """`methods` are those of the requests, in order; of later ones GET."""
        self._methods = methods
        self.awaited = awaited
        self.transport: asyncio.Transport | None = None
        self.received = bytearray()
        self.answers: list[Answer] = []
        self.fault = ""
        self.is_closed = False
        self.done = asyncio.Event()
        self._position = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        while not self.fault and self._position < len(self.received):
            if self.answers and self.answers[-1].closes:
                self._take_for_refused_head()
                return
            before = self._position
            self._read_answer()
            if self._position == before:
                return
            if len(self.answers) >= self.awaited or self.answers[-1].closes:
                self.done.set()

    def _take_for_refused_head(self) -> None:
        """The body of a refusal, where the gateway could not know that the method was HEAD."""
        position, last = len(self.answers) - 1, self.answers[-1]
        if self._method(position) != b"HEAD" or last.status < 400:
            self.fault = f"bytes behind the last answer: {bytes(self.received[self._position :])[:200]!r}"

    def _method(self, position: int) -> bytes:
        return self._methods[position] if position < len(self._methods) else b"GET"

    def _read_answer(self) -> None:
        raw, start = bytes(self.received), self._position
        end = raw.find(b"\r\n\r\n", start)
        if end < 0:
            return
        first, *lines = raw[start:end].split(b"\r\n")
        status, fields = _STATUS_LINE.fullmatch(first), [_FIELD.fullmatch(line) for line in lines]
        if status is None or any(match is None for match in fields):
            self.fault = f"no answer: {raw[start:][:200]!r}"
            return
        pairs = [(match[1].lower(), match[2].strip()) for match in fields if match is not None]
        lengths = [value for name, value in pairs if name == b"content-length"]
        if len(lengths) != 1 or any(name == b"transfer-encoding" for name, _ in pairs):
            self.fault = f"another framing than the upstream's: {raw[start:][:200]!r}"
            return
        size = 0 if self._method(len(self.answers)) == b"HEAD" else int(lengths[0])
        if end + 4 + size > len(raw):
            return
        closes = (b"connection", b"close") in pairs
        self.answers.append(Answer(int(status[1]), raw[end + 4 : end + 4 + size], closes))
        self._position = end + 4 + size

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        self.done.set()

    async def send(self, port: int, pieces: Sequence[bytes]) -> None:
        """Connect and send `pieces` as segments of their own."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, "127.0.0.1", port)
        for position, piece in enumerate(pieces):
            if self.transport is None or self.transport.is_closing():
                return
            self.transport.write(piece)
            if position + 1 < len(pieces):
                # A few rounds of the loop: both ends of the socket live in it, so the first part is read alone.
                for _ in range(4):
                    await asyncio.sleep(0)

    def leave(self) -> None:
        """End the connection."""
        if self.transport is not None:
            self.transport.abort()
