"""Listening sockets that the workers inherit: each has its own, and the supervisor keeps them all open.

The kernel shares new connections out among the sockets of a port (SO_REUSEPORT). What waits at a socket would be lost
with it; so a socket outlives its worker, and the other workers accept there until a successor does.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tentaculo.server.listeners import BACKLOG, CannotListenError

HostPort = tuple[str, int]
Sockets = Sequence[Sequence[socket.socket]]
"""For each worker, in order: its sockets, one for each address."""


@contextmanager
def open_sockets(where: Sequence[HostPort], workers: int) -> Iterator[Sockets]:
    """Listen on every address of `where` once for each worker, while the context is open.

    A name may have several addresses. Raises `CannotListenError` for the first address that cannot be had.
    """
    with ExitStack() as held:
        found: list[list[socket.socket]] = [[] for _ in range(workers)]
        for host, port in where:
            try:
                for family, kind, protocol, _, address in socket.getaddrinfo(
                    host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                ):
                    first = held.enter_context(socket.socket(family, kind, protocol))
                    _reserve(first, address)
                    found[0].append(first)
                    for others in found[1:]:
                        sock = held.enter_context(socket.socket(family, kind, protocol))
                        _bind_beside(sock, first)
                        others.append(sock)
                for sockets in found:
                    for sock in sockets:
                        sock.setblocking(False)
                        sock.listen(BACKLOG)
            except OSError as error:
                raise CannotListenError(host, port, error) from error
        yield found


def _reserve(sock: socket.socket, address: tuple[object, ...]) -> None:
    """Bind alone, which fails if someone listens there, and only then let this user's other sockets bind as well."""
    if sock.family == socket.AF_INET6:
        # As the event loop binds it: "::" is IPv6 alone.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    # Past what an earlier process's connections left behind; afterwards it would let others bind as well.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _bind_beside(sock: socket.socket, first: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(first.getsockname())
