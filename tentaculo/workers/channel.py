"""The messages that workers exchange, and the channel between the supervisor and one worker that carries them.

Both ends send whole messages, and neither waits for the other.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from tentaculo.events.clock_offsets import Bounds
from tentaculo.model.clock import StatedReading
from tentaculo.model.health import Endpoint, ProbeDetails, ProbeResult, SeenCertificate, StateChange
from tentaculo.model.history import RouteKey, Tally
from tentaculo.model.incident import Incident, MaintenanceWindow, Note

log = structlog.get_logger(__name__)

LEADER = 1
"""Number of the worker that probes, alerts and writes history and the table. A worker that replaces it is the leader too."""
LONGEST = 64 * 1024
"""Bytes of a message at most; about 200 KB is what the kernel would take."""
MOST_WAITING = 1024
"""Messages queued for the other end before new ones are dropped."""
_MOST_AT_ONCE = 64
_ONE_DESCRIPTOR = socket.CMSG_LEN(4)
"""Bytes of a control message with one descriptor."""

ALL = b"\0"
"""First byte of a message for every other worker. Any other first byte is the number of the recipient."""
EVENTS = ALL + b"events"
"""To every other worker: the log of events has more."""
READY = b"\xffready"
"""From a worker: it accepts requests."""
STOPPING = b"\xffstopping"
"""From a worker: it accepts no more connections."""
ADOPT, RELEASE = b"\xffadopt", b"\xffrelease"
"""To a worker, with the number of another one as a byte: start and stop accepting its connections as well."""
SERVING = b"\xffserving"
"""To a worker, with a number as a byte: so many workers accept requests now."""
STOP = b"\xffstop"
"""To a worker: finish the requests in flight, and end."""
STOP_NOW = b"\xffnow"
"""To a worker that is stopping: end without waiting for requests in flight."""
RETIRE = b"\xffretire"
"""To a worker: a successor accepts the connections. Finish the requests, tunnels and event streams, and end."""
LEAD_RELEASED = b"\xffreleased"
"""From a worker that retires: it probes and alerts no more."""
LEAD = b"\xfflead"
"""To a worker: no predecessor probes and alerts."""
PING, PONG = b"\xffping", b"\xffpong"
"""To a worker: is its event loop running? From it: yes."""
RELOADS = b"\xffgeneration"
"""To and from a worker: a step of a reload (`generations.py`). It may come with a descriptor."""


def recipients(message: bytes, sender: int, workers: Iterable[int]) -> list[int]:
    """The numbers in `workers` that receive a message of `sender`."""
    if message.startswith(ALL):
        return [number for number in workers if number != sender]
    return [number for number in workers if number == message[0]]


def pair() -> tuple[socket.socket, socket.socket]:
    """The two sockets of a new channel. SOCK_SEQPACKET keeps messages whole and reports a closed other end."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _close_descriptor(_message: bytes, descriptor: int) -> None:
    os.close(descriptor)


