"""Serving at once: a request that has been read goes to its server in the same call, without a task of its own.

aiohttp's server starts a task for each request and builds request and response objects, which costs more than
forwarding the request does. So what arrives whole while the connection is idle is offered to `serve` first, by way of
aiohttp's own parser; what that does not take goes the ordinary way, and so does everything that follows closely upon
another request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from aiohttp.http import HttpVersion, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from tentaculo.net.header_fields import RawHeaders
from tentaculo.net.memory import MemoryBudget
from tentaculo.server.request_framing import HEAD_END
from tentaculo.server.request_receiver import RequestReceiver

MAX_REMEMBERED = 4096
"""Bytes of the last request's head that are remembered for each connection."""
# Not OPTIONS and TRACE, whose fields are changed on their way, nor what is no path.
_LINE = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE) (/[!-~]*) HTTP/1\.1\r\n")


class BufferedBody:
    """A body that has arrived whole, as a stream that is at its end."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __repr__(self) -> str:
        return f"<BufferedBody: {len(self._data)} bytes>"

    def is_eof(self) -> bool:
        """All of it is here."""
        return True

    @property
    def total_bytes(self) -> int:
        """Its bytes."""
        return len(self._data)

    def read_nowait(self, n: int = -1) -> bytes:
        """All of it, each time."""
        return self._data

    async def readany(self) -> bytes:
        """All of it, each time."""
        return self._data


class BufferedRequest(msgspec.Struct, eq=False):
    """A request that has arrived whole, with what of aiohttp's request the proxied path asks for."""

    method: str
    raw_path: str
    version: HttpVersion
    raw_headers: RawHeaders
    content: StreamReader | BufferedBody
    protocol: Any
    keep_alive: bool
    remembered: Any = None
    """What was decided about it, for a request that repeats it; None where nothing was."""

    def __repr__(self) -> str:
        return f"<BufferedRequest {self.method} {self.raw_path!r}>"

    def like_it(self, content: BufferedBody) -> BufferedRequest:
        """The same request with another body of the same length."""
        return BufferedRequest(
            self.method,
            self.raw_path,
            self.version,
            self.raw_headers,
            content,
            self.protocol,
            self.keep_alive,
            self.remembered,
        )


class RepeatedHead:
    """The last request of a connection, by the bytes of its head: another that begins alike need not be parsed.

    Its fields were judged by aiohttp's parser. Where they come again behind another usual request line, only that line
    is new, and it is read here.
    """

    __slots__ = ("_block", "_head", "_length", "_method", "_request", "_size")

    def __init__(self, head: bytes, line: int, length: int, request: BufferedRequest) -> None:
        """`line` is the length of the request line with its end, `length` that of the body."""
        self._head = head
        self._block = head[line:]
        self._length = length
        self._size = len(self._block) + length
        """Bytes behind the request line."""
        self._request = request
        self._method = request.method.encode()

    def __repr__(self) -> str:
        return f"<RepeatedHead {self._request!r}>"

    @classmethod
    def learn(cls, data: bytes, request: BufferedRequest, length: int) -> RepeatedHead | None:
        """From a request that was parsed, if `data` is nothing but its head and its body of `length` bytes."""
        line = _LINE.match(data)
        size = data.find(HEAD_END) + len(HEAD_END)
        is_usual = line is not None and size <= MAX_REMEMBERED and size + length == len(data)
        return cls(data[:size], line.end(), length, request) if line is not None and is_usual else None

    def read(self, data: bytes) -> BufferedRequest | None:
        """The request that `data` is, whole and alone; None where it must be parsed."""
        request, size = self._request, self._size
        content: StreamReader | BufferedBody = EMPTY_PAYLOAD
        if not self._length:
            if data == self._head:
                return request
            if data[-size:] != self._block:
                return None
        else:
            body = data[-self._length :]
            if data[: -self._length] == self._head:
                return request.like_it(BufferedBody(body))
            if data[-size : -self._length] != self._block:
                return None
            content = BufferedBody(body)
        line = _LINE.fullmatch(data[:-size])
        if line is None:
            return None
        # Both are ASCII, and the rest is as it was.
        return BufferedRequest(
            request.method if line[1] == self._method else line[1].decode(),
            line[2].decode(),
            request.version,
            request.raw_headers,
            content,
            request.protocol,
            keep_alive=request.keep_alive,
        )


