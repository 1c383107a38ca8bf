"""Waiting for what a test cannot await, and ports that are free."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable


async def eventually(holds: Callable[[], object], what: str = "it", *, seconds: float = 20) -> None:
    """Wait until `holds()` is true. After `seconds` the test fails with `what` in the message."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not holds():
        assert loop.time() < deadline, f"{what} did not become true within {seconds} s"
        await asyncio.sleep(0.005)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free at this moment, for a server that cannot choose one itself."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
