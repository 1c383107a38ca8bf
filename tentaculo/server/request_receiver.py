"""From a client's bytes to requests: aiohttp's protocol and parser, with the checks that a proxy needs beyond them.

`aiohttp_handler.py` has public names for the private names of aiohttp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from tentaculo.model.failure import Failure, Problem
from tentaculo.net.http1 import ChunkedReader, Http1Error
from tentaculo.server.aiohttp_handler import READ_AHEAD, AiohttpHandler, ParserError, parser_error
from tentaculo.server.request_framing import HEAD_END, MessageBoundaries, RequestLine, is_unfinished, is_usual

CHUNK_COST = 16
"""Bytes on the wire for each byte of a chunked body that are no excess: chunks of one byte cost 6."""
LAST_CHUNK = b"0\r\n\r\n"
MAX_EMPTY = 16 * 1024
"""Bytes of empty lines before one request, else 400. RFC 9112 section 2.2 asks for one line to be ignored."""
MAX_CHUNK_EXCESS = 16 * 1024
"""Bytes of chunk extensions and trailers beyond that, else 400 (RFC 9112 section 7.1.1 asks for a limit)."""


class RequestReceiver(AiohttpHandler):
    """The receiving half of a client's connection.

    - Any method token and UTF-8 in the target are accepted, in whatever segments the line arrives.
    - A request that cannot be parsed loses no request before it.
    - A framing error within a body is raised in the reader of the body. aiohttp's C parser lets the reader wait.
    - A chunked body is read by our own strict reader, in time that does not depend on the size of the chunks.
    - A chunked body that is mostly chunk lines and extensions is refused. aiohttp has no limit for them.
    - Bytes behind any upgrade are kept until a handler takes the connection. aiohttp keeps them for websocket only.
    """

    __slots__ = (
        "_body",
        "_boundaries",
        "_chunk_excess",
        "_chunks",
        "_empty",
        "_held",
        "_is_chunked",
        "_max_line",
        "_odd_line",
        "_trailers",
        "_wants_upgrade",
        "steps",
    )

    def __init__(self, *arguments: Any, max_line_size: int, **named: Any) -> None:
        """The arguments are aiohttp's."""
        super().__init__(*arguments, max_line_size=max_line_size, **named)
        self._body: StreamReader | None = None
        self._chunk_excess = 0
        self._chunks: ChunkedReader | None = None  # of the body that is arriving
        self._empty = (0, 0)  # requests so far, and bytes of empty lines since
        self._held = b""
        self._is_chunked = False
        self._max_line = max_line_size
        self._odd_line: RequestLine | None = None
        self._boundaries = MessageBoundaries()
        self._trailers: list[tuple[StreamReader, list[tuple[bytes, bytes]]]] = []
        self._wants_upgrade = False  # the request whose body is arriving
        self.steps = 0
        """Steps in chunked bodies since the caller set this to 0."""

    @property
    def has_begun(self) -> bool:
        """Whether part of a request has arrived that is not whole."""
        return bool(self._held or self._boundaries.partial) or self._chunks is not None

    def trailers_of(self, body: object) -> Sequence[tuple[bytes, bytes]]:
        """The trailer fields of a body that has arrived whole, each as (whole line, name)."""
        return next((trailers for one, trailers in self._trailers if one is body), ())

    @property
    def feeds_body(self) -> bool:
        """Whether the bytes of the current body do not go through aiohttp's parser."""
        return self._chunks is not None

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client has gone."""
        super().connection_lost(exc)
        self._body = self._chunks = None  # the body refers to its connection
        self._trailers = []

    def data_received(self, data: bytes) -> None:
        """Bytes from the client, which are dropped while the connection closes.

        Empty `data` lets the parser continue with the bytes that it held back.
        """
        if self.close_requested:
            return
        boundaries = self._boundaries
        if boundaries.is_at_start and data.find(HEAD_END) == len(data) - 4 and self._take_head(data):
            return
        if not data:
            self._receive(data)
        if self._held:
            data, self._held = self._held + data, b""
        position, begins = 0, False
        while position < len(data):
            if self._chunks is not None:
                position = self._receive_chunks(self._chunks, data, position)
                continue
            if boundaries.is_at_start:
                begins = True
                start, position = position, boundaries.skip_empty_lines(data, position)
                if position > start and self._is_mostly_empty(position - start):
                    words = f"More than {MAX_EMPTY} bytes of empty lines stand before the request."
                    self._refuse(Problem(Failure.BAD_REQUEST, words))
                    break
                if not self._can_begin(data, position):
                    self._held = data[position:]
                    break
            cut = boundaries.cut(data, position)
            self._receive(data[position:cut] if cut - position < len(data) else data)
            position = cut
            if begins and boundaries.is_at_start and self.is_reading_paused:
                # A body that came with its head has filled its buffer, which stopped the parser before it said that this
                # is the end.
                self._receive(b"")

    def _is_mostly_empty(self, size: int) -> bool:
        """Count `size` bytes of empty lines. Whether there are too many since the last request."""
        requests, before = self._empty
        size += before if requests == self.request_count else 0
        self._empty = (self.request_count, size)
        return size > MAX_EMPTY

    def _take_head(self, data: bytes) -> bool:
        """Parse a segment that is exactly one usual head without a body. Returns False, and does nothing, for any other."""
        if self._held or self.is_buffer_paused or self.is_reading_paused or not is_usual(data):
            return False
        waiting = len(self.messages)
        super().data_received(data)
        if len(self.messages) == waiting + 1:
            message, body = self.messages[-1]
            if body is EMPTY_PAYLOAD and isinstance(message, RawRequestMessage) and not message.upgrade:
                self._body = body
            else:
                self._begin(waiting, data)
        return True

    def _can_begin(self, data: bytes, position: int) -> bool:
        """Whether the parser has room for the request at `position`. Without room it would hold bytes back."""
        if len(self.messages) >= self.max_queued_messages or (self._body is not None and not self._body.is_eof()):
            return False
        # `RequestLine.find` needs the whole line.
        return not is_unfinished(data, position) or len(data) - position > self._max_line

    def _receive(self, piece: bytes) -> None:
        if self._boundaries.is_at_start and piece:
            try:
                line = self._odd_line = RequestLine.find(piece)
            except Problem as problem:
                self._refuse(problem)
                return
            if line is not None:
                piece = line.plain + piece[line.length :]
        body, waiting = self._body, len(self.messages)
        before = body.total_bytes if body is not None else 0
        super().data_received(piece)
        if len(self.messages) > waiting:
            # Behind a body that has not ended, the only possible message is its framing error.
            if body is not None and not body.is_eof():
                self._break_body(body, "the body's framing is broken")
            self._begin(waiting, piece)
        elif body is None or self.payload_parser is not None:
            self._boundaries.continued(piece)
        elif self._is_chunked and body.is_eof():
            self._is_chunked = False
            self._boundaries.ended(piece)
        else:
            self._boundaries.continued(piece)
            if self._is_chunked:
                self._weigh(body, len(piece), body.total_bytes - before)
            self._keep_what_follows(body)

    def _receive_chunks(self, chunks: ChunkedReader, data: bytes, position: int) -> int:
        """Read a chunked body from `position` on. Returns the position behind what was read.

        The payload goes to the body at once. aiohttp's parser is given one last chunk, when the body has ended.
        """
        body, before = self._body, data[position:]
        assert body is not None
        if self.close_requested:
            return len(data)
        try:
            payload = chunks.feed(before)
        except Http1Error:
            self._chunks = None
            self._break_body(body, "the body's framing is broken")
            self._refuse(Problem(Failure.BAD_REQUEST, "The framing of the request's body is not valid."))
            return len(data)
        self.steps += chunks.steps
        if payload:
            body.feed_data(payload[0])
        self._weigh(body, len(before) - len(chunks.rest), len(payload[0]) if payload else 0)
        if chunks.done and not self.close_requested:
            self._chunks = None
            if chunks.trailers:
                # No more bodies than these can be here whole and not yet served.
                self._trailers = [*self._trailers[-READ_AHEAD:], (body, chunks.trailers)]
            super().data_received(LAST_CHUNK)
            self._boundaries.ended(LAST_CHUNK)
            self._keep_what_follows(body)
            if self.is_upgraded:
                self._boundaries.lost()
        return len(data) - len(chunks.rest)

    def _keep_what_follows(self, body: StreamReader) -> None:
        """Once `body` of a request for an upgrade has ended, keep the bytes behind it, as those behind one without a body."""
        if self._wants_upgrade and body.is_eof():
            self._wants_upgrade, self.is_upgraded = False, True
            self._boundaries.lost()

    async def finish_response(self, *arguments: Any) -> Any:
        """Send the response. What follows an upgrade that it refuses is a request."""
        if not self.messages:
            self._wants_upgrade = False
        return await super().finish_response(*arguments)

    def _refuse(self, problem: Problem) -> None:
        """Make the parser fail with a byte that begins no request, and replace its error by `problem`."""
        super().data_received(b"\0")
        _drop_traceback(self.messages[-1][0])
        self.messages[-1] = parser_error(problem.status, problem)
        self._boundaries.lost()

    def _begin(self, position: int, piece: bytes) -> None:
        """`piece` completed the head of a request. Its message is at `position` of the queue, or the last of several."""
        line, self._odd_line = self._odd_line, None
        message, body = self.messages[position]
        if line is not None and isinstance(message, RawRequestMessage):
            # The line as the client sent it.
            self.messages[position] = (message._replace(method=line.method, path=line.target), body)
        message, body = self.messages[-1]
        self._body, self._is_chunked, self._chunk_excess = body, False, 0
        self._chunks = None
        self._wants_upgrade = False
        boundaries = self._boundaries
        is_followed = not boundaries.is_lost
        _drop_traceback(message)
        if not piece or not isinstance(message, RawRequestMessage):
            boundaries.lost()
        elif body.is_eof():
            boundaries.ended(piece)
            # aiohttp keeps the following bytes for websocket only. It would parse or lose them for other protocols.
            self.is_upgraded = self.is_upgraded or message.upgrade
        elif message.chunked:
            self._is_chunked = True
            boundaries.began(None)
            if is_followed and not body.total_bytes:
                self._is_chunked, self._chunks = False, ChunkedReader()
                body.begin_http_chunk_receiving()
                self._wants_upgrade = message.upgrade
            elif message.upgrade:
                self.messages[-1] = (message._replace(should_close=True), body)  # what follows is lost
        elif (length := message.headers.get("Content-Length")) is not None:
            boundaries.began(int(length) - body.total_bytes)
            self._wants_upgrade = message.upgrade
        else:
            boundaries.lost()
        if self.is_upgraded:
            boundaries.lost()

    def _weigh(self, body: StreamReader, size: int, payload: int) -> None:
        """Refuse a chunked body that has sent too many bytes for its payload. `size` bytes brought `payload` bytes."""
        self._chunk_excess += size - CHUNK_COST * payload
        if self._chunk_excess > MAX_CHUNK_EXCESS and not self.is_reading_paused:
            self._break_body(body, "the body is mostly chunk extensions or trailers")
            self.close()  # without this, the parser would find the end of the body

    def _break_body(self, body: StreamReader, reason: str) -> None:
        """Raise an error in the reader of `body`.

        The end of a chunk wakes a reader that waits, and takes its future away; the reader then waits again without a
        look at the error. So the error is set once more, behind the reader's next step.
        """
        error = web.RequestPayloadError(reason)
        body.set_exception(error)
        self.event_loop.call_soon(body.set_exception, error)


def _drop_traceback(message: object) -> None:
    """Drop the traceback of a parser's error, whose frames refer to the error and to the connection."""
    if isinstance(message, ParserError):
        message.exc.__traceback__ = message.exc.__context__ = None
