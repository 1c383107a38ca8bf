"""Runs one probe of one endpoint. The outcome is always a value, whatever the endpoint does."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from tentaculo.config.schema import Config
from tentaculo.health.evaluation import evaluate
from tentaculo.health.pause_detector import PauseDetector
from tentaculo.health.probe_attempt import ProbeAttempt, ProbeFunction, ProbeTarget, note_failure, note_timeout
from tentaculo.health.probe_client import Connector
from tentaculo.health.probe_kinds import KINDS
from tentaculo.model.clock import utc_now
from tentaculo.model.endpoint import Endpoint
from tentaculo.model.health import ProbeResult
from tentaculo.net.connecting import LookUp, look_up

_BY_PATH = ("http", "websocket")
"""Kinds that probe health paths. The others probe the endpoint itself."""
_REPETITIONS = 3
"""Times that a probe is sent where this process pauses during each of them."""
_SECRET = 8
"""Characters from which on the value of a configured header is removed from a body that is shown."""


class Prober:
    """Probes endpoints.

    Every probe opens a new connection, since connecting is part of the test. A probe follows no redirect, keeps no
    cookie and uses no proxy from the environment.

    A probe may take `probe.timeout` seconds of its service for all health paths together; with `path_timeout` each
    path has that many seconds of its own instead. `last_heartbeat` returns the seconds since a service's last heartbeat
    and its body; None where this process receives no heartbeats. `now` gives the time of day in UTC. `pauses` counts the
    pauses of this process: a probe during which one fell is repeated.
    """

    def __init__(
        self,
        config: Config,
        *,
        path_timeout: float | None = None,
        last_heartbeat: Callable[[str], tuple[float, bytes] | None] | None = None,
        now: Callable[[], datetime] = utc_now,
        look_up: LookUp = look_up,
        pauses: PauseDetector | None = None,
    ) -> None:
        self._services = config.services
        self._connector = Connector(config.limits.headers, config.limits.resolve, look_up=look_up)
        self._path_timeout = path_timeout
        self._last_heartbeat = last_heartbeat
        self._now = now
        self._pauses = pauses or PauseDetector()
        # Loading the trust store takes milliseconds: not while requests are served.
        needs_tls = any(
            service.probe.kind == "tls" or any(upstream.tls for upstream in service.upstreams)
            for service in config.services.values()
        )
        self._tls = ssl.create_default_context() if needs_tls else None

    async def probe(self, upstream: Endpoint) -> ProbeResult:
        """Probe one endpoint in the way its service is configured: its health paths in order, until one succeeds.

        Raises nothing for anything that the endpoint does. Cancellation passes through.
        """
        service = self._services[upstream.service]
        secret = service.token.reveal() if service.token else ""
        secrets = {value: name for name, value in service.probe_headers.items() if len(value) >= _SECRET}
        secrets |= {value.rpartition(" ")[2]: name for value, name in secrets.items() if " " in value}
        target = ProbeTarget(upstream, service, secret, self._connector, self._tls, self._last_heartbeat)
        for _ in range(_REPETITIONS):
            pauses, started = self._pauses.check(), time.monotonic()
            attempts = await self._attempts(target)
            if self._pauses.check() == pauses:
                break
        else:
            attempts[-1].latency_ms = None
            if not attempts[-1].is_answered:
                attempts[-1].is_gateway_fault, attempts[-1].problem = True, "not sent: the gateway was paused"
        result = evaluate(
            upstream, attempts, self._now(), secrets | ({secret: "token"} if secret else {}), service.probe
        )
        return replace(result, took=time.monotonic() - started)

    async def _attempts(self, target: ProbeTarget) -> list[ProbeAttempt]:
        """Probe the health paths until one succeeds, or the endpoint itself."""
        probe = target.service.probe
        attempts: list[ProbeAttempt] = []
        try:
            async with asyncio.timeout(None if self._path_timeout else probe.timeout):
                for path in target.service.health if probe.kind in _BY_PATH else ("",):
                    attempts.append(attempt := ProbeAttempt(path))
                    await self._attempt(KINDS[probe.kind], target, attempt)
                    if attempt.is_final or attempt.is_answered:
                        break
        except TimeoutError:
            note_timeout(attempts[-1], probe.timeout)
        return attempts

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
