"""The kinds of probes: http, websocket, tls, tcp and heartbeat."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import ssl
import time
from typing import Any

import aiohttp
from yarl import URL

from tentaculo.health.probe_attempt import ProbeAttempt, ProbeFunction, ProbeTarget, end_of, milliseconds_since

MAX_BODY = 64 * 1024
"""Bytes of a response body that are read."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Response(aiohttp.ClientResponse):
    """A response that keeps the certificate: its connection is often closed before its head has been read."""

    certificate: Any = None

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Read the head of the response."""
        if connection.transport is not None:
            self.certificate = connection.transport.get_extra_info("peercert")
        return await super().start(connection)


async def _http(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Send one request. It follows no redirect and reads at most `MAX_BODY` bytes of the body."""
    probe = target.service.probe
    attempt.statuses = probe.status
    start = time.perf_counter()
    async with target.session.request(
        probe.method,
        URL(f"{target.upstream}{attempt.path}"),
        headers=target.headers,
        allow_redirects=False,
        trace_request_ctx=attempt,
    ) as response:
        attempt.code = response.status
        attempt.certificate_ends = end_of(getattr(response, "certificate", None))
        body = await _first_bytes(response.content)
        attempt.latency_ms = milliseconds_since(start)
        if response.headers.get("Content-Encoding", "identity").lower() == "identity":
            attempt.body, attempt.is_cut = body, len(body) >= MAX_BODY


async def _first_bytes(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    while len(body) < MAX_BODY and (chunk := await content.read(MAX_BODY - len(body))):
        body += chunk
    return bytes(body)


async def _websocket(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Send the opening handshake (RFC 6455 section 4), check Sec-WebSocket-Accept of the 101, and close."""
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
            # A server that sends 101 to every request does not compute the accept value.
            accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
            if response.headers.get("Sec-WebSocket-Accept", "").strip() == accept:
                attempt.success = "opened a WebSocket"
            else:
                attempt.problem = "answered 101, but not as a WebSocket"
        response.close()


async def _tls(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Connect, complete the TLS handshake, record until when the certificate is valid, and close."""
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
    # `close` would wait for the endpoint's close_notify.
    transport.abort()


async def _tcp(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Connect and close at once. No byte is sent or read."""
    attempt.is_final = True
    start = time.perf_counter()
    transport, _ = await asyncio.get_running_loop().create_connection(
        asyncio.Protocol, target.upstream.host, target.upstream.port
    )
    attempt.latency_ms = milliseconds_since(start)
    attempt.connected = True
    attempt.success = "connected"
    transport.close()


async def _heartbeat(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Check the time of the last heartbeat. Its body is evaluated like the body of a response."""
    attempt.is_final = True
    if target.last_heartbeat is None:
        attempt.is_gateway_fault, attempt.problem = True, "it sends heartbeats, which only the running gateway receives"
        return
    last = target.last_heartbeat(target.service.name)
    silence = target.service.probe.silence
    if last is None:
        attempt.is_gateway_fault, attempt.problem = True, "waits for its first heartbeat"
        return
    seconds, attempt.body = last
    if seconds < silence:
        attempt.success = f"its last heartbeat came {seconds:.0f} s ago"
    else:
        attempt.problem = f"no heartbeat for {seconds:.0f} s"


KINDS: dict[str, ProbeFunction] = {
    "http": _http,
    "websocket": _websocket,
    "tls": _tls,
    "tcp": _tcp,
    "heartbeat": _heartbeat,
}
"""The kinds of probes by the name in `config/probes.py`.

A kind is one function. It sends one probe and records the outcome in the attempt. It may raise any network error: the
prober turns it into a reason, limits the time, and evaluates the attempt.
"""
