"""Options of TCP sockets that both sides of the gateway set, and where one that listens is reached."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import suppress
from typing import Protocol

IDLE, INTERVAL, COUNT = 60, 15, 4
"""Seconds of silence before the kernel asks whether the peer still is, seconds between two asks, and asks in vain."""


class TcpSocket(Protocol):
    """A TCP socket, as the event loop shows those that it holds."""

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """Set one option."""


def keep_alive(sock: TcpSocket) -> None:
    """Have the kernel find out a peer that vanished without a word; without this a half-open tunnel stays for ever.

    Connections that a listening socket accepts inherit this, and it costs nothing for each.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, COUNT)


def limit_stall(sock: TcpSocket, seconds: float) -> None:
    """Have the kernel end the connection once its peer has taken nothing of what waits for it for `seconds`.

    Nothing else finds that out: a peer that does not read answers every probe, and neither a transport that is closed
    with bytes unsent nor one whose other side waits for it ever ends by itself. Inherited as well.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(seconds * 1000)))


def reset(transport: asyncio.Transport) -> None:
    """End the connection by a reset: where its end is the body's end, anything gentler would make a cut body whole.

    What the peer's kernel has not taken yet is lost.
    """
    sock = tcp(transport)
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def unread(transport: asyncio.BaseTransport, most: int) -> bytes:
    """What the peer had sent before the connection was lost, and nobody has read; about `most` bytes of it.

    A server that answers early and closes with the rest of a request unread resets the connection. The write that
    meets the reset ends the transport, although the answer has arrived and the kernel still has it.
    """
    sock = tcp(transport)
    if sock is None or transport.get_extra_info("ssl_object") is not None:
        return b""
    found = b""
    with suppress(OSError):  # BlockingIOError among them: nothing more is there
        while len(found) < most and (data := os.read(sock.fileno(), most)):
            found += data
    return found


def tcp(transport: asyncio.BaseTransport) -> socket.socket | None:
    """The socket of a transport; None where it is no TCP socket."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    return sock if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6) else None


def local_url(host: str, port: int) -> str:
    """Where what listens on `host` and `port` is reached from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not listened on
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