SMALL_READ = 512
"""Bytes of a read that cannot hold enough header fields to take much memory. Many of them, in one head, can."""
LARGE_READ = 2 * 1024
"""Bytes of a read that cannot hold enough list members, segments, escapes or parameters to take much time."""
LIST_COST = 2
"""Such parts of a head that take as long as one step of a parser: see `TurnScheduler.charge`."""
HEAD_COST = 1
"""Bytes of memory for each byte of a head, beside those that were read."""
FIELD_COST = 400
"""Bytes of memory for each header field: a field of four bytes takes as many objects as a long one."""
MOST_COUNTED = 192 * 1024
"""Bytes that the heads of one connection take at most, the one that is served and those that are read ahead; or the message
of a WebSocket that arrives."""
MAX_LATER = 8 * 1024
"""Bytes that a client may send on while it waits for its response, before it is no longer read."""


def steps_of_head(data: bytes) -> int:
    """The steps that the head in `data` takes beyond those of a usual one, for lists in its fields and for its target."""
    end = data.find(HEAD_END)
    end = len(data) if end < 0 else end
    return sum([data.count(part, 0, end) for part in (b",", b"%", b"/", b"&")]) // LIST_COST


class ActiveRequest(Protocol):
    """A request that is being served."""

    is_over: bool
    """Whether its response has been sent."""

    def client_closed(self) -> None:
        """The client has closed its connection."""


TryServe = Callable[[BufferedRequest, Callable[[bool], None]], ActiveRequest | None]
"""Takes a request, and a callback that gets whether the connection stays. None: it needs the ordinary path."""


