"""Listening sockets and the connections that wait in their queues, connection limits, signals and phases of the process.

The kernel accepts connections before the process does. Those that still wait in the queue of a listening socket are lost
when it closes, so a stop empties the queue first. Linux only: elsewhere nothing is known of it, and it counts as empty.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from enum import Enum

import msgspec
import structlog

from tentaculo.net.tcp import TcpSocket, limit_stall, local_url
from tentaculo.security.sign_in import network_of

QUEUE_EMPTY_FOR = 0.05
"""Seconds for which a queue must be empty: handshakes that had begun may still end."""
QUEUE_LONGEST = 1.0
"""Seconds after which a queue is given up."""
_POLL = 0.005
_TCP_INFO = 11
_UNACKED = struct.Struct("=24xI")
"""Of `struct tcp_info`: for a listening socket, the connections that wait in its queue."""
_SO_ATTACH_FILTER = 26
# Classic BPF over the TCP header: load the flags, drop what has SYN, keep the rest. Clients that are refused in this way
# try again after a second and meet a closed port, or the process that listens then.
_NO_SYN = (
    struct.pack("=HBBI", 0x30, 0, 0, 13)
    + struct.pack("=HBBI", 0x45, 0, 1, 0x02)
    + struct.pack("=HBBI", 0x06, 0, 0, 0)
    + struct.pack("=HBBI", 0x06, 0, 0, 0xFFFFFFFF)
)


def queued(sock: TcpSocket) -> int:
    """How many connections wait in the queue of a listening socket; 0 where that is not known."""
    if sys.platform != "linux":
        return 0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _UNACKED.size)
        (count,) = _UNACKED.unpack(info)
    except (OSError, struct.error):
        return 0
    return int(count)


def refuse_new(sock: TcpSocket) -> bool:
    """Let no new handshake begin at a listening socket; those under way end, and connections are not touched.

    Returns whether the system allows it. Some kernels require CAP_NET_ADMIN, and some sandboxes forbid it: the queue is
    emptied as it fills then.
    """
    if sys.platform != "linux":
        return False
    import ctypes

    program = ctypes.create_string_buffer(_NO_SYN)
    header = struct.pack("@HP", len(_NO_SYN) // 8, ctypes.addressof(program))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
    except OSError:
        return False
    return True


async def empty_queues(sockets: Iterable[TcpSocket]) -> None:
    """Let no new connection begin at `sockets`, and wait until those that wait have been accepted.

    The caller, or the processes that share the sockets, continue to accept meanwhile. Returns after `QUEUE_LONGEST` seconds at
    the latest.
    """
    listening = list(sockets)
    for sock in listening:
        refuse_new(sock)
    loop = asyncio.get_running_loop()
    last = loop.time()
    end = last + QUEUE_LONGEST
    while (now := loop.time()) < end:
        if any(queued(sock) for sock in listening):
            last = now
        elif now - last >= QUEUE_EMPTY_FOR:
            return
        await asyncio.sleep(_POLL)


log = structlog.get_logger(__name__)

BACKLOG = 4096
"""Connections that the kernel keeps while the gateway is busy."""


class ListeningAddresses(msgspec.Struct, frozen=True):
    """Where a running gateway listens."""

    addresses: tuple[tuple[str, int], ...]
    """Host and port of each listening socket."""

    @property
    def url(self) -> str:
        """The URL of the first socket, for programs on this machine."""
        return local_url(*self.addresses[0])


class CannotListenError(OSError):
    """An address cannot be listened on; `address` says which, `strerror` why."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        # The event loop adds text to strerror. A negative number comes from name resolution and is no errno.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
        super().__init__(error.errno, reason)
        self.address = format_address(host, port)


