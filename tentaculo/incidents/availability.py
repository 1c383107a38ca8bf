"""Whether callers can use a service, as far as is known: what is an incident follows from that. Pure."""

from __future__ import annotations

from enum import Enum

from tentaculo.model.endpoint import BreakerState
from tentaculo.model.health import Health, ServiceView

REASON_LENGTH = 300
"""Characters of a reason that are kept."""


class Availability(Enum):
    """What one look at a service says."""

    FAILS = "fails"
    WELL = "well"
    SET_ASIDE = "set aside"
    """By somebody's intention."""
    UNDECIDED = "undecided"
    """Nothing is claimed: whatever was believed stays."""


def availability_of(view: ServiceView, *, degraded: bool) -> tuple[Availability, Health]:
    """What `view` says, and how bad it is where it fails. `degraded`: whether being degraded is failing.

    A service that callers cannot use fails, even where its health path says otherwise: so does one whose breaker is
    open. While the breaker waits for its next trial, or tries, nobody knows.
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
    return Availability.WELL, view.health


def failure_reason(view: ServiceView) -> str:
    """Why a service fails, in words."""
    breaker = view.breaker
    is_cut_off = view.health is not Health.DOWN and breaker.state is not BreakerState.CLOSED
    return ((breaker.reason if is_cut_off else None) or view.reason)[:REASON_LENGTH]
