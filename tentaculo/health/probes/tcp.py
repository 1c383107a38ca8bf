"""TCP: somebody accepts a connection."""

from __future__ import annotations

import asyncio
import time

from tentaculo.health.probes.attempt import ProbeAttempt, ProbeTarget, milliseconds_since


async def run(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Connect, and close at once. Not a byte is sent or read."""
    attempt.is_final = True
    start = time.perf_counter()
    transport, _ = await asyncio.get_running_loop().create_connection(
        asyncio.Protocol, target.upstream.host, target.upstream.port
    )
    attempt.latency_ms = milliseconds_since(start)
    attempt.connected = True
    attempt.success = "connected"
    transport.close()
