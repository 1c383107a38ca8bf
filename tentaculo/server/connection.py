"""One client connection: aiohttp's protocol, with connection limits, head time limit and the gateway's own errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http import WebSocketReader

from tentaculo.config.limits import LimitSettings
from tentaculo.model.failure import Failure, Problem
from tentaculo.net.inbound_request import Closable
from tentaculo.net.memory import exhausted
from tentaculo.net.response_bytes import SENT_CLOSES, SentResponse
from tentaculo.net.tcp import PAUSE, acknowledged, is_gone, is_sent
from tentaculo.net.turns import MOST_WRITTEN, READ_SIZE, TurnReader, TurnScheduler
from tentaculo.server.aiohttp_handler import MAX_FIELDS, refusal
from tentaculo.server.fast_path import LARGE_READ, SMALL_READ, FastPathConnection, TryServe, steps_of_head
from tentaculo.server.gateway_responses import GatewayResponses
from tentaculo.server.listeners import ConnectionLimits
from tentaculo.server.request_framing import HEAD_END
from tentaculo.server.websocket_masking import MaskEnforcer
from tentaculo.telemetry.request_log import RequestLog

log = structlog.get_logger(__name__)

SMALL_HEAD = 4 * 1024
"""Bytes of a head that may be incomplete although the memory budget is exhausted: those of a request for /livez."""
BODY_BUFFER = 4 * 1024
"""Half of the bytes of a body that wait for their reader before the client is no longer read."""
HELD_WHILE_PAUSED = 2 * BODY_BUFFER + READ_SIZE
"""Bytes that are counted for a client that is not read: what its body holds, and the read that was too much."""
WATCH = 1.0
"""Seconds between looks at whether a client that closed its sending half has gone altogether."""
FIRST_PROBE, PROBE = 3, 15
"""The look at which such a client is sent an interim response while it waits, and the looks from one to the next."""
MOST_QUIET = 3
"""Looks at which the response has paused since the look before, after which such a client has left."""
MOST_DROPPED = 32 * 1024 * 1024
"""Bytes that a client may send on after its refusal, so that it receives the response."""
LINGER = 2.0
"""Seconds during which a refused client may continue to send, so that it receives the response."""


class _LingeringClose(SentResponse):
    """Keeps the connection until the client has closed its side, at most `LINGER` seconds: a reset may cost the response."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Wait. The end of the connection cancels this."""
        await asyncio.sleep(LINGER)


_LINGERS = _LingeringClose(keep_alive=False)


