"""Ports for processes that share them: found free and held by the supervisor, listened on by the workers."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tentaculo.server.listeners import CannotListenError

HostPort = tuple[str, int]


@contextmanager
def reserve_ports(where: Sequence[HostPort]) -> Iterator[tuple[HostPort, ...]]:
    """Hold every address of `where` from entering to leaving; gives them as they came out, numeric and without 0.

    SO_REUSEPORT hides that somebody else listens already. So each address is bound without it, which fails then, and
    the option is set on the bound socket: from that moment on this user's processes may listen there, and no other
    gateway may, whether it means to share or not. The sockets here never listen, so that no connection comes to them.

    Raises `CannotListenError` for the first address that is not to be had.
    """
    with ExitStack() as held:
        found = []
        for host, port in where:
            try:
                for family, kind, protocol, _, address in socket.getaddrinfo(
                    host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                ):
                    sock = held.enter_context(socket.socket(family, kind, protocol))
                    _hold(sock, address)
                    name = sock.getsockname()
                    found.append((str(name[0]), int(name[1])))
            except OSError as error:
                raise CannotListenError(host, port, error) from error
        yield tuple(found)


def _hold(sock: socket.socket, address: tuple[object, ...]) -> None:
    if sock.family == socket.AF_INET6:
        # As the event loop binds it: "::" is IPv6 alone.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    # Past what an earlier process's connections left behind; afterwards it would let others bind as well.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