class FastPathConnection(RequestReceiver):
    """A client connection that serves at once what it can.

    What begins like the last request of the connection is not parsed again.
    """

    __slots__ = (
        "_active",
        "_answered",
        "_known",
        "_later",
        "_serve",
        "counted",
        "has_ended",
        "has_response",
        "is_endless",
        "memory",
    )

    memory: MemoryBudget
    """Counts what is held for all clients. The socket sets it."""

    def __init__(self, *arguments: Any, serve: TryServe | None, **named: Any) -> None:
        """`serve` is None where everything is to go the ordinary way; the other arguments are aiohttp's."""
        super().__init__(*arguments, **named)
        self._serve = serve
        self._active: ActiveRequest | None = None
        self._later = b""
        self._answered = 0
        self._known: RepeatedHead | None = None
        self.counted = 0
        """Bytes that are counted for heads which wait, or whose requests are being served."""
        self.has_ended = False
        """Whether the client has closed its sending half."""
        self.has_response: bool | None = None
        """Whether the response to a proxied request or an event stream has begun; None where neither is served."""
        self.is_endless = False
        """Whether it is an event stream, which nothing but its client ends."""

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._active is not None:
            self._keep(data)
            return
        waiter, serve = self.request_waiter, self._serve
        if serve is None or waiter is None or waiter.done() or self.messages or self.is_writing_paused:
            super().data_received(data)
            return
        is_start = self._boundaries.is_at_start and not self._held
        known = self._known
        if is_start and known is not None:
            request = known.read(data)
            if request is not None:
                self.request_count += 1
                active = serve(request, self._served)
                if active is not None:
                    if not active.is_over:
                        self._active = active
                    return
                self.request_count -= 1
        # aiohttp's task waits for a request, and is not to be woken for one that is served here.
        self.request_waiter = None
        try:
            super().data_received(data)
        finally:
            self.request_waiter = waiter
        if self.messages and not self._offer(serve, data if is_start else b"") and not waiter.done():
            waiter.set_result(None)

    def eof_received(self) -> bool:  # type: ignore[override] # aiohttp's own never keeps the transport open
        """The client has closed its sending half. Requests that have arrived whole are still answered."""
        waits = self.request_count > self._answered and not self.is_endless and not self.close_requested
        is_whole = self._body is None or self._body.is_eof()
        if not waits or not is_whole or self.payload_parser is not None:
            return False  # the transport closes itself
        self.has_ended = True
        return True

    @property
    def is_done(self) -> bool:
        """Whether the client has closed its sending half, and no request of it is left to be begun."""
        # What is held and has no whole head cannot become a request any more.
        return self.has_ended and self._active is None and not self.messages and HEAD_END not in self._held

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client has gone."""
        active, self._active, self._later = self._active, None, b""
        if active is not None:
            active.client_closed()
        self._known = None
        super().connection_lost(exc)

    def _offer(self, serve: TryServe, data: bytes) -> bool:
        """Have the one request that has arrived served; `data` is what it came in, empty where other bytes did as well.

        False where it is to go the ordinary way.
        """
        message, body = self.messages[0]
        parser = self.request_parser
        if len(self.messages) > 1 or not isinstance(message, RawRequestMessage) or message.upgrade:
            return False
        if not body.is_eof() or body.exception() is not None or not self._boundaries.is_at_start or self._held:
            return False
        if parser is None:
            return False
        request = BufferedRequest(
            *(message.method, message.path, message.version, message.raw_headers, body, self),
            keep_alive=not message.should_close,
        )
        active = serve(request, self._served)
        if active is None:
            return False
        if not active.is_over:
            self._active = active
        self.messages.popleft()
        parser.message_consumed()
        self._known = None if message.chunked else RepeatedHead.learn(data, request, body.total_bytes)
        return True

    def _served(self, stays: bool) -> None:
        self._active = None
        self._answered += 1
        if self.counted:
            self.uncount()
        if not stays:
            self.close()
            if self.transport is not None:
                self.transport.close()
            return
        self.keepalive_deadline = self.event_loop.time() + self.keepalive_seconds
        if self._later and self.transport is not None:
            later, self._later = self._later, b""
            if len(later) > MAX_LATER:
                self.transport.resume_reading()
            self.data_received(later)
        if self.has_ended and self.is_done:
            self.close()
            if self.transport is not None:
                self.transport.close()

    def count_head(self, data: bytes) -> None:
        """Count what `data`, in which a head begins or continues, takes until every request has been answered."""
        end = data.find(HEAD_END) + 1 or len(data)
        is_upload = self._body is not None and not self._body.is_eof() and data.find(HEAD_END, end) < 0
        # The beginning of a body is counted where it waits.
        size = (end if is_upload else len(data)) + HEAD_COST * end + FIELD_COST * data.count(b"\n", 0, end)
        self.count_bytes(self.counted + size)

    def count_bytes(self, size: int) -> None:
        """Count `size` bytes in place of what is counted, but no more than `MOST_COUNTED`."""
        if size > MOST_COUNTED:
            size = MOST_COUNTED
        self.memory.held += size - self.counted
        self.counted = size

    def uncount(self) -> None:
        """Count heads no more, once none is served or has begun to arrive."""
        if self.request_count == self._answered and not self.has_begun:
            self.memory.held -= self.counted
            self.counted = 0

    def _keep(self, data: bytes) -> None:
        """Keep what the client sends on until it has its response."""
        self._later += data
        if len(data) <= SMALL_READ:  # else it is counted as a head
            self.count_bytes(self.counted + len(data))
        if len(self._later) > MAX_LATER and self.transport is not None:
            self.transport.pause_reading()

    @property
    def is_settling(self) -> bool:
        """Whether aiohttp's task is about to wait for a request: the connection is new, or the last response has been sent.

        Until it waits, nothing can be served without it.
        """
        is_idle = self.request_waiter is None and self.request_count == self._answered and not self.messages
        can_begin = self._serve is not None and not self.close_requested and self.payload_parser is None
        return is_idle and can_begin and not self.has_begun

    @property
    def is_full(self) -> bool:
        """Whether the client has sent enough behind the request that is being served."""
        return len(self._later) > MAX_LATER

    @property
    def is_busy(self) -> bool:
        """Whether a request is being served without a task."""
        return self._active is not None
