"""The socket of a service manager, as systemd gives one to a service, and what it has received."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


class Manager:
    """A service manager that only listens."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        self._sock = sock
        self._reports: list[dict[str, str]] = []
        self.address = address

    @property
    def reports(self) -> list[dict[str, str]]:
        """Each report as its variables, in the order in which they came."""
        while True:
            try:
                report = self._sock.recv(65536).decode()
            except BlockingIOError:
                return self._reports
            self._reports.append(dict(line.split("=", 1) for line in report.split("\n")))

    @property
    def states(self) -> list[str]:
        """What each report says first: READY, RELOADING or STOPPING."""
        return [next(iter(report)) for report in self.reports]


@contextmanager
def service_manager(name: str | None = None) -> Iterator[Manager]:
    """A manager that listens at a path, or at `name` in the abstract namespace."""
    with TemporaryDirectory(prefix="tentaculo-") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        address = str(Path(folder, "notify")) if name is None else f"@{name}"
        sock.bind(address.replace("@", "\0", 1))
        sock.setblocking(False)
        yield Manager(sock, address)
