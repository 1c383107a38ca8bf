"""From a client's bytes to requests: aiohttp's protocol and parser, and what a proxy needs to be surer of.

What it uses of aiohttp's private names has a public one in `aiohttp_handler.py`.
"""

from __future__ import annotations

from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD

from tentaculo.model.failure import Problem
from tentaculo.server.aiohttp_handler import AiohttpHandler, ParserError, parser_error
from tentaculo.server.message_boundaries import HEAD_END, MessageBoundaries
from tentaculo.server.request_line import RequestLine, is_unfinished, is_usual

CHUNK_COST = 16
"""Bytes on the wire for each byte of a chunked body that are no excess: chunks of one byte cost 6."""
MAX_CHUNK_EXCESS = 16 * 1024
"""Bytes of chunk extensions and trailers beyond that, else 400 (RFC 9112 section 7.1.1 asks for a limit)."""


class RequestReceiver(AiohttpHandler):
    """The receiving half of a client's connection.

    - Any method token and UTF-8 in the target are taken, however the line is cut on its way.
    - A request that cannot be parsed takes none with it that came before, however many these are.
    - A framing error within a body reaches whoever reads it (aiohttp's C parser leaves the reader waiting for ever).
    - A chunked body that is mostly chunk lines and extensions is cut: aiohttp sets no bound to them.
    - What follows an upgrade to anything is kept until it is known who takes it, not only behind one to websocket.
    """

    __slots__ = ("_body", "_chunk_excess", "_held", "_is_chunked", "_max_line", "_odd_line", "_seams")

    def __init__(self, *arguments: Any, max_line_size: int, **named: Any) -> None:
        """The arguments are aiohttp's."""
        super().__init__(*arguments, max_line_size=max_line_size, **named)
        self._body: StreamReader | None = None
        self._chunk_excess = 0
        self._held = b""
        self._is_chunked = False
        self._max_line = max_line_size
        self._odd_line: RequestLine | None = None
        self._seams = MessageBoundaries()

    @property
    def has_begun(self) -> bool:
        """Whether part of a head is there."""
        return bool(self._held) or self._seams.has_begun

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client has gone."""
        super().connection_lost(exc)
        self._body = None  # which holds its connection

    def data_received(self, data: bytes) -> None:
        """Bytes from the client; none where the parser is to go on with what it kept back."""
        seams = self._seams
        if seams.is_at_start and data.find(HEAD_END) == len(data) - 4 and self._take_head(data):
            return
        if not data:
            self._receive(data)
        if self._held:
            data, self._held = self._held + data, b""
        position = 0
        while position < len(data):
            if seams.is_at_start:
                position = seams.skip_empty_lines(data, position)
                if not self._can_begin(data, position):
                    self._held = data[position:]
                    break
            cut = seams.cut(data, position)
            self._receive(data[position:cut] if cut - position < len(data) else data)
            position = cut

    def _take_head(self, data: bytes) -> bool:
        """What most segments are: one head in usual words and no body. False where it is not, and nothing is done."""
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
        """Whether the request at `position` may go to the parser: it would keep back what it cannot take yet."""
        if len(self.messages) >= self.max_queued_messages or (self._body is not None and not self._body.is_eof()):
            return False
        # An odd line is only seen for one when it is whole.
        return not is_unfinished(data, position) or len(data) - position > self._max_line

    def _receive(self, piece: bytes) -> None:
        if self._seams.is_at_start and piece:
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
            # Nothing can follow a body that has not ended but the report of its framing error.
            if body is not None and not body.is_eof():
                self._break_body(body, "the body's framing is broken")
            self._begin(waiting, piece)
        elif body is None or self.payload_parser is not None:
            self._seams.went_on(piece)
        elif self._is_chunked and body.is_eof():
            self._is_chunked = False
            self._seams.ended(piece)
        else:
            self._seams.went_on(piece)
            if self._is_chunked:
                self._weigh(body, len(piece), body.total_bytes - before)

    def _refuse(self, problem: Problem) -> None:
        """Let the parser fail, as it does at what no request begins with, and say why."""
        super().data_received(b"\0")
        self.messages[-1] = parser_error(problem.status, problem)
        self._seams.lost()

    def _begin(self, position: int, piece: bytes) -> None:
        """A request's head was complete with `piece`: its message is at `position`, or the last of several."""
        line, self._odd_line = self._odd_line, None
        message, body = self.messages[position]
        if line is not None and isinstance(message, RawRequestMessage):
            # What the client really said.
            self.messages[position] = (message._replace(method=line.method, path=line.target), body)
        message, body = self.messages[-1]
        self._body, self._is_chunked, self._chunk_excess = body, False, 0
        seams = self._seams
        if isinstance(message, ParserError):
            # aiohttp's frames in it hold the error itself, and this connection.
            message.exc.__traceback__ = None
        if not piece or not isinstance(message, RawRequestMessage):
            seams.lost()
        elif body.is_eof():
            seams.ended(piece)
            # aiohttp keeps what follows for a websocket only; it parses the rest, or loses it.
            self.is_upgraded = self.is_upgraded or message.upgrade
        elif message.chunked:
            self._is_chunked = True
            seams.began(None)
            if message.upgrade:
                self.messages[-1] = (message._replace(should_close=True), body)  # what follows is lost
        elif (length := message.headers.get("Content-Length")) is not None:
            seams.began(int(length) - body.total_bytes)
        else:
            seams.lost()
        if self.is_upgraded:
            seams.lost()

    def _weigh(self, body: StreamReader, size: int, payload: int) -> None:
        """Cut a chunked body of which `size` bytes brought only `payload`, time and again."""
        self._chunk_excess += size - CHUNK_COST * payload
        if self._chunk_excess > MAX_CHUNK_EXCESS and not self.is_reading_paused:
            self._break_body(body, "the body is mostly chunk extensions or trailers")
            self.close()  # nothing more is parsed, or this body would have an end

    def _break_body(self, body: StreamReader, reason: str) -> None:
        """Raise an error in the reader of `body`.

        The end of a chunk wakes a reader that waits, and takes its future away; the reader then waits again without a
        look at the error. So the error is set once more, behind the reader's next step.
        """
        error = web.RequestPayloadError(reason)
        body.set_exception(error)
        self.event_loop.call_soon(body.set_exception, error)
