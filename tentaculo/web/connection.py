"""The server's side of one client connection: aiohttp's protocol, and the little that a proxy needs beyond it.

This is the one place that knows private names of aiohttp; `tests/web/test_connection.py` fails when one changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import structlog
from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong

from tentaculo.answers import SENT_CLOSES, Render, Sent, answer_bytes
from tentaculo.config.schema import Limits
from tentaculo.errors import Failure, Problem
from tentaculo.sockets import keep_alive, limit_stall
from tentaculo.web.admission import Admission
from tentaculo.web.request_line import RequestLine, ends_request, is_one_request

log = structlog.get_logger(__name__)

MAX_FIELDS = 128
"""Header fields of one request, else 431."""
SLICE = 16 * 1024
"""Bytes that are parsed at once, so that what is not payload can be counted."""
CHUNK_COST = 16
"""Bytes on the wire for each byte of a chunked body that are no excess: chunks of one byte cost 6."""
MAX_CHUNK_EXCESS = 16 * 1024
"""Bytes of chunk extensions and trailers beyond that, else 400 (RFC 9112 section 7.1.1 asks for a limit)."""
LINGER = 2.0
"""Seconds that a client whose request was refused half-way may go on sending, so that it comes to read the answer."""


class _Lingers(Sent):
    """Keeps the connection until the client has closed its side, at most `LINGER` seconds.

    What is unread when a socket closes makes the kernel reset the connection, and the answer may be lost with it.
    """

    async def write_eof(self, data: bytes = b"") -> None:
        """Wait; the client's leaving cancels this."""
        await asyncio.sleep(LINGER)


_LINGERS = _Lingers(keep_alive=False)


