"""The only module that knows private names of aiohttp. `PRIVATE_NAMES` lists them, and a test fails for each that changes.

An attribute of aiohttp's `RequestHandler` is a slot; its slot descriptor is given a public name here, so that reading it
costs no call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from aiohttp import web, web_ws
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _ErrInfo

from tentaculo.model.failure import Failure, Problem
from tentaculo.net.tcp import PAUSE

PRIVATE_NAMES = (
    "_buffer_paused",
    "_close",
    "_drain_helper",
    "_keepalive_handle",
    "_keepalive_timeout",
    "_loop",
    "_max_msg_queue_size",
    "_messages",
    "_next_keepalive_close_time",
    "_parser",
    "_pause_transport_reading",
    "_paused",
    "_payload_parser",
    "_process_keepalive",
    "_reading_paused",
    "_request_count",
    "_request_in_progress",
    "_resume_transport_reading",
    "_upgraded",
    "_waiter",
)
"""Private names of `aiohttp.web.RequestHandler`. The other one is `aiohttp.web_protocol._ErrInfo`."""

MAX_FIELDS = 128
"""Header fields of one request, else 431."""
READ_AHEAD = 2
"""Requests that are parsed behind the one that is served. What follows them waits as it came, which takes less memory."""
MESSAGES = 16 * 1024
"""Bytes of WebSocket messages, and of the objects around them, that wait for a handler before the client is not read."""
# aiohttp keeps 512 KiB, and has no parameter for it. The name is public; tests/wire/test_memory.py holds its effect.
vars(web_ws)["DEFAULT_CHUNK_SIZE"] = MESSAGES // 2

ParserError = _ErrInfo
"""The message that stands in the queue for a request that could not be parsed."""


def parser_error(status: int, error: BaseException) -> tuple[_ErrInfo, StreamReader]:
    """An entry of the message queue for a request that is refused with `error`."""
    return _ErrInfo(status, error, ""), EMPTY_PAYLOAD


def refusal(status: int, error: BaseException | None, limit: int) -> Problem:
    """What the client gets for `error`, which aiohttp would answer with `status`. `limit` is the size of a head in bytes."""
    if isinstance(error, Problem) and status == error.status:
        return error
    if status >= 500:
        return Problem(Failure.INTERNAL)
    if isinstance(error, LineTooLong):
        # The two limits differ by one, which distinguishes the request line from a field.
        if error.args[1] == limit:
            return Problem(Failure.TARGET_TOO_LONG, f"The request target is longer than {limit} bytes.")
        return Problem(Failure.HEADERS_TOO_LARGE, f"The request's head is larger than {limit} bytes.")
    if error is not None and "Too many headers" in str(error):
        return Problem(Failure.HEADERS_TOO_LARGE, f"The request has more than {MAX_FIELDS} header fields.")
    return Problem(Failure.BAD_REQUEST, "The request is not valid HTTP/1.1.")


class AiohttpHandler(web.RequestHandler):
    """aiohttp's protocol of one client connection, with public names for what its subclasses use."""

    if TYPE_CHECKING:
        close_requested: bool
        event_loop: asyncio.AbstractEventLoop
        is_buffer_paused: bool
        is_reading_paused: bool
        is_serving: bool
        is_upgraded: bool
        is_writing_paused: bool
        keepalive_deadline: float
        keepalive_seconds: float
        max_queued_messages: int
        messages: deque[tuple[RawRequestMessage | _ErrInfo, StreamReader]]
        payload_parser: Any
        request_count: int
        request_parser: Any
        request_waiter: asyncio.Future[Any] | None
    else:
        # mypy would not let a name be assigned that is not in these.
        __slots__ = ()
        close_requested = web.RequestHandler._close
        event_loop = web.RequestHandler._loop
        is_buffer_paused = web.RequestHandler._buffer_paused
        is_reading_paused = web.RequestHandler._reading_paused
        is_serving = web.RequestHandler._request_in_progress
        is_upgraded = web.RequestHandler._upgraded
        is_writing_paused = web.RequestHandler._paused
        keepalive_deadline = web.RequestHandler._next_keepalive_close_time
        keepalive_seconds = web.RequestHandler._keepalive_timeout
        max_queued_messages = web.RequestHandler._max_msg_queue_size
        messages = web.RequestHandler._messages
        payload_parser = web.RequestHandler._payload_parser
        request_count = web.RequestHandler._request_count
        request_parser = web.RequestHandler._parser
        request_waiter = web.RequestHandler._waiter

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """The arguments are aiohttp's."""
        super().__init__(*arguments, **named)
        self.max_queued_messages = READ_AHEAD

    @property
    def is_busy(self) -> bool:
        """Whether a request is being served without aiohttp's task, which looks idle then."""
        return False

    @property
    def feeds_body(self) -> bool:
        """Whether the bytes of the current body do not go through aiohttp's parser."""
        return False

    def reading_changed(self, *, is_paused: bool) -> None:
        """The client is no longer read, since a body or a queue is full, or is read again."""

    def _pause_transport_reading(self) -> None:
        super()._pause_transport_reading()
        self.reading_changed(is_paused=True)

    def _resume_transport_reading(self) -> None:
        super()._resume_transport_reading()
        self.reading_changed(is_paused=False)

    def pause_reading(self) -> None:
        """Read no more until the body has room."""
        if self.feeds_body:
            # A paused parser would hold back the end of the body, and nothing would resume it.
            self._reading_paused = True
            self._pause_transport_reading()
        else:
            super().pause_reading()

    def close_after_refusal(self) -> None:
        """Close behind the response that is under way, and until then read and drop what the client sends.

        Nobody would notice the end of a connection that is not read, and with unread bytes its close is a reset.
        """
        self.close()
        self._reading_paused = self._buffer_paused = False
        self._resume_transport_reading()

    async def wait_writable(self) -> None:
        """Wait until the send buffer has room. Raises `ConnectionError` once the client has gone."""
        await self._drain_helper()

    def _process_keepalive(self) -> None:
        if self.is_busy:
            # aiohttp closes a connection whose task waits.
            self._keepalive_handle = self._loop.call_later(self._keepalive_timeout, self._process_keepalive)
        elif (now := self._loop.time()) - self._next_keepalive_close_time >= PAUSE:
            # This process was paused. A request that came meanwhile is read first.
            self._next_keepalive_close_time = now + PAUSE
            self._keepalive_handle = self._loop.call_later(PAUSE, self._process_keepalive)
        else:
            super()._process_keepalive()
