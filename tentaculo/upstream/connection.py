"""One connection to an upstream, and the one exchange that is on it.

A small asyncio protocol over our own strict reader. It buffers no more of a body than its mark before it stops
reading, keeps one lazily re-armed timer, and never raises into the event loop: what goes wrong ends the exchange with
an `ExchangeError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from typing import cast

from tentaculo.model.failure import Failure, UpstreamError
from tentaculo.net.connecting import is_shortage
from tentaculo.net.http1 import HeadTooLargeError, Http1Error
from tentaculo.net.tcp import (
    NEVER,
    Deadline,
    WriteGate,
    accepted,
    keep_alive,
    limit_stall,
    send_room,
    tcp,
    unread,
    unread_events,
)
from tentaculo.net.tls import TRUNCATED
from tentaculo.net.turns import READ_SIZE, STEPS, TurnReader, TurnScheduler
from tentaculo.upstream.response_reader import ResponseHeadCache, ResponseReader

HIGH_WATER = 8 * 1024
"""Bytes of a body that wait for the client before the upstream is no longer read."""
INTERIM_STEPS = 2
"""Steps of a parser that an interim head costs; one has 16 bytes at least."""
MOST_UNREAD = 64 * 1024
"""Bytes that are read of a connection that was reset."""
MAX_IDLE = 60.0
"""Seconds after which an idle connection is not used any more; most servers keep theirs for longer."""
MAX_IDLE_UNSAFE = 1.0
"""The same for a request that cannot be repeated, where the service does not say how long it keeps a connection."""

# Read on every proxied request: a global is a good deal cheaper than an attribute of an enum class.
_FIRST_BYTE_TIMEOUT = Failure.FIRST_BYTE_TIMEOUT


class _State(Enum):
    IDLE = "idle"
    BUSY = "busy"
    TUNNEL = "tunnel"
    CLOSED = "closed"


_IDLE, _BUSY = _State.IDLE, _State.BUSY


class UpstreamConnection(TurnReader):
    """A connection that carries one exchange after the other.

    Use: `begin`, then `write` and `drain` for the rest of a body. At each progress look at `response` and `error`, and
    `take` what has arrived of the body, until the `response` is whole; then `rest` for the next exchange, or `abort`.
    """

    __slots__ = (
        "_buffer",
        "_buffered",
        "_deadline",
        "_loop",
        "_on_idle_lost",
        "_reading",
        "_room",
        "_state",
        "_timed_out",
        "_unread_events",
        "_written",
        "address",
        "error",
        "has_ended",
        "idle_for",
        "idle_since",
        "is_bound",
        "is_request_whole",
        "on_progress",
        "response",
        "transport",
        "uses",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        turns: TurnScheduler,
        max_head: int,
        heads: ResponseHeadCache,
        address: str,
        on_idle_lost: Callable[[UpstreamConnection], None],
    ) -> None:
        """`max_head` bounds a response's head in bytes, and `heads` are those known of this upstream.

        `address` is the one it was opened to; `on_idle_lost` is called when it closes while it is idle.
        """
        super().__init__(turns)
        self._loop = loop
        self._on_idle_lost = on_idle_lost
        self.address = address
        self.transport: asyncio.Transport | None = None
        self.response = ResponseReader("GET", max_head, heads)
        self.idle_since = 0.0
        """When it began to wait for the next exchange, by the loop's clock."""
        self.idle_for = MAX_IDLE
        """Seconds that it may wait: longer ones do no harm, but the service may have closed it."""
        self.is_request_whole = True
        """Whether the whole request has been written; a response may come earlier."""
        self.is_bound = False
        """Whether it was authenticated itself, so that it belongs to one client connection."""
        self.uses = 0
        self.has_ended = False
        """Whether the upstream has closed its sending half."""
        self._written = 0
        """Bytes written by all exchanges."""
        self.on_progress: Callable[[], None] | None = None
        """Called each time more of the response has arrived or the exchange has failed."""
        self._state = _State.IDLE
        self._buffer: list[bytes] = []
        self._buffered = 0
        self.error: UpstreamError | None = None
        """Why the exchange has ended without its whole response."""
        self._room = WriteGate(loop)
        self._reading = True
        self._deadline = Deadline(loop, self._on_deadline)
        self._timed_out = Failure.FIRST_BYTE_TIMEOUT
        self._unread_events: Callable[[int], Sequence[object]] | None = None

    def __repr__(self) -> str:
        return f"<UpstreamConnection {self._state.value}, used {self.uses} times>"

    # -- the exchange ------------------------------------------------------------------------------------------

    def begin(self, method: str, on_progress: Callable[[], None], data: bytes, seconds: float | None = None) -> None:
        """Start an exchange by sending `data`: the head, or with `seconds` the whole request.

        The response to a whole request must begin within `seconds`. `on_progress` is called each time more of the
        response has arrived or the exchange has failed. Raises `UpstreamError` if the connection was lost before.
        """
        transport = self.transport
        if transport is None:
            raise UpstreamError(
                Failure.CONNECTION_LOST, "the connection was closed before the request", untouched=True, untaken=True
            )
        self._state = _BUSY
        self.waited = 0.0
        size = len(data)
        self.response.again(method, size)
        self.uses += 1
        self.on_progress = on_progress
        self._written += size
        transport.write(data)
        self.is_request_whole = seconds is not None
        if seconds is not None:
            self._timed_out = _FIRST_BYTE_TIMEOUT
            deadline, at = self._deadline, self._loop.time() + seconds
            if at >= deadline.fires_at:
                deadline.at = at  # `set`, without a call
            else:
                deadline.set(seconds)

    def write(self, data: bytes) -> None:
        """Send bytes. After a loss they are dropped; `error` says why."""
        if self.transport is not None:
            self._written += len(data)
            self.response.request_size += len(data)
            self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the send buffer has room. Raises `UpstreamError` if the connection is lost."""
        await self._room.wait()
        if self.error is not None:
            raise self.error.copy()

    @property
    def is_writable(self) -> bool:
        """Whether the send buffer has room."""
        return self._room.is_there

    @property
    def is_reading(self) -> bool:
        """Whether it is read from: flow control has not paused it."""
        return self._reading

    @property
    def has_data(self) -> bool:
        """Whether some of the body has arrived since the last `take`."""
        return bool(self._buffer)

    def take(self) -> bytes:
        """What has arrived of the body since the last call."""
        pieces = self._buffer
        self._buffer = []
        self._buffered = 0
        return b"".join(pieces)

    @property
    def waiting(self) -> Sequence[bytes]:
        """What `take` will return, in pieces."""
        return self._buffer

    def pause(self) -> None:
        """Read no more until `resume`."""
        if self._reading and self.transport is not None:
            self._reading = False
            self.transport.pause_reading()
            self.turns.memory.hold(self, max(self._buffered, READ_SIZE))

    def read_for(self, receiver: asyncio.Transport) -> None:
        """Read as much of the body at once as the socket of `receiver` takes, if much is to come."""
        response = self.response
        if response.left > READ_SIZE and (room := send_room(receiver)) is not None:
            self.read_room = lambda: min(response.left, room())

    def resume(self) -> None:
        """Read on after the buffer was full."""
        if not self._reading and self.transport is not None:
            self._reading = True
            self.transport.resume_reading()
            self.turns.memory.release(self)

    def limit(self, seconds: float, failure: Failure) -> None:
        """End the exchange with `failure` if it is still waiting in `seconds`; replaces any earlier limit."""
        self._timed_out = failure
        self._deadline.set(seconds)

    def unlimited(self) -> None:
        """Lift the time limit."""
        self._deadline.lift()

    def fail(self, error: UpstreamError) -> None:
        """End the exchange. Nothing happens if the response is complete."""
        if self._state is not _State.BUSY or self.response.is_whole:
            return
        self.error = error.copy()
        self.abort()
        self._progress()
        self._room.begin()

    @property
    def is_open(self) -> bool:
        """Whether it can be written to."""
        return self.transport is not None and not self.transport.is_closing()

    def is_fresh(self, now: float) -> bool:
        """Whether it is young enough for a request that cannot be repeated."""
        fields = self.response.fields
        kept = fields.keep_alive_timeout if fields is not None else None
        limit = MAX_IDLE_UNSAFE if kept is None else max(kept - 1, kept / 2)
        return now - self.idle_since <= limit

    def is_quiet(self) -> bool:
        """Whether nothing came that the event loop has not read: in most cases the service's close."""
        if self.transport is None:
            return False
        if self._unread_events is None:
            self._unread_events = unread_events(self.transport)
        return not self._unread_events(0)

    def rest(self) -> bool:
        """Wait for the next exchange. Returns whether one can follow; if none can, the caller closes the connection.

        Bytes that nobody took, as when the client left, would be the beginning of the next client's response.
        """
        response, transport = self.response, self.transport
        fields = response.fields
        if transport is None or transport.is_closing() or not self.is_request_whole or fields is None:
            return False
        if not response.is_whole or not response.leaves_connection or self._buffer or self.held:
            return False
        self._state = _IDLE
        self.read_room = None  # which holds the client's transport
        self._deadline.at = NEVER
        self.idle_since = self._loop.time()
        kept = fields.keep_alive_timeout
        self.idle_for = MAX_IDLE if kept is None else min(kept, MAX_IDLE)
        return True

    def abort(self) -> None:
        """Close at once and drop what is unsent."""
        self._state = _State.CLOSED
        self._deadline.stop()
        if self.transport is not None:
            self.transport.abort()
            self.transport = None

    # -- after a 101 -------------------------------------------------------------------------------------------

    def upgrade(self, stall: float) -> tuple[asyncio.Transport | None, bytes]:
        """Give the connection away: its transport, None where it is lost, and the bytes that came with the head.

        It ends once the upstream has taken nothing of what waits for it for `stall` seconds.
        """
        if self.transport is not None and (sock := tcp(self.transport)) is not None:
            limit_stall(sock, stall)
        self._state = _State.TUNNEL
        self.unlimited()
        held = self.held
        self.drop_held()
        return self.transport, self.response.beyond + held

    # -- asyncio.Protocol --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(0)
        if (sock := tcp(transport)) is not None:
            keep_alive(sock)

    @property
    def may_read(self) -> bool:
        """Whether flow control lets it read on after its turn."""
        return self._reading

    def receive(self, data: bytes) -> None:
        """Bytes from the upstream, at their turn."""
        if self._state is not _BUSY:
            if self._state is _IDLE:
                # No request asked for this, and the next response could not be distinguished from it.
                self._on_idle_lost(self)
                self.abort()
            return
        response = self.response
        try:
            pieces = response.feed(data)
        except HeadTooLargeError as error:
            self.fail(UpstreamError(Failure.RESPONSE_HEAD_TOO_LARGE, str(error)))
            return
        except Http1Error as error:
            self.fail(UpstreamError(Failure.BAD_RESPONSE, str(error)))
            return
        if response.steps > STEPS:
            self.turns.charge(response.steps)
        if response.interim:
            self.turns.charge(INTERIM_STEPS * len(response.interim))
        if pieces:
            self._buffer += pieces
            if not response.is_whole:
                self._buffered += sum([len(piece) for piece in pieces])
        if self.on_progress is not None:
            self.on_progress()
        if self._buffered > HIGH_WATER and not response.is_whole:
            self.pause()  # nobody has taken it

    def eof_received(self) -> bool:
        """The upstream has closed its side: the transport closes itself, unless a tunnel is about to take it."""
        self.has_ended = True
        return self._state is _State.BUSY and self.response.is_switching

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, whatever the reason."""
        transport, self.transport, state = self.transport, None, self._state
        self._deadline.stop()
        if state is _State.IDLE:
            self._on_idle_lost(self)
        elif state is _State.BUSY:
            self.release()
            if exc is not None and transport is not None and (left := unread(transport, MOST_UNREAD)):
                self.receive(left)
            self._end(exc, transport)
        self._state = _State.CLOSED
        self.drop_held()
        self.turns.memory.release(self)
        self.resume_writing()

    def pause_writing(self) -> None:
        """The send buffer is over its mark."""
        if self.transport is not None:
            self.turns.memory.hold(self._room, self.transport.get_write_buffer_size())
        self._room.end()

    def resume_writing(self) -> None:
        """The send buffer has room again."""
        self.turns.memory.release(self._room)
        self._room.begin()

    # -- inside ------------------------------------------------------------------------------------------------

    def _end(self, exc: Exception | None, transport: asyncio.Transport | None) -> None:
        response = self.response
        if response.is_whole:
            return
        if exc is not None and is_shortage(exc):
            self.fail(UpstreamError(Failure.EXHAUSTED, "the gateway's machine ran out of memory"))
            return
        if response.is_untouched:
            words = "the connection was closed before the response"
            # Its close acknowledges what had arrived by then, and what came later was reset. A reset alone says less:
            # the upstream may have read what it did not acknowledge yet.
            count = accepted(transport) if transport is not None and self.has_ended else None
            untaken = count is not None and count <= self._written - response.request_size
            self.fail(UpstreamError(Failure.CONNECTION_LOST, words, untouched=True, untaken=untaken))
            return
        try:
            if exc is not None:
                raise Http1Error("the connection was reset within the response")
            if transport is not None and transport.get_extra_info(TRUNCATED):
                raise Http1Error("the connection was closed without TLS's close_notify")
            response.end()
        except Http1Error as error:
            self.fail(UpstreamError(Failure.BODY_CUT if response.head else Failure.BAD_RESPONSE, str(error)))
        else:
            self._progress()

    def _progress(self) -> None:
        if self.on_progress is not None:
            self.on_progress()

    def _on_deadline(self) -> None:
        self.fail(UpstreamError(self._timed_out, "the service sent nothing in time"))
