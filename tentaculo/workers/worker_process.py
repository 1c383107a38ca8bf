"""One worker as the supervisor runs it: its specification, its listening sockets, and when it is restarted."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tentaculo.config.accepted_tokens import TokenSettings
from tentaculo.config.schema import Config
from tentaculo.server.listeners import BACKLOG, CannotListenError


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """The configuration as the supervisor read it. Workers that are started later receive the same, even if the file has changed."""

    config: Config
    hashes: tuple[TokenSettings | str, ...]
    """The accepted tokens."""
    name: str
    """The gateway recognises its own requests by it, whichever worker sent them."""
    sockets: tuple[tuple[int, ...], ...] = ()
    """Descriptors of each worker's listening sockets. Every worker inherits all of them."""

    @property
    def workers(self) -> int:
        """The number of workers."""
        return self.config.server.workers

    def write(self) -> int:
        """Write it into memory and return the descriptor, for workers to read. It has secrets, so no file contains it."""
        descriptor = os.memfd_create("tentaculo-worker-spec")
        with open(descriptor, "wb", closefd=False) as file:
            pickle.dump(self, file)
        return descriptor

    @classmethod
    def read(cls, descriptor: int) -> WorkerSpec:
        """The specification that another process has written. Several processes may read it at once."""
        text = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        spec = pickle.loads(text)  # noqa: S301 - written by the supervisor, into memory that only its children have
        assert isinstance(spec, cls)
        return spec


HostPort = tuple[str, int]
Sockets = Sequence[Sequence[socket.socket]]
"""For each worker, in order: its sockets, one for each address."""


@contextmanager
def open_sockets(where: Sequence[HostPort], workers: int) -> Iterator[Sockets]:
    """Listen on every address of `where` once for each worker, while the context is open.

    A name may have several addresses. Raises `CannotListenError` for the first address that fails.
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
    """Bind alone, which fails if another process listens there. Then let other sockets of this user bind as well."""
    if sock.family == socket.AF_INET6:
        # As the event loop binds it: "::" is IPv6 alone.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    # Ignores connections that an earlier process left in TIME_WAIT. Left on, it would let others bind as well.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _bind_beside(sock: socket.socket, first: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(first.getsockname())


LASTING = 10.0
"""Seconds of service after which the end of a worker does not count as one more failure in a row."""
LAST_PAUSE = 30.0
"""Seconds between two starts at most."""
ATTEMPTS = 3
"""Workers in a row that may end before they accept requests. After that none is started."""


class RestartPolicy:
    """When a worker that has ended is restarted. Pure.

    After the first failure it is restarted at once. Each further failure in a row doubles the pause, from one second to
    `LAST_PAUSE`, so that a worker that always ends at once takes little CPU time from the others.
    """

    def __init__(self) -> None:
        self._failures = 0
        self.false_starts = 0
        """Workers in a row that ended before they accepted requests."""

    def __repr__(self) -> str:
        return f"<RestartPolicy: {self._failures} failures in a row, {self.false_starts} of them before it accepted requests>"

    @property
    def is_hopeless(self) -> bool:
        """Whether `ATTEMPTS` workers in a row ended before they accepted requests."""
        return self.false_starts >= ATTEMPTS

    def pause(self, lived: float, *, was_ready: bool, was_stopped: bool) -> float:
        """Seconds until the next worker is started.

        `lived` is for how many seconds the worker accepted requests; `was_stopped` is whether a signal stopped it.
        """
        self.false_starts = 0 if was_ready else self.false_starts + 1
        if was_ready and (was_stopped or lived >= LASTING):
            self._failures = 0
            if was_stopped:
                return 0.0
        self._failures += 1
        return 0.0 if self._failures == 1 else min(2.0 ** (self._failures - 2), LAST_PAUSE)
