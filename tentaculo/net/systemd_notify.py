"""What the gateway reports to the service manager that started it: ready, reloading, stopping (sd_notify(3)).

systemd gives the address of its socket in `NOTIFY_SOCKET` to a service with `Type=notify` or `Type=notify-reload`. Each
report is one datagram. Without an address there is nobody to report to, and nothing is sent.
"""

from __future__ import annotations

import socket
import time

import structlog

log = structlog.get_logger(__name__)

MOST_STATUS = 200
"""Characters of a status at most."""


class ServiceManager:
    """The service manager of this process. No method waits, and none fails: a report that is lost is logged."""

    def __init__(self, address: str | None = None) -> None:
        """`address` is a path, or a name after `@` in the abstract namespace. Others, such as `vsock:`, are ignored."""
        self.address = address if address and address.startswith(("/", "@")) else None
        """Where reports go; None where nobody takes them."""

    def __repr__(self) -> str:
        return f"<ServiceManager: {self.address or 'none'}>"

    def ready(self, status: str = "") -> None:
        """The start or the reload is over. `status` is one line about the gateway for `systemctl status`."""
        self._send("READY=1", *_status(status))

    def reloading(self) -> None:
        """A reload begins. `ready` is due when it is over, also where it changed nothing."""
        # By the time the manager knows to which of its orders to reload this is the response.
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The stop has begun."""
        self._send("STOPPING=1")

    def replaced(self, pid: int) -> None:
        """Another process, which has the same address, is the gateway from now on."""
        self._send(f"MAINPID={pid}")

    def _send(self, *lines: str) -> None:
        if self.address is None:
            return
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warning("service manager not notified", report=lines[0], reason=error.strerror or str(error))


def _status(text: str) -> list[str]:
    line = "".join(character if character.isprintable() else " " for character in text)[:MOST_STATUS]
    return [f"STATUS={line}"] if line else []