class Connection(web.RequestHandler):
    """One client connection.

    - A request that cannot be parsed gets a problem in HTTP/1.1 with the right status, not aiohttp's 400 in HTTP/1.0.
    - Any method token and UTF-8 in the target are taken, where a request begins with what the client sends.
    - A framing error within a body reaches whoever reads it (aiohttp's C parser leaves the reader waiting for ever).
    - A chunked body that is mostly chunk lines and extensions is cut: aiohttp sets no bound to them.
    - A handler that fails in the middle of its answer ends the connection, and never begins a second answer.
    - A request's head must arrive within its time; one that has not is answered 408.
    - A client over the limits of connections is answered 503 at once.
    - A peer that has vanished without a word is found out by TCP keep-alive, in about two minutes.
    - One that takes nothing of what it is sent is dropped after `limits.stall`.
    - Whoever set `on_writable` hears when the send buffer fills and empties.
    """

    __slots__ = (
        "_admission",
        "_answered",
        "_body",
        "_chunk_excess",
        "_head_time",
        "_head_timer",
        "_is_at_start",
        "_is_chunked",
        "_limit",
        "_odd_line",
        "_on_refused",
        "_peer",
        "_render",
        "_stall",
        "last_fields",
        "on_writable",
    )

    def __init__(
        self,
        server: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        keepalive: float,
        render: Render,
        admission: Admission,
        on_refused: Callable[[str, Problem], None] = lambda peer, problem: None,
    ) -> None:
        """`keepalive` is in seconds; `admission` counts the server's connections.

        `on_refused` hears of each refusal that no handler made, with the client's address.
        """
        max_head = limits.headers
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=keepalive,
            access_log=None,  # type: ignore[arg-type]
            auto_decompress=False,
            max_line_size=max_head,
            max_field_size=max_head + 1,
            max_headers=MAX_FIELDS,
        )
        self._limit = max_head
        self._render = render
        self._body: StreamReader | None = None
        self._chunk_excess = 0
        self._is_at_start = True  # whether what comes next is a request's first byte, as far as is known for certain
        self._is_chunked = False
        self._odd_line: RequestLine | None = None
        self._admission = admission
        self._on_refused = on_refused
        self._peer: str | None = None
        self._answered = 0
        self._head_time = limits.head_time
        self._stall = limits.stall
        self._head_timer: asyncio.TimerHandle | None = None
        self.on_writable: Callable[[bool], None] | None = None
        self.last_fields: object | None = None
        """For whoever reads requests to remember what they made of the last one's fields."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected: let it in, or say why not."""
        client = cast(asyncio.Transport, transport)
        name = client.get_extra_info("peername")
        peer = str(name[0]) if isinstance(name, tuple) else ""
        if not self._admission.enter(peer):
            self._write_problem(client, Problem(Failure.OVERLOADED, None, {}, {"Retry-After": "1"}))
            client.close()
            self.force_close()
            return
        self._peer = peer
        super().connection_made(transport)
        keep_alive(client)
        limit_stall(client, self._stall)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client has gone."""
        self._stop_head_timer()
        if self._peer is not None:
            self._admission.leave(self._peer)
            self._peer = None
        super().connection_lost(exc)

    def answered(self) -> None:
        """The front has answered one request; to be called once for each."""
        self._answered += 1

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if len(data) <= SLICE or not self._is_chunked_possible():
            self._receive(data)
        else:
            for position in range(0, len(data), SLICE):
                self._receive(data[position : position + SLICE])
        if self._request_count > self._answered:
            self._stop_head_timer()
        elif self._head_timer is None:
            self._await_head()

    def _is_chunked_possible(self) -> bool:
        """Whether what comes next may be a chunked body or its head; neither is a body with a length, nor a tunnel."""
        if self._payload_parser is not None:
            return False
        return self._body is None or self._body.is_eof() or self._is_chunked

    def _receive(self, data: bytes) -> None:
        starts = self._is_at_start and self._request_count == self._answered
        if starts:
            line = self._odd_line = RequestLine.find(data)
            if line is not None:
                data = line.plain + data[line.length :]
        body, waiting = self._body, len(self._messages)
        before = body.total_bytes if body is not None else 0
        super().data_received(data)
        new = len(self._messages) - waiting
        if new > 0:
            # Nothing can follow a body that has not ended but the report of its framing error.
            if body is not None and not body.is_eof():
                body.set_exception(web.RequestPayloadError("the body's framing is broken"))
            body = self._body = self._messages[-1][1]
            self._chunk_excess = before = 0
            self._restore(waiting)
            self._is_chunked = getattr(self._messages[-1][0], "chunked", False)
        payload = body.total_bytes - before if body is not None else 0
        self._is_at_start = ends_request(data, new, body, payload)
        if new > 0:
            self._check_upgrade(is_whole=starts and new == 1 and is_one_request(data, payload))
        elif body is not None and not body.is_eof():
            self._weigh(body, len(data), payload)

    def _restore(self, position: int) -> None:
        """Put what the client really said in its request line into the message at `position`."""
        line, self._odd_line = self._odd_line, None
        message, body = self._messages[position]
        if line is not None and isinstance(message, RawRequestMessage):
            self._messages[position] = (message._replace(method=line.method, path=line.target), body)

    def _check_upgrade(self, *, is_whole: bool) -> None:
        """Close behind an upgrade to anything but websocket, unless it came alone: aiohttp loses what follows it."""
        message, body = self._messages[-1]
        if isinstance(message, RawRequestMessage) and message.upgrade and not (self._upgraded or is_whole):
            self._messages[-1] = (message._replace(should_close=True), body)

    def _weigh(self, body: StreamReader, size: int, payload: int) -> None:
        """Cut a chunked body of which `size` bytes brought only `payload`, time and again."""
        self._chunk_excess = max(0, self._chunk_excess + size - CHUNK_COST * payload)
        if self._chunk_excess > MAX_CHUNK_EXCESS:
            body.set_exception(web.RequestPayloadError("the body is mostly chunk extensions or trailers"))

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(self._head_time, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport is not None:
            words = f"The request's head did not arrive within {self._head_time:g} s."
            self._write_problem(self.transport, Problem(Failure.REQUEST_TIMEOUT, words))
        self.force_close()

    def _write_problem(self, transport: asyncio.Transport, problem: Problem, *, with_body: bool = True) -> None:
        rendered = self._render(problem, None, request_id=None)
        headers = {"Content-Type": rendered.content_type, **rendered.headers}
        transport.write(answer_bytes(rendered.status, headers, rendered.body, with_body=with_body))
        name = transport.get_extra_info("peername")
        self._on_refused(str(name[0]) if isinstance(name, tuple) else "", problem)

    def pause_writing(self) -> None:
        """The send buffer is over its mark."""
        super().pause_writing()
        if self.on_writable is not None:
            self.on_writable(False)

    def resume_writing(self) -> None:
        """The send buffer has room again."""
        super().resume_writing()
        if self.on_writable is not None:
            self.on_writable(True)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer a request that could not be parsed or is refused with a `Problem`, or whose handler failed."""
        transport = request.transport
        is_gone = transport is None or transport.is_closing()
        if isinstance(exc, ConnectionError) and is_gone:
            log.debug("client left", peer=request.remote)
            return SENT_CLOSES
        problem = self._problem(status, exc)
        if status >= 500:
            log.error("request failed", status=status, exc_info=exc)
        else:
            log.debug("malformed request", error=problem.failure.error, peer=request.remote)
        if transport is None:
            return SENT_CLOSES
        if request.writer.output_size > 0:
            # A second status line would stand in the middle of the first answer's body.
            transport.abort()
            return SENT_CLOSES
        self._write_problem(transport, problem, with_body=request.method != "HEAD")
        if status >= 500:
            return SENT_CLOSES
        # What the parser gave up on has no end: nothing more of it is read.
        self.close()
        if transport.can_write_eof():
            transport.write_eof()
        return _LINGERS

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """A fault that aiohttp found itself; that a client's body broke off is none of ours."""
        if isinstance(kw.get("exc_info"), web.RequestPayloadError):
            log.debug("request body broken")
        else:
            super().log_exception(*args, **kw)

    def _problem(self, status: int, exc: BaseException | None) -> Problem:
        if isinstance(exc, Problem) and status == exc.status:
            return exc
        if status >= 500:
            return Problem(Failure.INTERNAL)
        if isinstance(exc, LineTooLong):
            # The two limits differ by one, which is how the request line is told from a field.
            if exc.args[1] == self._limit:
                return Problem(Failure.TARGET_TOO_LONG, f"The request target is longer than {self._limit} bytes.")
            return Problem(Failure.HEADERS_TOO_LARGE, f"The request's head is larger than {self._limit} bytes.")
        if exc is not None and "Too many headers" in str(exc):
            return Problem(Failure.HEADERS_TOO_LARGE, f"The request has more than {MAX_FIELDS} header fields.")
        return Problem(Failure.BAD_REQUEST, "The request is not valid HTTP/1.1.")
