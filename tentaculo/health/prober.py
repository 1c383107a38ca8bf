"""Runs one probe of one endpoint. The outcome is always a value, whatever the endpoint does."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace
from typing import Self

import aiohttp

from tentaculo import __version__
from tentaculo.config.schema import Config
from tentaculo.config.services import ServiceSettings
from tentaculo.health.evaluation import evaluate
from tentaculo.health.probe_attempt import ProbeAttempt, ProbeFunction, ProbeTarget, note_failure, note_timeout
from tentaculo.health.probe_kinds import KINDS, MAX_BODY, Response
from tentaculo.model.clock import utc_now
from tentaculo.model.endpoint import Endpoint
from tentaculo.model.health import ProbeResult

__all__ = ["MAX_BODY", "Prober"]

MAX_HEADER = 8190
"""Bytes of one header, or of the status line."""
MAX_HEADERS = 100
"""Headers of one answer."""

# Only our own time limit applies, so that the reason can say how far the probe got.
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
_BY_PATH = ("http", "websocket")
"""Kinds that probe health paths. The others probe the endpoint itself."""


class Prober:
    """Probes endpoints. Use it as an async context manager: it owns its connections.

    Every probe opens a new connection, since connecting is part of the test. A probe follows no redirect, keeps no cookie and
    uses no proxy from the environment.

    A probe may take `probe.timeout` seconds of its service for all health paths together; with `path_timeout` each
    path has that many seconds of its own instead. `last_heartbeat` returns the seconds since a service's last heartbeat
    and its body; None where this process receives no heartbeats. `now` gives the time of day in UTC.
    """

    def __init__(
        self,
        config: Config,
        *,
        path_timeout: float | None = None,
        last_heartbeat: Callable[[str], tuple[float, bytes] | None] | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._services = config.services
        self._name_ttl = config.limits.resolve
        self._path_timeout = path_timeout
        self._last_heartbeat = last_heartbeat
        self._now = now
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None

    async def __aenter__(self) -> Self:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_note_connected)
        if any(service.probe.kind == "tls" or _is_secure(service) for service in self._services.values()):
            self._tls = ssl.create_default_context()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, force_close=True, ttl_dns_cache=max(1, round(self._name_ttl)), ssl=self._tls or True
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_NO_TIMEOUT,
            headers={"User-Agent": f"tentaculo-link/{__version__}", "Accept-Encoding": "identity"},
            response_class=Response,
            # A body that is encoded anyway is not decoded: a few bytes could become gigabytes.
            auto_decompress=False,
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
            trace_configs=[trace],
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def probe(self, upstream: Endpoint) -> ProbeResult:
        """Probe one endpoint in the way its service is configured: its health paths in order, until one succeeds.

        Raises nothing for anything that the endpoint does. Cancellation passes through. Raises RuntimeError outside the
        context manager.
        """
        if self._session is None:
            raise RuntimeError("the prober is not open")
        service = self._services[upstream.service]
        secret = service.token.reveal() if service.token else ""
        target = ProbeTarget(upstream, service, secret, self._session, self._tls, self._last_heartbeat)
        kind = service.probe.kind
        started = time.monotonic()
        attempts: list[ProbeAttempt] = []
        try:
            async with asyncio.timeout(None if self._path_timeout else service.probe.timeout):
                for path in service.health if kind in _BY_PATH else ("",):
                    attempts.append(attempt := ProbeAttempt(path))
                    await self._attempt(KINDS[kind], target, attempt)
                    if attempt.is_final or attempt.is_answered:
                        break
        except TimeoutError:
            note_timeout(attempts[-1], service.probe.timeout)
        result = evaluate(upstream, attempts, self._now(), secret, service.probe)
        return replace(result, took=time.monotonic() - started)

    async def _attempt(self, run: ProbeFunction, target: ProbeTarget, attempt: ProbeAttempt) -> None:
        """Run one attempt. Its outcome is in `attempt`."""
        try:
            async with asyncio.timeout(self._path_timeout):
                await run(target, attempt)
        except TimeoutError:
            note_timeout(attempt, self._path_timeout or target.service.probe.timeout)
        # An endpoint, a resolver or a configured value can cause any error here, and a probe must return a value.
        except Exception as error:  # noqa: BLE001
            note_failure(attempt, target.upstream, error)


def _is_secure(service: ServiceSettings) -> bool:
    return any(upstream.tls for upstream in service.upstreams)


async def _note_connected(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceConnectionCreateEndParams
) -> None:
    context.trace_request_ctx.connected = True
