"""The listening sockets: where the configuration says, all or none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tentaculo.net.tcp import TcpSocket, local_url

BACKLOG = 4096
"""Connections that the kernel keeps while the gateway is busy."""


@dataclass(frozen=True, slots=True)
class ListeningAddresses:
    """A gateway that takes requests."""

    addresses: tuple[tuple[str, int], ...]
    """What it listens on, host and port."""

    @property
    def url(self) -> str:
        """Where to reach it from this machine."""
        return local_url(*self.addresses[0])


class CannotListenError(OSError):
    """An address cannot be listened on; `address` says which, `strerror` why."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        # The event loop words its own sentence around an errno; one below zero is a name's look-up, and no errno.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
        super().__init__(error.errno, reason)
        self.address = format_address(host, port)


class Listeners:
    """Open listening sockets."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []

    def __repr__(self) -> str:
        return f"<Listeners: {', '.join(f'{host}:{port}' for host, port in self.bound)}>"

    async def open(
        self, factory: Callable[[], asyncio.BaseProtocol], where: Sequence[tuple[str, int]], *, share: bool = False
    ) -> None:
        """Listen on every address. Raises `CannotListenError` for the first that fails, and closes the others.

        `share` lets other processes of the same user listen there too, each connection going to one of them; a taken
        port then shows only where its owner does not share it.
        """
        loop = asyncio.get_running_loop()
        for host, port in where:
            try:
                server = await loop.create_server(factory, host, port, backlog=BACKLOG, reuse_port=share)
            except OSError as error:
                await self.close()
                raise CannotListenError(host, port, error) from error
            self._servers.append(server)

    @property
    def sockets(self) -> Iterator[TcpSocket]:
        """What is listened on: connections that are accepted inherit its options."""
        return (sock for server in self._servers for sock in server.sockets)

    @property
    def bound(self) -> list[tuple[str, int]]:
        """The addresses as they came out, with the ports that the kernel chose."""
        names = [socket.getsockname() for server in self._servers for socket in server.sockets]
        return [(str(name[0]), int(name[1])) for name in names]

    async def close(self) -> None:
        """Take no new connection; those that stand are not touched."""
        for server in self._servers:
            server.close()
        self._servers.clear()


def format_address(host: str, port: int) -> str:
    """An address as it stands in a URL and in the configuration."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
