"""Reads the clocks of the services from the responses to probes, and reports those that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from tentaculo.config.schema import Config
from tentaculo.events.clock_offsets import Bounds, ClockOffsets
from tentaculo.gateway.coordination import Coordination
from tentaculo.health.steady_clock import SteadyClock, time_since_boot
from tentaculo.model.clock import DateReading
from tentaculo.model.event import RecordOwnEvent
from tentaculo.model.health import Endpoint

log = structlog.get_logger(__name__)

WRONG_MS = 5000.0
"""A clock is wrong from this difference on, and right again below the half of it."""


class ClockWatch:
    """The clocks of the services. The leader of the workers reports a wrong one, once, in its log and by `record`."""

    def __init__(
        self, config: Config, clock: SteadyClock, record: RecordOwnEvent, coordination: Coordination | None
    ) -> None:
        services = {name: service.upstreams for name, service in config.services.items()}
        self.offsets = ClockOffsets(services, config.names, now=clock.now, elapsed=time_since_boot)
        self._record = record
        self._reports = coordination is None or coordination.is_leader
        if coordination is not None:
            coordination.share_clocks(self.offsets)
        self._wrong: set[Endpoint] = set()

    def prepare(self, config: Config) -> Callable[[], None]:
        """Find the clocks of a configuration; the result follows it. May run in a thread."""
        services = {name: service.upstreams for name, service in config.services.items()}
        offsets = self.offsets.prepare(services, config.names)
        endpoints = {endpoint for upstreams in services.values() for endpoint in upstreams}

        def use() -> None:
            offsets()
            self._wrong &= endpoints

        return use

    def __repr__(self) -> str:
        return f"<ClockWatch: {len(self._wrong)} clocks are wrong>"

    def note_date(self, upstream: Endpoint, reading: DateReading) -> None:
        """Add what the response to a probe says."""
        self.offsets.note_date(upstream, reading)
        bounds = self.offsets.of_endpoint(upstream)
        if self._reports and bounds is not None:
            self._report(upstream, bounds)

    def _report(self, upstream: Endpoint, bounds: Bounds) -> None:
        difference = max(bounds.low, -bounds.high, 0.0)
        is_wrong = upstream in self._wrong
        if is_wrong == (difference > (WRONG_MS / 2 if is_wrong else WRONG_MS)):
            return
        (self._wrong.discard if is_wrong else self._wrong.add)(upstream)
        endpoint = f"{upstream.host}:{upstream.port}"
        offset: dict[str, Any] = {"low_ms": round(bounds.low), "high_ms": round(bounds.high)}
        if is_wrong:
            log.info("service clock right", service=upstream.service, endpoint=endpoint, **offset)
        else:
            log.warning("service clock wrong", service=upstream.service, endpoint=endpoint, **offset)
        self._record(
            "clock.right" if is_wrong else "clock.wrong",
            severity="info" if is_wrong else "warning",
            service=upstream.service,
            endpoint=endpoint,
            **offset,
        )
