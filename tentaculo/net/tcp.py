"""One TCP connection: its options, what the kernel knows of it, its time limit, and the room in its send buffer."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from fcntl import ioctl
from typing import Any, Protocol

IDLE, INTERVAL, COUNT = 60, 15, 4
"""Seconds without data before the first keep-alive probe, seconds between probes, and unanswered probes allowed."""


class TcpSocket(Protocol):
    """A TCP socket, as the event loop shows those that it holds."""

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """Set one option."""

    def getsockopt(self, level: int, option: int, length: int, /) -> bytes:
        """Read one option of up to `length` bytes."""

    def getsockname(self) -> Any:
        """The address."""

    def fileno(self) -> int:
        """The descriptor."""


def keep_alive(sock: TcpSocket) -> None:
    """Let the kernel detect a peer that has disappeared. Without this a half-open tunnel stays open.

    Connections that a listening socket accepts inherit the option.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, COUNT)


def limit_stall(sock: TcpSocket, seconds: float) -> None:
    """Let the kernel end the connection when its peer accepts none of the unsent bytes for `seconds`.

    A peer that does not read still answers keep-alive probes, and a transport that is closed with unsent bytes does not
    end by itself. Accepted connections inherit the option. While the peer itself sends, the kernel does not look:
    `StallWatch` does.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(seconds * 1000)))


def reset(transport: asyncio.Transport) -> None:
    """Reset the connection. Where the end of the connection is the end of the body, a close would hide that it is cut.

    Unsent bytes are lost.
    """
    sock = tcp(transport)
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def unread(transport: asyncio.BaseTransport, most: int) -> bytes:
    """Read what the peer sent before the connection was lost; about `most` bytes.

    A server that responds early and closes with the rest of the request unread resets the connection. The next write
    fails and ends the transport, although the kernel still has the response.
    """
    sock = tcp(transport)
    if sock is None or transport.get_extra_info("ssl_object") is not None:
        return b""
    found = b""
    with suppress(OSError):  # BlockingIOError among them: nothing more is there
        while len(found) < most and (data := os.read(sock.fileno(), most)):
            found += data
    return found


_TCP_CLOSE = 7
_STATE, _ACKNOWLEDGED = 0, 120
"""Positions in Linux's `struct tcp_info`."""


def unread_events(transport: asyncio.BaseTransport) -> Callable[[int], Sequence[object]]:
    """A function that returns what the kernel has from the peer and the event loop has not read: a close, a reset, data.

    Its argument is how many milliseconds to wait. It may be called as long as the transport is open. Data is not looked
    at with TLS, where the peer may send a session ticket at any time.
    """
    sock = tcp(transport)
    if sock is None:
        return lambda _: ()
    look = select.poll()
    closed = getattr(select, "POLLRDHUP", 0)
    look.register(sock.fileno(), closed if transport.get_extra_info("ssl_object") is not None else select.POLLIN)
    return look.poll


def is_gone(transport: asyncio.BaseTransport) -> bool:
    """Whether a connection has ended both ways, though the event loop, which does not read from it, has not seen it."""
    return _has_event(transport, 0)


def has_ended(transport: asyncio.BaseTransport) -> bool:
    """As `is_gone`, also where only the peer's sending half has ended. Without Linux it is the same."""
    return _has_event(transport, getattr(select, "POLLRDHUP", 0))


def _has_event(transport: asyncio.BaseTransport, asked: int) -> bool:
    """Whether the kernel has one of the events `asked`, an error or a hang-up for a connection."""
    sock = tcp(transport)
    if sock is None:
        return False
    look = select.poll()
    look.register(sock.fileno(), asked)
    return any(event & (asked | select.POLLERR | select.POLLHUP) for _, event in look.poll(0))


def accepted(transport: asyncio.BaseTransport) -> int | None:
    """How many bytes the peer's kernel has accepted on a connection that was reset; None where that is not known.

    TLS counts other bytes than its caller.
    """
    if transport.get_extra_info("ssl_object") is not None:
        return None
    state, count = _tcp_info(transport) or (None, 0)
    return count if state == _TCP_CLOSE else None


def acknowledged(transport: asyncio.BaseTransport) -> int | None:
    """How many bytes the peer's kernel has accepted on a connection; None where that is not known."""
    info = _tcp_info(transport)
    return None if info is None else info[1]


def is_sent(transport: asyncio.WriteTransport) -> bool:
    """Whether the peer's kernel has accepted all that was written. Else its reset would say that it has gone."""
    sock = tcp(transport)
    if transport.get_write_buffer_size():
        return False
    queued = bytearray(4)
    with suppress(OSError):
        if sock is not None:
            ioctl(sock.fileno(), termios.TIOCOUTQ, queued)
    return not any(queued)


