"""Options of TCP sockets that both sides of the gateway set."""

from __future__ import annotations

import asyncio
import socket

IDLE, INTERVAL, COUNT = 60, 15, 4
"""Seconds of silence before the kernel asks whether the peer still is, seconds between two asks, and asks in vain."""


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Have the kernel find out a peer that vanished without a word; without this a half-open tunnel stays for ever."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, COUNT)