class ClientConnection(FastPathConnection):
    """One client connection.

    - A request that cannot be parsed gets a problem with the right status in HTTP/1.1. aiohttp sends 400 in HTTP/1.0.
    - A handler that fails in the middle of its response ends the connection, without a second response.
    - The head of a request must arrive within its time limit, else the response is 408.
    - A client over the connection limits gets 503 at once.
    """

    __slots__ = (
        *("_admission", "_dropped", "_head_time", "_head_timer", "_is_ending", "_is_lingering", "_limit", "_looks"),
        *("_peer", "_quiet", "_sent", "_requests", "_responses", "_watch", "bound", "client_info", "judged", "turns"),
    )

    turns: TurnScheduler
    """Shares the turns of the event loop. The socket sets it."""

    def __init__(
        self,
        server: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        limits: LimitSettings,
        keepalive: float,
        responses: GatewayResponses,
        requests: RequestLog,
        admission: ConnectionLimits,
        serve: TryServe | None = None,
    ) -> None:
        """`keepalive` is in seconds. All connections of the server share `admission`.

        `responses` writes refusals of bytes that are no request, and `requests` records them. `serve` handles requests
        without a task where it can. None handles all of them in tasks.
        """
        max_head = limits.headers
        super().__init__(
            server,
            serve=serve,
            loop=loop,
            keepalive_timeout=keepalive,
            tcp_keepalive=False,
            access_log=None,
            auto_decompress=False,
            read_bufsize=BODY_BUFFER,
            max_line_size=max_head,
            max_field_size=max_head + 1,
            max_headers=MAX_FIELDS,
        )
        self._limit = max_head
        self._responses = responses
        self._requests = requests
        self._admission = admission
        self._peer: str | None = None
        self._head_time = limits.head_time
        self._dropped = 0
        self._is_ending = self._is_lingering = False
        self._looks = self._quiet = self._sent = 0
        self._watch: asyncio.TimerHandle | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self.client_info: object | None = None
        """The `ClientInfo` of this connection, once a request has arrived."""
        self.bound: Closable | None = None
        """The upstream connections that belong to this one, kept by the proxy."""
        self.judged: object | None = None
        """A native request that the dispatcher has checked, for the task that serves it."""

    @property
    def has_unfinished(self) -> bool:
        """Whether a request has begun to arrive, or is being served; not one for an event stream or an upgrade."""
        if self.close_requested or self.has_response or self.payload_parser is not None:
            return False
        return self.has_begun or self.is_serving or self.is_busy or self.request_count > self._answered  # or waits

    @property
    def is_crowded(self) -> bool:
        """Whether more than half of all client connections, or of those of its address, are in use."""
        return self._peer is not None and self._admission.is_crowded(self._peer)

    def note_ending(self) -> None:
        """The connection will be closed soon, and counts as gone where `is_crowded` is asked."""
        if self._peer is not None and not self._is_ending:
            self._is_ending = True
            self._admission.note_ending(self._peer)

    def reading_changed(self, *, is_paused: bool) -> None:
        """Count what is held while the client is not read."""
        if is_paused:
            self.memory.hold(self, HELD_WHILE_PAUSED)
        else:
            self.memory.release(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected: accept it, or refuse it with 503."""
        client = cast(asyncio.Transport, transport)
        name = client.get_extra_info("peername")
        peer = str(name[0]) if isinstance(name, tuple) else ""
        if not self._admission.enter(peer):
            self.transport = client
            self._write_problem(client, Problem(Failure.OVERLOADED, "Too many connections.", {}, {"Retry-After": "1"}))
            self.close()
            self._is_lingering = self._admission.may_linger()
            if self._is_lingering:
                # A close would reset the connection if the client has sent its request, and it may lose the response.
                client.write_eof()
                self._head_timer = self.event_loop.call_later(LINGER, client.close)
            else:
                client.close()
            return
        self._peer = peer
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client has gone."""
        self._stop_head_timer()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._peer is not None:
            self._admission.leave(self._peer, was_ending=self._is_ending)
            self._peer = None
        if self._is_lingering:
            self._admission.lingering -= 1
            self._is_lingering = False
        self.memory.held -= self.counted
        self.counted = 0
        super().connection_lost(exc)
        bound, self.bound = self.bound, None
        if bound is not None:
            bound.close()

    def eof_received(self) -> bool:  # type: ignore[override] # see there
        """The client has closed its sending half, or the connection: which of the two, only its responses can tell."""
        stays = super().eof_received()
        if stays and self._watch is None:
            self._quiet = 0 if self.has_response else -(1 << 40)  # one that ended before it waits for all of it
            self._watch = self.event_loop.call_later(WATCH, self._look)
        return stays

    def _look(self) -> None:
        self._watch = None
        if (transport := self.transport) is None:
            return
        if is_gone(transport) or (self.has_response and self._has_paused(transport)):
            transport.abort()
            return
        self._looks += 1
        if self._looks % PROBE == FIRST_PROBE and self.has_response is False:
            # A client that has closed the connection answers this with a reset. Every other one ignores it.
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._watch = self.event_loop.call_later(WATCH, self._look)

    def _has_paused(self, transport: asyncio.Transport) -> bool:
        """Whether nothing was sent for so long that a client which has closed the connection would not be noticed."""
        before, self._sent = self._sent, acknowledged(transport) or 0
        self._quiet = self._quiet + 1 if before == self._sent and is_sent(transport) else min(self._quiet, 0)
        return self._quiet >= MOST_QUIET

    def answered(self) -> None:
        """The dispatcher has answered a request. Call it once for each request."""
        self._answered += 1
        if self.counted:
            self.uncount()
        if self.is_done:
            self.close()  # behind the response that is under way
        if self._answered == self.request_count and self._head_timer is None and self.has_begun:
            # The next head began to arrive in the meantime, without a time limit.
            self._await_head()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client, at their turn."""
        if self.close_requested:
            self._drop(len(data))
            return
        before, is_large = self._answered, len(data) > SMALL_READ
        is_head = (is_large or self.request_count > before) and (self._body is None or self._body.is_eof())
        if is_large and is_head and len(data) > LARGE_READ and data.find(HEAD_END, 0, LARGE_READ) < 0:
            self.turns.charge(steps_of_head(data))
        FastPathConnection.data_received(self, data)  # `super()` makes an object for each read
        is_served = self.request_count > self._answered
        if is_served or self._answered > before:
            if self._head_timer is not None:
                self._stop_head_timer()
            if is_served and self.payload_parser is None and is_head and (is_large or self._boundaries.partial):
                self.count_head(data)  # of small reads those of a head that may have no end
            return
        if self._head_timer is None and (self._body is None or self._body.is_eof()):
            # Else the bytes belong to a body that arrives behind its response, whose time aiohttp limits.
            self._await_head()
        if self.close_requested:
            return
        self.count_head(data)
        if self.memory.is_exhausted and self.counted > SMALL_HEAD and self.transport is not None:
            self._refuse_head(self.transport, exhausted())

    def _drop(self, size: int) -> None:
        """Count bytes that a client sends although its connection is being closed."""
        self._dropped += size
        if self._dropped > MOST_DROPPED and self.transport is not None:
            self.transport.abort()

    def set_parser(self, parser: Any, data_received_cb: Callable[[], None] | None = None) -> None:
        """Pass all bytes from now on to `parser`."""
        taker: Any = MaskEnforcer(parser, self.count_bytes) if isinstance(parser, WebSocketReader) else parser
        super().set_parser(taker, data_received_cb)
        if self.has_ended and taker is not parser:
            taker.feed_eof()

    def _await_head(self, seconds: float = 0.0) -> None:
        due = self.event_loop.time() + (seconds or self._head_time)
        self._head_timer = self.event_loop.call_at(due, self._head_is_late, due)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self, due: float) -> None:
        self._head_timer = None
        if self.event_loop.time() - due >= PAUSE:
            self._await_head(PAUSE)  # what the client sent in a pause of this process is read first
        elif self.transport is not None:
            words = f"The request's head did not arrive within {self._head_time:g} s."
            self._refuse_head(self.transport, Problem(Failure.REQUEST_TIMEOUT, words))

    def _refuse_head(self, transport: asyncio.Transport, problem: Problem) -> None:
        """Answer a head that has not arrived completely, and close."""
        self._stop_head_timer()
        self._write_problem(transport, problem)
        # A client that still sends must receive the response: see `_LingeringClose`.
        self.close_after_refusal()
        self.note_ending()
        if transport.can_write_eof():
            transport.write_eof()
        self._head_timer = self.event_loop.call_later(LINGER, self.force_close)

    def _write_problem(self, transport: asyncio.Transport, problem: Problem, *, with_body: bool = True) -> None:
        name = transport.get_extra_info("peername")
        peer = str(name[0]) if isinstance(name, tuple) else ""
        request_id = self._requests.refused(peer, problem.status, problem.failure.error, problem.detail)
        transport.write(self._responses.problem_bytes(problem, request_id=request_id, with_body=with_body))

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer a request that could not be parsed or is refused with a `Problem`, or whose handler failed."""
        transport = request.transport
        is_gone = transport is None or transport.is_closing()
        if isinstance(exc, ConnectionError) and is_gone:
            log.debug("client disconnected", peer=request.remote)
            return SENT_CLOSES
        problem = refusal(status, exc, self._limit)
        is_fault = problem.failure is Failure.INTERNAL
        if is_fault:
            log.error("request failed", status=status, exc_info=exc)
        else:
            log.debug("malformed request", error=problem.failure.error, peer=request.remote)
        if transport is None:
            return SENT_CLOSES
        if request.writer.output_size > 0:
            # A second status line would be read as part of the first response's body.
            transport.abort()
            return SENT_CLOSES
        self._write_problem(transport, problem, with_body=request.method != "HEAD")
        if is_fault:
            return SENT_CLOSES
        # The parser does not know where this request ends, so nothing more is parsed.
        self.close_after_refusal()
        self.note_ending()
        if transport.can_write_eof():
            transport.write_eof()
        return _LINGERS

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """An error that aiohttp found. A broken request body is logged at debug level: it is the client's error."""
        error = kw.get("exc_info")
        if isinstance(error, web.RequestPayloadError):
            log.debug("request body broken")
            error.__traceback__ = None  # the body keeps the error, whose frames hold the body
        else:
            super().log_exception(*args, **kw)


class ClientSocket(TurnReader):
    """What the event loop calls for a client's socket: reads in turns, and passes everything on to the connection.

    aiohttp's protocol itself cannot take turns. uvloop reads 256 KB at once for every `asyncio.Protocol`.
    """

    __slots__ = ("_connection", "_may_wait", "transport")

    def __init__(self, turns: TurnScheduler, connection: ClientConnection) -> None:
        super().__init__(turns)
        self._connection = connection
        self._may_wait = True
        connection.memory, connection.turns = turns.memory, turns
        self.transport: asyncio.Transport | None = None

    def __repr__(self) -> str:
        return f"<ClientSocket of {self._connection!r}>"

    @property
    def may_read(self) -> bool:
        """Whether flow control lets it read on after its turn."""
        connection = self._connection
        return not (connection.is_reading_paused or connection.is_buffer_paused or connection.is_full)

    def receive(self, data: bytes) -> None:
        """Bytes from the client, at their turn."""
        connection = self._connection
        if connection.request_waiter is None and self._may_wait and connection.is_settling:
            # In the next turn of the loop it can be served without a task, which takes a fifth of the time.
            self.put_off(data)
            return
        connection.data_received(data)
        if connection.steps:
            self.turns.charge(connection.steps)
            connection.steps = 0

    def take_turn(self) -> None:
        """Handle what was held, and read on."""
        if self._may_wait and self._connection.is_settling:
            # This turn was begun before aiohttp's task had its own.
            self._may_wait = False
            self.turns.wait(self, is_light=True)
        else:
            super().take_turn()
            self._may_wait = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(MOST_WRITTEN, 0)
        self.turns.stalls.add(self.transport, self._connection)
        self._connection.connection_made(transport)

    def eof_received(self) -> bool:
        """The client has ended its sending half. Returns whether the transport stays open for responses."""
        self._may_wait = False
        self.release()
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        if self.transport is not None:
            self.turns.stalls.discard(self.transport)
            self.transport = None
        self.drop_held()
        self._connection.connection_lost(exc)
        self.turns.memory.release(self)
        self.turns.memory.release(self._connection)

    def pause_writing(self) -> None:
        """The send buffer is full."""
        if self.transport is not None:
            self.turns.memory.hold(self, self.transport.get_write_buffer_size())
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """The send buffer has room again."""
        self.turns.memory.release(self)
        self._connection.resume_writing()
