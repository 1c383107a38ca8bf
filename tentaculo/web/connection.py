"""The server's side of one client connection: aiohttp's protocol, and the little that a proxy needs beyond it.

This is the one place that knows private names of aiohttp; `tests/web/test_connection.py` fails when one changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong

from tentaculo.answers import SENT_CLOSES, Render, Sent, answer_bytes
from tentaculo.errors import Failure, Problem

log = structlog.get_logger(__name__)

MAX_FIELDS = 128
"""Header fields of one request, else 431."""
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
    - A framing error within a body reaches whoever reads it (aiohttp's C parser leaves the reader waiting for ever).
    - A handler that fails in the middle of its answer ends the connection, and never begins a second answer.
    - Whoever set `on_writable` hears when the send buffer fills and empties.
    """

    __slots__ = ("_body", "_limit", "_render", "on_writable", "reading")

    def __init__(
        self, server: web.Server, *, loop: asyncio.AbstractEventLoop, max_head: int, keepalive: float, render: Render
    ) -> None:
        """`max_head` in bytes, `keepalive` in seconds."""
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
        self.reading: StreamReader | None = None
        self.on_writable: Callable[[bool], None] | None = None

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        waiting = len(self._messages)
        super().data_received(data)
        if len(self._messages) > waiting:
            # Nothing can follow a body that has not ended but the report of its framing error.
            if self._body is not None and not self._body.is_eof():
                self._body.set_exception(web.RequestPayloadError("the body's framing is broken"))
            self._body = self._messages[-1][1]

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
        """Answer a request that could not be parsed, or whose handler failed."""
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
        rendered = self._render(problem, None, request_id=None)
        headers = {"Content-Type": rendered.content_type, **rendered.headers}
        has_body = request.method != "HEAD"
        transport.write(answer_bytes(rendered.status, headers, rendered.body, with_body=has_body))
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
