"""Opens the listening sockets of all workers, or takes them from the service manager or from the predecessor.

A socket that is passed from process to process never closes, so that no connection in its queue is lost.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import msgspec

from tentaculo.server.listeners import BACKLOG, CannotListenError

HostPort = tuple[str, int]
Sockets = Sequence[Sequence[socket.socket]]
"""For each worker, in order: its listening sockets."""


class UnusableSocketError(ValueError):
    """An inherited descriptor is no listening TCP socket. The text is for the operator."""


class InheritedSockets(msgspec.Struct, frozen=True):
    """Listening sockets that were open before this process."""

    sockets: tuple[socket.socket, ...] = ()
    is_activated: bool = False
    """Whether they are the service manager's. They then replace the addresses of the configuration, and stay open when
    the gateway stops."""

    @classmethod
    def activated(cls, descriptors: Sequence[int]) -> InheritedSockets:
        """The sockets of a service manager (sd_listen_fds(3)). Raises `UnusableSocketError`."""
        return cls(tuple(_listening(descriptor) for descriptor in descriptors), is_activated=bool(descriptors))

    def at(self, family: int, address: tuple[object, ...]) -> list[socket.socket]:
        """Those that listen at `address`, as `getaddrinfo` gives it. Port 0 stands for any port of the host."""
        host, port = address[:2]
        return [
            sock
            for sock in self.sockets
            if sock.family == family and sock.getsockname()[0] == host and port in (0, sock.getsockname()[1])
        ]

    def close(self) -> None:
        """Close them in this process."""
        for sock in self.sockets:
            sock.close()


def _listening(descriptor: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise UnusableSocketError(f"the inherited descriptor {descriptor} is no socket: {error.strerror}") from error
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or not sock.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    ):
        sock.close()
        raise UnusableSocketError(f"the inherited socket {descriptor} does not listen for TCP connections")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


@contextmanager
def open_sockets(
    where: Sequence[HostPort], workers: int, inherited: InheritedSockets | None = None
) -> Iterator[Sockets]:
    """Listen on every address of `where` for each worker, while the context is open.

    `inherited` sockets are used where they listen already. If there are fewer of them than workers, several workers share
    one; if there are more, a worker has several. Those at other addresses are closed. A name may have several addresses.
    Raises `CannotListenError` for the first address that fails.
    """
    inherited = inherited or InheritedSockets()
    with ExitStack() as held:
        found: list[list[socket.socket]] = [[] for _ in range(workers)]
        held.callback(inherited.close)
        if inherited.is_activated:
            for address in dict.fromkeys(sock.getsockname() for sock in inherited.sockets):
                _share([sock for sock in inherited.sockets if sock.getsockname() == address], found, held)
            yield found
            return
        used: set[socket.socket] = set()
        for host, port in where:
            try:
                for family, kind, protocol, _, address in socket.getaddrinfo(
                    host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                ):
                    present = inherited.at(family, address)
                    if present:
                        _share([sock for sock in present if sock not in used], found, held)
                        used.update(present)
                    else:
                        _open(family, kind, protocol, address, found, held)
            except OSError as error:
                raise CannotListenError(host, port, error) from error
        for sock in inherited.sockets:
            if sock not in used:
                sock.close()
        yield found


def _share(sockets: Sequence[socket.socket], found: list[list[socket.socket]], held: ExitStack) -> None:
    """Give each worker its part of `sockets`, each of which is given to at least one."""
    for number in range(max(len(sockets), len(found)) if sockets else 0):
        found[number % len(found)].append(held.enter_context(sockets[number % len(sockets)].dup()))


def _open(
    family: int,
    kind: int,
    protocol: int,
    address: tuple[object, ...],
    found: list[list[socket.socket]],
    held: ExitStack,
) -> None:
    """Listen at `address` once for each worker."""
    first = held.enter_context(socket.socket(family, kind, protocol))
    _reserve(first, address)
    opened = [first]
    for _ in found[1:]:
        sock = held.enter_context(socket.socket(family, kind, protocol))
        _bind_beside(sock, first)
        opened.append(sock)
    for sock, sockets in zip(opened, found, strict=True):
        sock.setblocking(False)
        sock.listen(BACKLOG)
        # A connection has this from the socket that accepts it: left in TIME_WAIT, it does not keep a restart from binding.
        # Nobody else can bind beside a socket that listens.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sockets.append(sock)


def _reserve(sock: socket.socket, address: tuple[object, ...]) -> None:
    """Bind alone, which fails if another process listens there. Then let other sockets of this user bind as well."""
    if sock.family == socket.AF_INET6:
        # As the event loop binds it: "::" is IPv6 alone.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    _bind(sock, address)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _bind_beside(sock: socket.socket, first: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    _bind(sock, first.getsockname())


def _bind(sock: socket.socket, address: tuple[object, ...]) -> None:
    # Ignores connections that an earlier process left in TIME_WAIT. Left on, it would let others bind until we listen.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
