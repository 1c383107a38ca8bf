"""A network of the rig's own, where the system allows it: free ports, and a kernel that counts nobody else.

A refused connection leaves no trace where nobody listens, but the kernel counts it. In a network namespace of the rig's
own the count is the proxy's alone.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

_NEW_USER, _NEW_NET = 0x10000000, 0x40000000
_SET_FLAGS = 0x8914
_UP = 1


def isolate() -> bool:
    """Move this process into a network with nothing but loopback, as root or as anybody. False where that is forbidden."""
    user, group = os.geteuid(), os.getegid()
    flags = _NEW_NET if user == 0 else _NEW_NET | _NEW_USER
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        return False
    try:
        if user:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh", b"lo", _UP))
    except OSError:
        return False
    return True


def refused() -> int:
    """Connections of this network that were refused, so far: AttemptFails of RFC 4022 (tcpAttemptFails)."""
    names, values = (
        line.split() for line in Path("/proc/self/net/snmp").read_text().splitlines() if line[:4] == "Tcp:"
    )
    return int(values[names.index("AttemptFails")])


if __name__ == "__main__":
    sys.exit(not isolate())
