"""Passive health checks: combines the outcome of real requests with that of the probes. Pure.

A health path can be wrong in both directions. Where probes pass and requests fail, the service is degraded, and its
breaker decides whether it gets requests. Where probes fail and requests pass, the service still works, so it is
degraded and not down.
"""

from __future__ import annotations

from typing import NamedTuple

from tentaculo.config.services import BreakerSettings
from tentaculo.model.endpoint import BreakerState, BreakerView, Counts, TrafficView
from tentaculo.model.health import Health

_ENOUGH = 5
"""Least requests within the window that count as evidence; one or two may be chance."""


class Finding(NamedTuple):
    """A health with its reason in words."""

    health: Health
    reason: str
    by_traffic: bool = False
    """Whether requests, not probes, decided the health."""


def combine(
    probed: Finding, traffic: TrafficView, breaker: BreakerView, rules: BreakerSettings, before: Finding
) -> Finding:
    """The health of an endpoint, from its probes after their thresholds and from its requests.

    `before` is the previous return value: once requests have shown that a service works, one successful request is
    enough to keep that result, so that the health does not flap with the traffic.
    """
    recent = traffic.recent
    if probed.health.is_healthy:
        if why := _failing(recent, breaker, rules):
            return Finding(Health.DEGRADED, f"{why}, though its probes pass: {probed.reason}", True)
    elif probed.health is Health.DOWN and breaker.state is BreakerState.CLOSED:
        enough = 1 if before.by_traffic else _ENOUGH
        if recent.ok >= enough and recent.failed < rules.rate * _total(recent):
            passed = f"{recent.ok} of {_total(recent)} requests within {rules.window:g} s passed"
            return Finding(Health.DEGRADED, f"{passed}, though its probes fail: {probed.reason}", True)
    return probed


def _failing(recent: Counts, breaker: BreakerView, rules: BreakerSettings) -> str:
    """Why requests fail; empty where they do not, or where there are too few."""
    if breaker.state is not BreakerState.CLOSED:
        return f"requests failed ({breaker.reason})"
    if recent.failed >= _ENOUGH and recent.failed >= rules.degraded_rate * _total(recent):
        return f"{recent.failed} of {_total(recent)} requests within {rules.window:g} s failed"
    return ""


def _total(recent: Counts) -> int:
    return recent.ok + recent.failed
