"""An upgraded connection: bytes both ways, unread, until both sides have ended (RFC 9110 section 7.8, RFC 6455).

A side that closes its sending half still gets what the other one sends.

No task and no copy of its own: what arrives on one transport is written to the other in the same callback, and each
side stops being read while the other's send buffer is full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tentaculo.net.tcp import is_gone, reset, send_room
from tentaculo.net.turns import TurnReader, TurnScheduler

CHECK = 15.0
"""Seconds between looks at whether a side that closed its sending half has gone altogether."""
QUIET_CHECKS = 4
"""Looks after which such a side counts as gone where the other one cannot learn of its end, and has sent nothing since."""


def _nothing(_: BaseException | None) -> None:
    """What an end has left to tell once it is lost."""


def _nothing_more() -> None:
    """What a side that is lost has left to end."""


class _End(TurnReader):
    """One side. The protocol that it replaces is still notified of the end of its transport."""

    __slots__ = (
        *("_before", "_on_ended", "_on_lost", "_other", "_write"),
        *("is_paused", "passed", "peer", "transport"),
    )

    def __init__(
        self,
        turns: TurnScheduler,
        transport: asyncio.Transport,
        other: asyncio.Transport,
        on_lost: Callable[[BaseException | None], None],
        on_ended: Callable[[], None],
    ) -> None:
        super().__init__(turns)
        self.transport = transport
        self.read_room = send_room(other)
        turns.stalls.add(transport)
        self.is_paused = False
        self._before = transport.get_protocol()
        self._other = other
        self._write = other.write
        self._on_lost = on_lost
        self._on_ended = on_ended
        self.passed = 0
        """Bytes that came from this side."""
        self.peer: _End | None = None
        """The other side, until this one ends."""

    @property
    def may_read(self) -> bool:
        return not self.is_paused

    def receive(self, data: bytes) -> None:
        self.passed += len(data)
        self._write(data)

    def eof_received(self) -> bool:
        self.release()
        self._on_ended()
        return True

    def pause_writing(self) -> None:
        if self.transport is not None:
            self.turns.memory.hold(self, self.transport.get_write_buffer_size())
        if self.peer is not None:
            self.peer.is_paused = True
        if not self._other.is_closing():
            self._other.pause_reading()

    def resume_writing(self) -> None:
        self.turns.memory.release(self)
        if self.peer is not None:
            self.peer.is_paused = False
        if not self._other.is_closing():
            self._other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._other.is_closing():
            self.release()
        if self.transport is not None:
            self.turns.stalls.discard(self.transport)
        self.drop_held()
        self.peer = None
        self.turns.memory.release(self)
        self._before.connection_lost(exc)
        # Called once; the tunnel holds its ends, and they need not hold it any more.
        on_lost, self._on_lost, self._on_ended = self._on_lost, _nothing, _nothing_more
        on_lost(exc)


class Tunnel:
    """Joins a client's transport and that of an upstream that has answered 101.

    `open` it once the client has been sent the head; `wait` returns when both have ended.
    """

    __slots__ = (
        "_check",
        "_client",
        "_done",
        "_from_client",
        "_from_upstream",
        "_has_client_ended",
        "_has_halves",
        "_has_upstream_ended",
        "_quiet",
        "_upstream",
    )

    def __init__(
        self,
        turns: TurnScheduler,
        client: asyncio.Transport,
        upstream: asyncio.Transport,
        *,
        has_halves: bool = True,
    ) -> None:
        """`has_halves` is whether the end of one sending half alone means something in the protocol that is spoken."""
        self._client = client
        self._upstream = upstream
        self._from_client = _End(turns, client, upstream, self._client_lost, self._client_ended)
        self._from_upstream = _End(turns, upstream, client, self._upstream_lost, self._upstream_ended)
        self._has_client_ended = False
        self._has_upstream_ended = False
        self._has_halves = has_halves
        self._quiet = (0, 0)  # bytes that have passed, and looks since
        self._check: asyncio.TimerHandle | None = None
        self._from_client.peer, self._from_upstream.peer = self._from_upstream, self._from_client
        self._done = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<Tunnel {'ended' if self._done.done() else 'open'}, {self.received} in, {self.sent} out>"

    @property
    def received(self) -> int:
        """Bytes from the client."""
        return self._from_client.passed

    @property
    def sent(self) -> int:
        """Bytes to the client."""
        return self._from_upstream.passed

    def open(
        self,
        early: bytes,
        *,
        is_client_full: bool = False,
        is_upstream_full: bool = False,
        has_client_ended: bool = False,
        has_upstream_ended: bool = False,
    ) -> None:
        """Let bytes pass; `early` are those that the upstream sent behind its head.

        The others say which side's send buffer is full already, and which side has closed its sending half.
        """
        self._upstream.set_protocol(self._from_upstream)
        before = self._client.get_protocol()
        if isinstance(before, TurnReader):
            before.release()
        self._client.set_protocol(self._from_client)
        if is_client_full:
            self._from_client.pause_writing()
        if is_upstream_full:
            self._from_upstream.pause_writing()
        if early:
            self._from_upstream.receive(early)
        if has_client_ended:
            self._client_ended()
        if has_upstream_ended:
            self._upstream_ended()

    async def wait(self) -> None:
        """Wait for the end; cancelling closes both sides."""
        try:
            await self._done
        finally:
            self.close()

    def close(self) -> None:
        """End both sides, sending what is already under way."""
        self._upstream.close()
        self._client.close()
        self._finish()

    # What aiohttp's `RequestHandler.set_parser` asks for: it hands over what the client sent behind its request.

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Bytes from the client. Returns what aiohttp wants: not at the end, nothing left over."""
        self._from_client.receive(data)
        return False, b""

    def feed_eof(self) -> None:
        """The client has gone; its transport says so as well."""

    def _client_ended(self) -> None:
        if not self._has_client_ended:
            self._has_client_ended = True
            self._end_half(self._upstream)

    def _upstream_ended(self) -> None:
        if not self._has_upstream_ended:
            self._has_upstream_ended = True
            self._end_half(self._client)

    def _end_half(self, transport: asyncio.Transport) -> None:
        """Close the sending half of `transport`, behind what waits to be sent."""
        if transport.is_closing():
            return
        # The end of one half cannot be passed on through TLS.
        can_end = transport.can_write_eof()
        if (self._has_client_ended and self._has_upstream_ended) or not (can_end or self._has_halves):
            self._upstream.close()
            self._client.close()
            return
        if can_end:
            transport.write_eof()
        self._look()

    def _look(self) -> None:
        """End the tunnel once the side that closed its half has gone: the loop does not read there any more, so it cannot notice."""
        transport, other = (self._client, self._upstream) if self._has_client_ended else (self._upstream, self._client)
        if self._done.done() or transport.is_closing():
            return
        passed, looks = self.sent + self.received, self._quiet[1] + 1
        self._quiet = (passed, looks if passed == self._quiet[0] else 0)
        if is_gone(transport) or (self._quiet[1] > QUIET_CHECKS and not other.can_write_eof()):
            transport.abort()
            return
        self._check = asyncio.get_running_loop().call_later(CHECK, self._look)

    def _client_lost(self, _: BaseException | None) -> None:
        self._upstream.close()
        self._finish()

    def _upstream_lost(self, error: BaseException | None) -> None:
        """The client sees the same kind of end: a close or a reset."""
        if error is None:
            self._client.close()
        else:
            reset(self._client)
        self._finish()

    def _finish(self) -> None:
        if self._check is not None:
            self._check.cancel()
            self._check = None
        if not self._done.done():
            self._done.set_result(None)
