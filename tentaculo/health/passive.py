"""What real requests say beside the probes: where the two disagree, neither is simply right. Pure.

A health path can lie in both directions. It answers well while requests fail: then the service is degraded, and the
breaker decides whether it gets a rest. Or it fails while requests pass: then the service is no less use for that, and
is degraded rather than down.
"""

from __future__ import annotations

from typing import NamedTuple

from tentaculo.config.services import BreakerSettings
from tentaculo.model.endpoint import BreakerState, BreakerView, Counts, TrafficView
from tentaculo.model.health import Health

_ENOUGH = 5
"""Requests within the window that say something; one or two may be chance."""


class Finding(NamedTuple):
    """A health with its reason in words."""

    health: Health
    reason: str
    by_traffic: bool = False
    """Whether requests made it another than the probes'."""


def weigh(
    probed: Finding, traffic: TrafficView, breaker: BreakerView, rules: BreakerSettings, before: Finding
) -> Finding:
    """What is believed of an address, from what probes settled and what requests met.

    `before` is what this returned the last time: where requests have once shown that a service works, a few less of
    them will do, so that it does not flap with the traffic.
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
    """In words, that requests fail; empty where they do not, or where they are too few to tell."""
    if breaker.state is not BreakerState.CLOSED:
        return f"requests failed ({breaker.reason})"
    if recent.failed >= _ENOUGH and recent.failed >= rules.degraded_rate * _total(recent):
        return f"{recent.failed} of {_total(recent)} requests within {rules.window:g} s failed"
    return ""


def _total(recent: Counts) -> int:
    return recent.ok + recent.failed
