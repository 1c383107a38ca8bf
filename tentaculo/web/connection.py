"""The server's side of one client connection: aiohttp's protocol, and the little that a proxy needs beyond it.

This is the one place that knows private names of aiohttp; `tests/web/test_connection.py` fails when one changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong

from tentaculo.answers import SENT_CLOSES, Render, answer_bytes
from tentaculo.errors import Failure, Problem

log = structlog.get_logger(__name__)

MAX_FIELDS = 128
"""Header fields of one request, else 431."""


class Connection(web.RequestHandler):
    """One client connection.

    - A request that cannot be parsed gets a problem in HTTP/1.1 with the right status, not aiohttp's 400 in HTTP/1.0.
    - A framing error within a body reaches whoever reads it (aiohttp's C parser leaves the reader waiting for ever).
    - Whoever set `on_writable` hears when the send buffer fills and empties.
    """

    __slots__ = ("_limit", "_render", "on_writable", "reading")

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
        self.reading: StreamReader | None = None
        self.on_writable: Callable[[bool], None] | None = None

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        super().data_received(data)
        reading = self.reading
        # Nothing can follow a body that has not ended but the report of its framing error.
        if reading is not None and self._messages and not reading.is_eof():
            self.reading = None
            reading.set_exception(web.RequestPayloadError("the body's framing is broken"))
            # Ended, so that aiohttp does not try to drain what can never be read.
            reading.feed_eof()

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
        problem = self._problem(status, exc)
        if status >= 500:
            log.error("request failed", status=status, exc_info=exc)
        else:
            log.debug("malformed request", error=problem.failure.error, peer=request.remote)
        transport = request.transport
        if transport is not None:
            rendered = self._render(problem, None, request_id=None)
            headers = {"Content-Type": rendered.content_type, **rendered.headers}
            transport.write(answer_bytes(rendered.status, headers, rendered.body))
        return SENT_CLOSES

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
