"""WebSocket: a handshake (RFC 6455 section 4), and no more. The connection is closed once it stands."""

from __future__ import annotations

import base64
import hashlib
import os
import time

from yarl import URL

from tentaculo.health.probes.attempt import ProbeAttempt, ProbeTarget, end_of, milliseconds_since

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def run(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """ProbeFunction for an upgrade, and see that 101 comes with the right Sec-WebSocket-Accept."""
    key = base64.b64encode(os.urandom(16))
    headers = {
        **target.headers,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key.decode(),
    }
    attempt.statuses = ()
    start = time.perf_counter()
    async with target.session.get(
        URL(f"{target.upstream}{attempt.path}"),
        headers=headers,
        allow_redirects=False,
        read_until_eof=False,
        trace_request_ctx=attempt,
    ) as response:
        attempt.code = response.status
        attempt.certificate_ends = end_of(getattr(response, "certificate", None))
        attempt.latency_ms = milliseconds_since(start)
        if response.status == 101:
            # Not an upgrade of ours: the accept is what tells a WebSocket from a server that says 101 to anything.
            accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
            if response.headers.get("Sec-WebSocket-Accept", "").strip() == accept:
                attempt.success = "opened a WebSocket"
            else:
                attempt.problem = "answered 101, but not as a WebSocket"
        response.close()
