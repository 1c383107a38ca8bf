"""Hands the listening sockets to a successor process, which may be of a new version.

The predecessor starts its own command line once more and sends the sockets through a channel that only the two have:

predecessor → successor: the sockets; then that the lead is released
successor → predecessor: that it accepts connections, and at which of the sockets

The predecessor continues as before until the successor is ready. If the successor ends before that, nothing has changed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

import msgspec
import structlog

from tentaculo.config.environment import HANDOVER, with_notification_socket
from tentaculo.net.systemd_notify import ServiceManager
from tentaculo.server.listening_sockets import HostPort, InheritedSockets

log = structlog.get_logger(__name__)

READY_WITHIN = 120.0
"""Seconds that a successor may take until it accepts connections."""
_RECEIVE_WITHIN = 10.0
_LONGEST = 64 * 1024
_MOST_DESCRIPTORS = 128
"""Descriptors in one message. The kernel takes 253."""
_LEAD_RELEASED = b"lead released"


class HandoverFailed(Exception):  # noqa: N818 - its text is shown to the operator
    """The successor did not take over. The text is the reason."""


class Predecessor:
    """The process that this one succeeds."""

    def __init__(self, descriptor: int) -> None:
        """Receive the listening sockets through the channel `descriptor`. Raises `HandoverFailed`."""
        try:
            self._channel = socket.socket(fileno=descriptor)
        except OSError as error:
            raise HandoverFailed(f"the channel to the predecessor is no socket: {error.strerror}") from error
        try:
            self._channel.set_inheritable(False)
            self._channel.settimeout(_RECEIVE_WITHIN)
            self.inherited = self._receive()
        except (OSError, LookupError, TypeError, ValueError) as error:
            self._channel.close()
            raise HandoverFailed(f"the listening sockets of the predecessor have not arrived: {error}") from error
        self._channel.setblocking(False)

    def __repr__(self) -> str:
        return f"<Predecessor: {len(self.inherited.sockets)} sockets>"

    def _receive(self) -> InheritedSockets:
        sockets: list[socket.socket] = []
        while True:
            text, descriptors, _, _ = socket.recv_fds(self._channel, _LONGEST, _MOST_DESCRIPTORS)
            sockets += (socket.socket(fileno=descriptor) for descriptor in descriptors)
            head = json.loads(text)
            if len(sockets) == head["sockets"]:
                break
        for sock in sockets:
            sock.setblocking(False)
        return InheritedSockets(tuple(sockets), is_activated=head["activated"])

    def report_ready(self, addresses: Collection[HostPort]) -> None:
        """Report that this process accepts connections at `addresses`; the predecessor accepts no more from now on."""
        with suppress(OSError):
            self._channel.send(json.dumps(sorted(addresses)).encode())

    async def lead_released(self) -> None:
        """Until the predecessor probes and alerts no more, or has ended."""
        with suppress(OSError):
            await asyncio.get_running_loop().sock_recv(self._channel, _LONGEST)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


class Successor:
    """The process that succeeds this one."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        sockets: Sequence[socket.socket],
        *,
        is_activated: bool,
    ) -> None:
        """Start `command` and send it `sockets`. Raises `OSError` where it cannot be started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - the command line of this very process
                    command,
                    env={**environment, HANDOVER: str(theirs.fileno())},
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                )
            except OSError:
                ours.close()
                raise
        self._channel = ours
        self._sockets = sockets
        self._head = json.dumps({"sockets": len(sockets), "activated": is_activated}).encode()
        ours.setblocking(False)

    def __repr__(self) -> str:
        return f"<Successor {self.pid}>"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def ready(self) -> frozenset[HostPort]:
        """Until it accepts connections; returns the addresses at which it does. Raises `HandoverFailed`."""
        try:
            for start in range(0, len(self._sockets), _MOST_DESCRIPTORS):
                part = [sock.fileno() for sock in self._sockets[start : start + _MOST_DESCRIPTORS]]
                socket.send_fds(self._channel, [self._head], part)
            async with asyncio.timeout(READY_WITHIN):
                text = await asyncio.get_running_loop().sock_recv(self._channel, _LONGEST)
        except TimeoutError as error:
            raise HandoverFailed(f"it was not ready within {READY_WITHIN:g} s") from error
        except OSError as error:
            raise HandoverFailed(await self._how_it_ended() or "it closed its channel") from error
        if not text:
            raise HandoverFailed(await self._how_it_ended() or "it closed its channel")
        try:
            return frozenset((str(host), int(port)) for host, port in json.loads(text))
        except (TypeError, ValueError) as error:
            raise HandoverFailed("it reported something else than the addresses at which it listens") from error

    def request_reload(self) -> None:
        """Have it reload its configuration soon."""
        self._process.send_signal(signal.SIGHUP)

    def release_lead(self) -> None:
        """Report that this process probes and alerts no more. A second call does nothing."""
        with suppress(OSError):
            self._channel.send(_LEAD_RELEASED)
        self._channel.close()

    async def end(self) -> None:
        """End it: it is not to take over. Waits until it has ended."""
        self._channel.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(number)
                await self._wait(5.0)

    async def _how_it_ended(self) -> str | None:
        await self._wait(1.0)
        code = self._process.poll()
        if code is None:
            return None
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return f"it ended with {how} before it accepted connections; its own output says why"

    async def _wait(self, most: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, most)


class Handover:
    """Replaces this process by a successor. One replacement runs at a time."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        manager: ServiceManager,
        *,
        is_activated: bool,
    ) -> None:
        """`command` and `environment` start a successor, which `manager` learns of. `is_activated` is as in `InheritedSockets`."""
        self._manager = manager
        self._command = command
        self._environment = environment
        self.is_activated = is_activated
        """Whether the listening sockets are a service manager's."""
        self._is_under_way = False
        self.successor: Successor | None = None
        """The process that has taken over; None before."""
        self.kept: frozenset[HostPort] = frozenset()
        """The addresses at which it listens."""

    def __repr__(self) -> str:
        return f"<Handover: {self.successor or 'none'}>"

    async def run(self, sockets: Sequence[socket.socket]) -> bool:
        """Start a successor and wait until it is ready. Returns whether it has taken over; the log says why not."""
        if self._is_under_way or self.successor is not None:
            log.warning("successor not started", reason="a successor has been started already")
            return False
        if os.getpid() == 1:
            log.warning(
                "successor not started",
                reason="this is the first process of a container, which ends with it: start a new container",
            )
            return False
        self._is_under_way = True
        try:
            return await self._run(sockets)
        finally:
            self._is_under_way = False

    async def _run(self, sockets: Sequence[socket.socket]) -> bool:
        try:
            environment = with_notification_socket(self._environment, self._manager.address)
            successor = Successor(self._command, environment, sockets, is_activated=self.is_activated)
        except OSError as error:
            log.warning("successor not started", reason=error.strerror)
            return False
        log.info("successor started", pid=successor.pid)
        try:
            self.kept = await successor.ready()
        except HandoverFailed as error:
            log.error("successor failed", pid=successor.pid, reason=str(error))
            await successor.end()
            return False
        except asyncio.CancelledError:
            await successor.end()
            raise
        self.successor = successor
        self._manager.replaced(successor.pid)
        log.info("successor ready", pid=successor.pid)
        return True


class ProcessContext(msgspec.Struct, frozen=True):
    """What the process of a gateway has from others, and how it is replaced."""

    manager: ServiceManager = msgspec.field(default_factory=ServiceManager)
    handover: Handover | None = None
    """None for a process that cannot be replaced."""
    predecessor: Predecessor | None = None
    """The process that this one replaces."""
    inherited: InheritedSockets = msgspec.field(default_factory=InheritedSockets)
