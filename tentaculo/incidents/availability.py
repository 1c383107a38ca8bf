"""Whether clients can use a service, and the share of its requests and probes that fail. Pure; the time is passed in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import Enum
from typing import assert_never

from tentaculo.model.health import BreakerState, Counts, DegradedKind, Health, ServiceView

REASON_LENGTH = 300
"""Characters of a reason that are kept."""


class Availability(Enum):
    """The availability of a service at one moment."""

    FAILS = "fails"
    USABLE = "usable"
    MAINTENANCE = "maintenance"
    OFF = "off"
    UNDECIDED = "undecided"
    """Not known now: the previous state stays."""


def availability_of(view: ServiceView, *, degraded: bool) -> tuple[Availability, Health]:
    """The availability of a service, and the severity of its failure.

    `degraded` is whether a service counts as failing that is degraded for another reason than failing or slow probes.

    A service whose breaker is open fails, even where its probes pass. While the breaker is half-open, or its next
    request may close it, the availability is undecided.
    """
    if view.is_restored:
        return Availability.UNDECIDED, view.health
    match view.health:
        case Health.OFF:
            return Availability.OFF, view.health
        case Health.MAINTENANCE:
            return Availability.MAINTENANCE, view.health
        case Health.UNKNOWN:
            return Availability.UNDECIDED, view.health
        case Health.DOWN:
            return Availability.FAILS, Health.DOWN
        case Health.UP | Health.DEGRADED:
            return _behind_breaker(view, degraded=degraded)
        case _:
            assert_never(view.health)


def _behind_breaker(view: ServiceView, *, degraded: bool) -> tuple[Availability, Health]:
    """The availability of a service whose probes pass."""
    breaker = view.breaker
    if breaker.state is BreakerState.OPEN and breaker.retry_after > 0:
        return Availability.FAILS, Health.DOWN
    if breaker.state is not BreakerState.CLOSED:
        return Availability.UNDECIDED, view.health
    if view.health is Health.DEGRADED and _fails_in_part(view.kind, degraded=degraded):
        return Availability.FAILS, Health.DEGRADED
    return Availability.USABLE, view.health


def _fails_in_part(kind: DegradedKind | None, *, degraded: bool) -> bool:
    """Whether a degraded service counts as failing: always if a part of its probes fails, never if it is only slow."""
    match kind:
        case DegradedKind.FAILING:
            return True
        case DegradedKind.SLOW:
            return False
        case None:
            return degraded
        case _:
            assert_never(kind)


def failure_reason(view: ServiceView) -> str:
    """The reason why a service fails."""
    breaker = view.breaker
    is_cut_off = view.health is not Health.DOWN and breaker.state is not BreakerState.CLOSED
    return ((breaker.reason if is_cut_off else None) or view.reason)[:REASON_LENGTH]


SPAN = timedelta(minutes=1)
"""The span that a share covers."""
STEP = timedelta(seconds=10)
"""Time between two stored values of a counter."""


class ErrorRates:
    """The counters of each service in the last minute, which only grow. A probe counts as much as a request."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[tuple[datetime, Counts]]] = {}

    def __repr__(self) -> str:
        return f"<ErrorRates of {len(self._kept)} services>"

    def restart(self, view: ServiceView, at: datetime) -> None:
        """Count from now on only: what happened before an incident says nothing about it."""
        self._kept[view.name] = deque([(at, view.probes + view.traffic)])

    def correct(self, moment: Callable[[datetime], datetime]) -> None:
        """Correct the moments after the system clock was set."""
        for name, kept in self._kept.items():
            self._kept[name] = deque((moment(at), counts) for at, counts in kept)

    def update(self, view: ServiceView, at: datetime) -> float | None:
        """The share, 0 to 1, of probes and requests that failed in the minute before `at`; None where there were none."""
        now = view.probes + view.traffic
        kept = self._kept.setdefault(view.name, deque())
        while len(kept) > 1 and kept[1][0] <= at - SPAN:
            kept.popleft()
        before = kept[0][1] if kept else now
        if not kept or at - kept[-1][0] >= STEP:
            kept.append((at, now))
        ok, failed = now.ok - before.ok, now.failed - before.failed
        return failed / (ok + failed) if ok + failed > 0 else None
