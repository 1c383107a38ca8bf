"""The kinds of probes: http, websocket, tls, tcp and heartbeat."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import time
from contextlib import suppress

from tentaculo import __version__
from tentaculo.health.probe_attempt import (
    ProbeAttempt,
    ProbeFunction,
    ProbeTarget,
    chain_expiry,
    milliseconds_since,
)
from tentaculo.health.probe_client import ProbeConnection
from tentaculo.net.http1 import Head

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_AFTER_HANDSHAKE = 0.1
"""Seconds in which a server of TLS 1.3 may still refuse the client's certificate: its handshake ends after the client's."""


async def _connect(target: ProbeTarget, attempt: ProbeAttempt, *, tls: bool) -> ProbeConnection:
    """Connect to the endpoint, and record until when its certificates are valid."""
    upstream = target.upstream
    context = target.tls if tls else None
    connection = await target.connector.connect(
        *(upstream.host, upstream.port, target.service.probe.timeout),
        *(context, target.service.name_for_tls or upstream.host),
    )
    attempt.connected = True
    if connection.transport is not None and (tls_object := connection.transport.get_extra_info("ssl_object")):
        attempt.certificate_ends, attempt.is_issuer_first = chain_expiry(tls_object)
    return connection


async def _http(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Send one request. It follows no redirect and reads at most `MAX_BODY` bytes of the body."""
    method = target.service.probe.method
    attempt.statuses = target.service.probe.status
    headers = {"Accept-Encoding": "identity", "Connection": "close"}
    if method == "POST":
        headers["Content-Length"] = "0"
    start = time.perf_counter()
    connection = await _connect(target, attempt, tls=target.upstream.tls)
    try:
        connection.send(method, _request_head(target, method, attempt.path, headers))
        head = await connection.head()
        attempt.code = head.status
        attempt.body, attempt.is_cut = await connection.body()
        attempt.latency_ms = milliseconds_since(start)
        attempt.content_encoding = ", ".join(_values(head, b"content-encoding"))
        attempt.content_type = ", ".join(_values(head, b"content-type"))
    finally:
        connection.close()


async def _websocket(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Send the opening handshake (RFC 6455 section 4), check Sec-WebSocket-Accept of the 101, and close."""
    key = base64.b64encode(os.urandom(16))
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key.decode(),
    }
    attempt.statuses = ()
    start = time.perf_counter()
    connection = await _connect(target, attempt, tls=target.upstream.tls)
    try:
        connection.send("GET", _request_head(target, "GET", attempt.path, headers))
        head = await connection.head()
        attempt.code = head.status
        attempt.latency_ms = milliseconds_since(start)
        if head.status == 101:
            # A server that sends 101 to every request does not compute the accept value.
            accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
            is_websocket = [value.lower() for value in _values(head, b"upgrade")] == ["websocket"]
            if is_websocket and _values(head, b"sec-websocket-accept") == [accept]:
                attempt.success = "opened a WebSocket"
            else:
                attempt.problem = "answered 101, but not as a WebSocket"
    finally:
        connection.close()


async def _tls(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Connect, complete the TLS handshake, record until when the certificates are valid, and close."""
    attempt.is_final = True
    start = time.perf_counter()
    connection = await _connect(target, attempt, tls=True)
    attempt.latency_ms = milliseconds_since(start)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(min(_AFTER_HANDSHAKE, target.service.probe.timeout / 4)):
                await connection.lost()
    finally:
        connection.close()
    attempt.success = "completed the TLS handshake"


async def _tcp(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Connect and close at once. No byte is sent or read."""
    attempt.is_final = True
    start = time.perf_counter()
    connection = await _connect(target, attempt, tls=False)
    attempt.latency_ms = milliseconds_since(start)
    attempt.success = "connected"
    if connection.transport is not None:
        connection.transport.close()


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


def _request_head(target: ProbeTarget, method: str, path: str, headers: dict[str, str]) -> bytes:
    """The head of a request: what HTTP needs, then the service's token, then the configured headers."""
    upstream = target.upstream
    is_default = upstream.port == (443 if upstream.tls else 80)
    fields = {
        "Host": target.service.host or (upstream.authority.rpartition(":")[0] if is_default else upstream.authority),
        "User-Agent": f"tentaculo-link/{__version__}",
        "Accept": "*/*",
        **headers,
        **({"X-VX11-Token": target.secret} if target.secret else {}),
    }
    configured = target.service.probe_headers
    names = {name.lower() for name in configured}
    fields = {name: value for name, value in fields.items() if name.lower() not in names} | configured
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()


def _values(head: Head, name: bytes) -> list[str]:
    return [line.partition(b":")[2].strip().decode("latin-1") for line, field in head.fields if field.lower() == name]


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