class Listeners:
    """Open listening sockets."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._is_shared = False
        self._adopted: dict[int, list[asyncio.Server]] = {}
        self._factory: Callable[[], asyncio.BaseProtocol] | None = None

    def __repr__(self) -> str:
        return f"<Listeners: {', '.join(f'{host}:{port}' for host, port in self.bound)}>"

    async def open(
        self,
        factory: Callable[[], asyncio.BaseProtocol],
        where: Sequence[tuple[str, int]],
        opened: Sequence[socket.socket] = (),
        *,
        is_shared: bool = False,
    ) -> None:
        """Listen on every address. Raises `CannotListenError` for the first that fails, and closes the others.

        With `opened`, sockets that listen already, `where` is not looked at. `is_shared` is whether other processes have
        them too, and accept what waits in their queues when this one stops.
        """
        loop = asyncio.get_running_loop()
        self._is_shared = is_shared
        self._factory = factory
        for sock in opened:
            self._servers.append(await loop.create_server(factory, sock=sock, backlog=BACKLOG))
        for host, port in () if opened else where:
            try:
                server = await loop.create_server(factory, host, port, backlog=BACKLOG)
            except OSError as error:
                await self.close()
                raise CannotListenError(host, port, error) from error
            self._servers.append(server)

    @property
    def sockets(self) -> Iterator[TcpSocket]:
        """The listening sockets. Accepted connections inherit their options."""
        return (sock for server in self._servers for sock in server.sockets)

    def limit_stall(self, seconds: float) -> None:
        """Have connections that are accepted from now on end when their client reads nothing for so long."""
        for sock in self.sockets:
            limit_stall(sock, seconds)

    @property
    def bound(self) -> list[tuple[str, int]]:
        """The addresses in use, with the ports that the kernel chose."""
        names = [sock.getsockname() for sock in self.sockets]
        return [(str(name[0]), int(name[1])) for name in names]

    async def adopt(self, worker: int, sockets: Sequence[socket.socket]) -> None:
        """Accept at the sockets of another worker too, until `release`. Raises `OSError`, and accepts at none of them then."""
        factory = self._factory
        if worker in self._adopted or factory is None:
            return
        loop, servers = asyncio.get_running_loop(), list[asyncio.Server]()
        self._adopted[worker] = servers
        try:
            for sock in sockets:
                servers.append(await loop.create_server(factory, sock=sock.dup(), backlog=BACKLOG))
        except OSError:
            self.release(worker)
            raise
        finally:
            if self._adopted.get(worker) is not servers:
                _close(servers)  # released meanwhile

    def release(self, worker: int) -> None:
        """Accept no more at the sockets of another worker. Its connections that were accepted here stay open."""
        _close(self._adopted.pop(worker, []))

    async def stop(self, kept: Container[tuple[str, int]] = ()) -> None:
        """As `close`, once every connection that waits has been accepted. Where others share the sockets, they accept.

        `kept` are the addresses at which a successor listens.
        """
        if not self._is_shared:
            await empty_queues(sock for sock in self.sockets if sock.getsockname()[:2] not in kept)
        await self.close()

    async def close(self) -> None:
        """Accept no new connection, and adopt no further socket. Open connections stay open."""
        self._factory = None
        _close(self._servers)
        self._servers.clear()
        for worker in list(self._adopted):
            self.release(worker)


def _close(servers: Iterable[asyncio.Server]) -> None:
    for server in servers:
        server.close()


def format_address(host: str, port: int) -> str:
    """The address in the form that URLs and the configuration use."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Phase(Enum):
    """The phase of the process."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


_MOST_RESERVED = 256
"""File descriptors reserved for files, the database and probes; at most a quarter of all."""
MOST_LINGERING = 64
"""Refused connections that stay open for a moment, and at most a quarter of the reserve, which they take."""
_FEW = 1000
"""Client connections below which the limit of descriptors is worth a warning."""


class ConnectionLimits:
    """Counts client connections. 0 means no limit for one address, and for all connections what the descriptors allow.

    More than the descriptors allow is never accepted: each proxied connection takes two, its client's and its upstream's.
    Of IPv6 a network of 64 bits counts as one address, since a customer has at least that.
    """

    def __init__(self, connections: int, per_address: int) -> None:
        self.use(connections, per_address)
        self._addresses: Counter[str] = Counter()
        self._ending: Counter[str] = Counter()
        self._all_ending = 0
        self._is_full = False
        self.open = 0
        """Connections now."""
        self.lingering = 0
        """Refused connections that stay open until their clients have received the refusal."""

    def __repr__(self) -> str:
        return f"<ConnectionLimits: {self.open} of {self._limit} connections>"

    def use(self, connections: int, per_address: int) -> None:
        """Have these limits from now on. Connections that are open stay."""
        allowed = connections_within(_descriptors())
        self._limit = min(connections or allowed, allowed)
        self._most_lingering = min(MOST_LINGERING, _reserved(_descriptors()) // 4)
        self._per_address = per_address

    def enter(self, address: str) -> bool:
        """Count a connection from `address` and return True, or return False over a limit. Call `leave` at its end."""
        if self.open >= self._limit:
            self._note_full()
            return False
        address = _counted_as(address)
        if self._per_address and self._addresses[address] >= self._per_address:
            return False
        # Counted without a limit too: a reload may bring one.
        self._addresses[address] += 1
        self.open += 1
        return True

    def may_linger(self) -> bool:
        """Whether one more refused connection may stay open for a moment; it is counted in `lingering` then."""
        if self.lingering >= self._most_lingering:
            return False
        self.lingering += 1
        return True

    def is_crowded(self, address: str) -> bool:
        """Whether more than half of all connections, or of those that `address` may have, are in use.

        Those that are being closed count as gone: else one that is too slow would be cut with each that makes room.
        """
        if (self.open - self._all_ending) * 2 > self._limit:
            return True
        address = _counted_as(address)
        return self._per_address > 0 and (self._addresses[address] - self._ending[address]) * 2 > self._per_address

    def note_ending(self, address: str) -> None:
        """A counted connection from `address` is being closed. Call `leave` with `was_ending` at its end."""
        address = _counted_as(address)
        self._ending[address] += 1
        self._all_ending += 1

    def leave(self, address: str, *, was_ending: bool = False) -> None:
        """A counted connection from `address` has ended."""
        address = _counted_as(address)
        if was_ending:
            self._all_ending -= 1
            self._ending[address] -= 1
            if not self._ending[address]:
                del self._ending[address]
        self.open -= 1
        if self.open * 2 <= self._limit:
            self._is_full = False
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]

    def _note_full(self) -> None:
        """Log the first refusal, and the next one only after half of the connections have ended."""
        if not self._is_full:
            self._is_full = True
            log.warning("connection limit reached", connections=self._limit, descriptors=_descriptors())


def _counted_as(address: str) -> str:
    return network_of(address) if ":" in address else address


def connections_within(descriptors: int) -> int:
    """The client connections for which so many descriptors are enough, each with a connection to a service."""
    return max(1, (descriptors - _reserved(descriptors)) // 2)


def _reserved(descriptors: int) -> int:
    return min(_MOST_RESERVED, descriptors // 4)


def connection_limit(connections: int) -> tuple[int, str]:
    """The client connections that one process of this machine may have, and a warning if that is few; else "".

    `connections` is `limits.connections`.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = _count_of(hard)
    allowed = connections_within(descriptors)
    if connections > allowed:
        words = (
            f"limits.connections is {connections}, but {descriptors} file descriptors are enough for {allowed} client"
            " connections: raise the limit of the process (ulimit -n)"
        )
    elif not connections and allowed < _FEW:
        words = (
            f"{descriptors} file descriptors are enough for {allowed} client connections only: raise the limit of the"
            " process (ulimit -n)"
        )
    else:
        words = ""
    return min(connections or allowed, allowed), words


def raise_descriptor_limit() -> None:
    """Raise the soft limit of descriptors, often 1,024, to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _count_of(soft)


def _count_of(limit: int) -> int:
    return limit if limit != resource.RLIM_INFINITY else 1_000_000


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def ignore_hangup() -> None:
    """SIGHUP changes nothing in a process that has no configuration to read again, or whose supervisor has it."""
    log.info("hangup ignored", hint="Send it to the supervisor. The demonstration has no configuration to reload.")
