"""Whether clients can use a service. Incidents open and end by this. Pure."""

from __future__ import annotations

from enum import Enum

from tentaculo.model.endpoint import BreakerState
from tentaculo.model.health import Health, ServiceView

REASON_LENGTH = 300
"""Characters of a reason that are kept."""


class Availability(Enum):
    """The availability of a service at one moment."""

    FAILS = "fails"
    USABLE = "usable"
    SET_ASIDE = "set aside"
    """Off or in maintenance, on purpose."""
    UNDECIDED = "undecided"
    """Not known now: the previous state stays."""


def availability_of(view: ServiceView, *, degraded: bool) -> tuple[Availability, Health]:
    """The availability of a service, and the severity of its failure. `degraded`: whether degraded counts as failing.

    A service whose breaker is open fails, even where its probes pass. While the breaker is half-open, or its next
    request may close it, the availability is undecided.
    """
    if view.health in (Health.OFF, Health.MAINTENANCE):
        return Availability.SET_ASIDE, view.health
    if view.health is Health.UNKNOWN:
        return Availability.UNDECIDED, view.health
    if view.health is Health.DOWN:
        return Availability.FAILS, Health.DOWN
    breaker = view.breaker
    if breaker.state is BreakerState.OPEN and breaker.retry_after > 0:
        return Availability.FAILS, Health.DOWN
    if breaker.state is not BreakerState.CLOSED:
        return Availability.UNDECIDED, view.health
    if view.health is Health.DEGRADED and degraded:
        return Availability.FAILS, Health.DEGRADED
    return Availability.USABLE, view.health


def failure_reason(view: ServiceView) -> str:
    """The reason why a service fails."""
    breaker = view.breaker
    is_cut_off = view.health is not Health.DOWN and breaker.state is not BreakerState.CLOSED
    return ((breaker.reason if is_cut_off else None) or view.reason)[:REASON_LENGTH]