def _tcp_info(transport: asyncio.BaseTransport) -> tuple[int, int] | None:
    """The state of a connection in the kernel, and how many bytes its peer has accepted."""
    sock = tcp(transport)
    if sock is None or not hasattr(socket, "TCP_INFO"):
        return None
    with suppress(OSError, struct.error):
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED + 8)
        return info[_STATE], struct.unpack_from("=Q", info, _ACKNOWLEDGED)[0] - 1  # the SYN counts as one
    return None


def send_room(transport: asyncio.WriteTransport) -> Callable[[], int] | None:
    """A function that returns how many bytes the kernel takes at once of what is written to `transport`, about.

    It is 0 where earlier bytes still wait in this process. TLS adds less than a hundredth to records that are full.
    """
    sock = tcp(transport)
    if sock is None:
        return None
    queued = bytearray(4)

    def room() -> int:
        if transport.is_closing() or transport.get_write_buffer_size():
            return 0
        try:
            ioctl(sock.fileno(), termios.TIOCOUTQ, queued)
            limit = struct.unpack("i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4))[0]
        except OSError:
            return 0
        # The kernel's limit counts its own overhead too: with many bytes in few segments less than one part of 64.
        return int(limit - limit // 64 - int.from_bytes(queued, sys.byteorder)) // 2

    return room


def tcp(transport: asyncio.BaseTransport) -> socket.socket | None:
    """The socket of a transport; None where it is no TCP socket, or the connection has been lost."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.fileno() < 0:
        return None
    return sock


def local_url(host: str, port: int) -> str:
    """The URL on this machine of a socket that listens on `host` and `port`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not listened on
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


NEVER = float("inf")
PAUSE = 1.0
"""Seconds by which a timer is late after a pause of this process, such as SIGSTOP; then a limit ends that much later."""


def _nothing() -> None:
    """What there is to do once a deadline has been stopped."""


class Deadline:
    """Calls `on_reached` once when a limit passes.

    Setting and lifting only writes a number: the timer is left standing and looked at when it fires, so that an
    exchange of a few milliseconds schedules none.
    """

    __slots__ = ("_loop", "_on_reached", "_timer", "at", "fires_at")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_reached: Callable[[], None]) -> None:
        self._loop = loop
        self._on_reached = on_reached
        self._timer: asyncio.TimerHandle | None = None
        self.at = NEVER
        """When the limit passes, by the loop's clock. A caller may set it to `NEVER`, or to a time after `fires_at`."""
        self.fires_at = NEVER
        """When the timer looks at the limit; `NEVER` while there is no timer."""

    def __repr__(self) -> str:
        return "<Deadline: none>" if self.at == NEVER else f"<Deadline: in {self.at - self._loop.time():.3f} s>"

    def set(self, seconds: float) -> None:
        """The limit is `seconds` from now; an earlier one is forgotten."""
        at = self.at = self._loop.time() + seconds
        if at < self.fires_at:
            self._start_timer(at)

    def lift(self) -> None:
        """There is no limit."""
        self.at = NEVER

    def stop(self) -> None:
        """Lift the limit for ever, with its timer and its reference to the callback."""
        self.at = self.fires_at = NEVER
        self._on_reached = _nothing
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.fires_at = self._loop.call_at(at, self._look), at

    def _look(self) -> None:
        self._timer, self.fires_at = None, NEVER
        if self.at == NEVER:
            return
        now = self._loop.time()
        if now - self.at >= PAUSE:
            # This process was paused. What the service sent meanwhile is read before the limit counts.
            self.at = now + PAUSE
        if now < self.at:
            self._start_timer(self.at)
            return
        self.at = NEVER
        self._on_reached()


@asynccontextmanager
async def time_limit(seconds: float) -> AsyncIterator[None]:
    """Raise `TimeoutError` if the body takes longer than `seconds`, as `asyncio.timeout` does.

    After a pause of this process it waits a little longer: what a peer sent meanwhile was in time, and has to be read.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as scope:
        deadline = Deadline(loop, lambda: scope.reschedule(loop.time()))
        deadline.set(seconds)
        try:
            yield
        finally:
            deadline.stop()


class WriteGate:
    """Room in one send buffer. One task waits for it at most."""

    __slots__ = ("_loop", "_waiter", "is_there")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self.is_there = True

    def __repr__(self) -> str:
        return f"<WriteGate: {'open' if self.is_there else 'closed'}>"

    def end(self) -> None:
        """The buffer is over its mark."""
        self.is_there = False

    def begin(self) -> None:
        """The buffer has room again, or is not needed any more."""
        self.is_there = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Wait until there is room."""
        while not self.is_there:
            self._waiter = self._loop.create_future()
            await self._waiter
