"""TLS: a handshake whose certificate is accepted. Until when it holds is judged with the rest."""

from __future__ import annotations

import asyncio
import ssl
import time

from tentaculo.health.probes.attempt import ProbeAttempt, ProbeTarget, end_of, milliseconds_since


async def run(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Connect, shake hands, look at the certificate, and close."""
    attempt.is_final = True
    host = target.upstream.host
    start = time.perf_counter()
    transport, _ = await asyncio.get_running_loop().create_connection(
        asyncio.Protocol,
        host,
        target.upstream.port,
        ssl=target.tls or ssl.create_default_context(),
        server_hostname=host,
    )
    attempt.latency_ms = milliseconds_since(start)
    attempt.connected = True
    attempt.success = "shook hands"
    attempt.certificate_ends = end_of(transport.get_extra_info("peercert"))
    # Not `close`, which would wait for the other side to take leave of the secure connection.
    transport.abort()
