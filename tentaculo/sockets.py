"""Options of TCP sockets that both sides of the gateway set."""

from __future__ import annotations

import asyncio
import socket

IDLE, INTERVAL, COUNT = 60, 15, 4
"""Seconds of silence before the kernel asks whether the peer still is, seconds between two asks, and asks in vain."""


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Have the kernel find out a peer that vanished without a word; without this a half-open tunnel stays for ever."""
    sock = _tcp(transport)
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, COUNT)


def limit_stall(transport: asyncio.BaseTransport, seconds: float) -> None:
    """Have the kernel end the connection once its peer has taken nothing of what waits for it for `seconds`.

    Nothing else finds that out: a peer that does not read answers every probe, and neither a transport that is closed
    with bytes unsent nor one whose other side waits for it ever ends by itself.
    """
    sock = _tcp(transport)
    if sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(seconds * 1000)))


def _tcp(transport: asyncio.BaseTransport) -> socket.socket | None:
    sock: socket.socket | None = transport.get_extra_info("socket")
    return sock if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6) else None
