"""What the leader of the workers finds, taken over by another worker.

A reload reaches the workers one after the other. What the leader finds of services that this worker does not serve yet
waits until it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from tentaculo.gateway.health_service import HealthService
from tentaculo.model.health import Endpoint, ProbeResult

_OVERTAKEN = timedelta(seconds=10)
"""A result that is older than its predecessor by less than this was overtaken on its way."""

ServiceReasons = tuple[str | None, str | None]
"""Why a service is in maintenance, and why its requests are slow; None where it is not."""


class LeaderState:
    """Takes over results and reasons of the leader. What waits is bounded by the services that the leader serves."""

    def __init__(self) -> None:
        self._probed: dict[Endpoint, datetime] = {}
        self._early_results: dict[Endpoint, ProbeResult] = {}
        self._early_reasons: dict[str, ServiceReasons] = {}

    def __repr__(self) -> str:
        return f"<LeaderState: {len(self._early_results)} results and {len(self._early_reasons)} services wait>"

    def take_result(self, health_service: HealthService, result: ProbeResult) -> None:
        """Take over a result, unless a newer one has come."""
        # The state sent to a new worker may arrive after a newer result sent to all. One that is much older comes from
        # a leader whose clock was set back.
        known = self._probed.get(result.upstream)
        if known is not None and timedelta() <= known - result.checked_at < _OVERTAKEN:
            return
        self._probed[result.upstream] = result.checked_at
        if health_service.board.has(result.upstream):
            health_service.accept_result(result)
        else:
            self._early_results[result.upstream] = result

    def take_reasons(self, health_service: HealthService, reasons: Mapping[str, ServiceReasons]) -> None:
        """Take over the reasons of services."""
        known = health_service.board.reasons()
        for name, (maintenance, slow) in reasons.items():
            if name not in known:
                self._early_reasons[name] = maintenance, slow
                continue
            if known[name][0] != maintenance:
                health_service.set_maintenance(name, maintenance)
            if known[name][1] != slow:
                health_service.set_slow(name, slow)

    def take_early(self, health_service: HealthService) -> None:
        """Take over what has waited: this worker serves another configuration now."""
        results, self._early_results = self._early_results, {}
        reasons, self._early_reasons = self._early_reasons, {}
        board = health_service.board
        self._probed = {upstream: at for upstream, at in self._probed.items() if board.has(upstream)}
        for result in results.values():
            health_service.accept_result(result)
        served = board.reasons()
        self.take_reasons(health_service, {name: found for name, found in reasons.items() if name in served})
