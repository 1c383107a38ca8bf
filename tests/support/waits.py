"""Waiting for what a test cannot await, and ports that are free."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from contextlib import suppress


async def eventually(holds: Callable[[], object], what: str = "it", *, seconds: float = 20) -> None:
    """Wait until `holds()` is true. After `seconds` the test fails with `what` in the message."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not holds():
        assert loop.time() < deadline, f"{what} did not become true within {seconds} s"
        await asyncio.sleep(0.005)


PORTS = range(20_000, 32_000)
"""Below those that Linux gives to connections, and to servers that ask for any port."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free, for a server that cannot choose one itself.

    Nothing else takes it before the server does, but for another call of this function that chooses the same of 12,000.
    """
    # Not the module's own generator, which is seeded: every process would choose the same.
    chance = random.SystemRandom()
    while True:
        port = chance.choice(PORTS)
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe, suppress(OSError):
            probe.bind((host, port))
            return port
