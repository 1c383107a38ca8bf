"""HTTP: one request to one health path, whose answer is read within bounds."""

from __future__ import annotations

import time
from typing import Any

import aiohttp
from yarl import URL

from tentaculo.health.probes.attempt import ProbeAttempt, ProbeTarget, end_of, milliseconds_since

MAX_BODY = 64 * 1024
"""Bytes of an answer's body that are read."""


class Response(aiohttp.ClientResponse):
    """An answer that remembers the certificate: its connection is often gone before its head has been looked at."""

    certificate: Any = None

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Read the head of the answer."""
        if connection.transport is not None:
            self.certificate = connection.transport.get_extra_info("peercert")
        return await super().start(connection)


async def run(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Send one request. It follows no redirect, and reads at most `MAX_BODY` bytes of the answer, undecoded."""
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