class WorkerChannel:
    """One end of a channel. `on_message` receives each message. `on_end` is called once, when the other end is closed.

    `on_file` receives a message that comes with the descriptor of a file, which it must close.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_message: Callable[[bytes], None],
        on_end: Callable[[], None],
        on_file: Callable[[bytes, int], None] = _close_descriptor,
    ) -> None:
        """`sock` is closed with the channel. Needs a running loop."""
        self._sock = sock
        self._on_message = on_message
        self._on_file = on_file
        self._on_end = on_end
        self._orders: deque[tuple[bytes, int | None]] = deque()
        self._waiting: deque[bytes] = deque()
        self._is_losing = False
        self._is_open = True
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        self._loop.add_reader(sock, self._read)

    def __repr__(self) -> str:
        waiting = len(self._orders) + len(self._waiting)
        return f"<WorkerChannel: {waiting} waiting>" if self._is_open else "<WorkerChannel: closed>"

    def send(self, message: bytes) -> None:
        """Send `message`, which is not empty. It is dropped if too many wait, or if the other end is closed."""
        if not self._is_open or (not self._has_waiting and self._sent(message, None)):
            return
        if len(self._waiting) >= MOST_WAITING:
            if not self._is_losing:
                log.warning("worker messages lost", waiting=MOST_WAITING)
            self._is_losing = True
            return
        if not self._has_waiting:
            self._loop.add_writer(self._sock, self._flush)
        self._waiting.append(message)

    def order(self, message: bytes, descriptor: int | None = None) -> None:
        """Send `message` after earlier orders, and before all else that waits. It is never dropped while the other end is open.

        The other end gets a descriptor of its own for the file of `descriptor`, which the caller may close.
        """
        if self._is_open and (self._orders or not self._sent(message, descriptor)):
            if not self._has_waiting:
                self._loop.add_writer(self._sock, self._flush)
            self._orders.append((message, None if descriptor is None else os.dup(descriptor)))

    def close(self) -> None:
        """Close this end. Messages that wait are dropped."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._drop_waiting()
            self._sock.close()

    @property
    def _has_waiting(self) -> bool:
        return bool(self._orders or self._waiting)

    def _sent(self, message: bytes, descriptor: int | None) -> bool:
        try:
            if descriptor is None:
                self._sock.send(message)
            else:
                socket.send_fds(self._sock, [message], [descriptor])
        except BlockingIOError:
            return False
        except OSError:
            # The other end is closed. `_read` notices that and calls `on_end`.
            self._drop_waiting()
        return True

    def _drop_waiting(self) -> None:
        for _, descriptor in self._orders:
            if descriptor is not None:
                os.close(descriptor)
        self._orders.clear()
        self._waiting.clear()

    def _flush(self) -> None:
        while self._orders and self._sent(*self._orders[0]):
            if self._orders:
                _, descriptor = self._orders.popleft()
                if descriptor is not None:
                    os.close(descriptor)
        while not self._orders and self._waiting and self._sent(self._waiting[0], None):
            if self._waiting:
                self._waiting.popleft()
        if not self._has_waiting:
            self._is_losing = False
            self._loop.remove_writer(self._sock)

    def _read(self) -> None:
        for _ in range(_MOST_AT_ONCE):
            attached: list[tuple[int, int, bytes]] = []
            try:
                # Not `socket.recv_fds`: in Python 3.11 it ignores the flag.
                message, attached, _, _ = self._sock.recvmsg(LONGEST, _ONE_DESCRIPTOR, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self.close()
                self._on_end()
                return
            if attached:
                self._on_file(message, int.from_bytes(attached[0][2], sys.byteorder))
            else:
                self._on_message(message)
            if not self._is_open:
                return


ShownIncident = tuple[Incident, tuple[Note, ...]]
"""An incident on the page, with its notes."""


@dataclass(frozen=True, slots=True)
class StateRequest:
    """A worker has started and asks the leader for the state."""

    by: int


@dataclass(frozen=True, slots=True)
class ProbeResults:
    """Results of the leader's probes."""

    results: Sequence[ProbeResult]


@dataclass(frozen=True, slots=True)
class LoggedProbes:
    """Earlier results of the leader's probes, and the last certificates, which are only shown."""

    results: Sequence[ProbeResult]
    certificates: Sequence[SeenCertificate]


@dataclass(frozen=True, slots=True)
class StateChanges:
    """Changes of state that another machine has found, in the order in which they were stored."""

    changes: Sequence[StateChange]


@dataclass(frozen=True, slots=True)
class FoundDetails:
    """What the last probes of another machine found, by service."""

    details: Mapping[str, ProbeDetails]


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why some services are in maintenance, and why their requests are slow; None for a service that is not."""

    reasons: Mapping[str, tuple[str | None, str | None]]


@dataclass(frozen=True, slots=True)
class PageIncidents:
    """The incidents and maintenance windows that the status page shows."""

    incidents: Sequence[ShownIncident]
    windows: Sequence[MaintenanceWindow]
    not_listed: int = 0
    """Number of open incidents that were left out for their size."""


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """Requests contradict the health of an endpoint: it should be probed now."""

    upstream: Endpoint


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A service has sent a heartbeat."""

    service: str
    body: bytes


@dataclass(frozen=True, slots=True)
class RequestTallies:
    """Counts of a worker's requests since its last message of this kind, by route."""

    tallies: Mapping[RouteKey, Tally]


@dataclass(frozen=True, slots=True)
class StatedTimes:
    """What events that a worker received say about the clocks of their sources, since its last message of this kind."""

    readings: Mapping[str, StatedReading]


@dataclass(frozen=True, slots=True)
class ReceivedOffsets:
    """What another machine's probes say about the clocks of endpoints, and when this machine has read that."""

    offsets: Mapping[Endpoint, tuple[Bounds, float]]


@dataclass(frozen=True, slots=True)
class FailedSignIn:
    """An attempt to sign in has failed, from this network."""

    network: str


def shortened(listed: PageIncidents) -> PageIncidents:
    """The first half of its incidents and windows, and how many open incidents that leaves out."""
    incidents, windows = listed.incidents, listed.windows
    half = len(incidents) // 2
    left_out = sum(incident.is_open for incident, _ in incidents[half:])
    return PageIncidents(incidents[:half], windows[: len(windows) // 2], listed.not_listed + left_out)


class SharesIncidents(Protocol):
    """The leader's incidents and maintenance windows, in memory."""

    def shown(self) -> Sequence[ShownIncident]:
        """The incidents of the status page, with their notes."""

    def planned(self) -> Sequence[MaintenanceWindow]:
        """The open and planned maintenance windows."""


T = TypeVar("T")


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in parts of at most `size`."""
    yield from (items[start : start + size] for start in range(0, len(items), size))
