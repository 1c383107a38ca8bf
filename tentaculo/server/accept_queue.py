"""Connections that the kernel has accepted and the process has not: they are lost when a listening socket closes.

Linux only; elsewhere nothing is known of the queue, and it counts as empty.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress

from tentaculo.net.tcp import TcpSocket

EMPTY_FOR = 0.05
"""Seconds for which a queue must be empty: handshakes that had begun may still end."""
LONGEST = 1.0
"""Seconds after which a queue is given up."""
_POLL = 0.005
_TCP_INFO = 11
_UNACKED = struct.Struct("=24xI")
"""Of `struct tcp_info`: for a listening socket, the connections that wait in its queue."""
_SO_ATTACH_FILTER = 26
# Classic BPF over the TCP header: load the flags, drop what has SYN, keep the rest. Clients that are refused in this way
# try again after a second and meet a closed port, or the process that listens then.
_NO_SYN = (
    struct.pack("=HBBI", 0x30, 0, 0, 13)
    + struct.pack("=HBBI", 0x45, 0, 1, 0x02)
    + struct.pack("=HBBI", 0x06, 0, 0, 0)
    + struct.pack("=HBBI", 0x06, 0, 0, 0xFFFFFFFF)
)


def waiting(sock: TcpSocket) -> int:
    """How many connections wait in the queue of a listening socket; 0 where that is not known."""
    if sys.platform != "linux":
        return 0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _UNACKED.size)
        (count,) = _UNACKED.unpack(info)
    except (OSError, struct.error):
        return 0
    return int(count)


def refuse_new(sock: TcpSocket) -> None:
    """Let no new handshake begin at a listening socket; those under way end, and connections are not touched."""
    if sys.platform != "linux":
        return
    import ctypes

    program = ctypes.create_string_buffer(_NO_SYN)
    header = struct.pack("@HP", len(_NO_SYN) // 8, ctypes.addressof(program))
    with suppress(OSError):  # not for every kind of socket or sandbox: then the queue is emptied as it fills
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)


async def empty(sockets: Iterable[TcpSocket]) -> None:
    """Let no new connection begin at `sockets`, and wait until those that wait have been accepted.

    The caller, or the processes that share the sockets, go on accepting meanwhile. Returns after `LONGEST` seconds at
    the latest.
    """
    listening = list(sockets)
    for sock in listening:
        refuse_new(sock)
    loop = asyncio.get_running_loop()
    last = loop.time()
    end = last + LONGEST
    while (now := loop.time()) < end:
        if any(waiting(sock) for sock in listening):
            last = now
        elif now - last >= EMPTY_FOR:
            return
        await asyncio.sleep(_POLL)
