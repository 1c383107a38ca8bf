"""Whether clients can use a service: its state, the share of its failures, and planned maintenance. Pure; time is passed in.

A recurring plan follows the local time of its zone. In the night in which the clocks change, a time that occurs twice is
the first of the two; a time that does not occur is as long after midnight as it says; the window is longer or shorter by
the difference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import assert_never

from tentaculo.config.incidents import DAYS, MaintenanceSettings
from tentaculo.config.services import ServiceSettings
from tentaculo.model.health import BreakerState, Counts, DegradedKind, Health, ServiceView
from tentaculo.model.incident import EVERY, Incident, MaintenanceWindow
from tentaculo.model.reason import Reason, because, stated

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


def availability_of(view: ServiceView, *, degraded: bool, slow: bool = False) -> tuple[Availability, Health]:
    """The availability of a service, and the severity of its failure.

    `degraded` is whether a service counts as failing that is degraded for another reason than failing or slow probes, and
    `slow` whether one does that is only slow.

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
            return _behind_breaker(view, degraded=degraded, slow=slow)
        case _:
            assert_never(view.health)


def _behind_breaker(view: ServiceView, *, degraded: bool, slow: bool) -> tuple[Availability, Health]:
    """The availability of a service whose probes pass."""
    breaker = view.breaker
    if breaker.state is BreakerState.OPEN and breaker.retry_after > 0:
        return Availability.FAILS, Health.DOWN
    if breaker.state is not BreakerState.CLOSED:
        return Availability.UNDECIDED, view.health
    if view.health is Health.DEGRADED and _fails_in_part(view.kind, degraded=degraded, slow=slow):
        return Availability.FAILS, Health.DEGRADED
    return Availability.USABLE, view.health


def _fails_in_part(kind: DegradedKind | None, *, degraded: bool, slow: bool) -> bool:
    """Whether a degraded service counts as failing: always if a part of its probes fails."""
    match kind:
        case DegradedKind.FAILING:
            return True
        case DegradedKind.SLOW:
            return slow
        case None:
            return degraded
        case _:
            assert_never(kind)


def as_ended(incident: Incident, at: datetime, ending: Reason, part_of: int | None) -> Incident:
    """`incident` as it is after its end, not before its beginning; `part_of` is the one that it was merged into."""
    at, cause = max(at, incident.started_at), ending if ending.is_short else None
    return replace(incident, ended_at=at, ending=ending[:REASON_LENGTH], ending_cause=cause, part_of=part_of)


def failure_reason(view: ServiceView) -> tuple[str, Reason | None]:
    """The reason why a service fails, in words, and with its code where it has one."""
    breaker = view.breaker
    is_cut_off = view.health is not Health.DOWN and breaker.state is not BreakerState.CLOSED
    words, cause = (breaker.reason, breaker.cause) if is_cut_off and breaker.reason else (view.reason, view.cause)
    return words[:REASON_LENGTH], cause if cause is not None and cause.is_short else None


def worse(one: Health, other: Health) -> Health:
    """The worse of two severities, of down and degraded."""
    return Health.DOWN if Health.DOWN in (one, other) else one


SPAN = timedelta(minutes=1)
"""The span that a share covers."""
STEP = timedelta(seconds=10)
"""Time between two stored values of a counter."""


class ErrorRates:
    """The counters of each service in the last minute. A probe counts as much as a request.

    They grow, and fall only where a reload removes an endpoint with its counts: the minute begins again then.
    """

    def __init__(self) -> None:
        self._kept: dict[str, deque[tuple[datetime, Counts]]] = {}

    def __repr__(self) -> str:
        return f"<ErrorRates of {len(self._kept)} services>"

    def restart(self, view: ServiceView, at: datetime) -> None:
        """Count from now on only: what happened before an incident says nothing about it."""
        self._kept[view.name] = deque([(at, view.probes + view.traffic)])

    def forget(self, services: Collection[str]) -> None:
        """Forget services that were removed."""
        for name in services:
            self._kept.pop(name, None)

    def correct(self, moment: Callable[[datetime], datetime]) -> None:
        """Correct the moments after the system clock was set."""
        for name, kept in self._kept.items():
            self._kept[name] = deque((moment(at), counts) for at, counts in kept)

    def update(self, view: ServiceView, at: datetime) -> float | None:
        """The share, 0 to 1, of probes and requests that failed in the minute before `at`; None where there were none."""
        now = view.probes + view.traffic
        kept = self._kept.setdefault(view.name, deque())
        if kept and (now.ok < kept[-1][1].ok or now.failed < kept[-1][1].failed):
            # An endpoint was removed with its counts, or the service was switched off and on.
            kept.clear()
        while len(kept) > 1 and kept[1][0] <= at - SPAN:
            kept.popleft()
        before = kept[0][1] if kept else now
        if not kept or at - kept[-1][0] >= STEP:
            kept.append((at, now))
        ok, failed = now.ok - before.ok, now.failed - before.failed
        return failed / (ok + failed) if ok + failed > 0 else None


class MaintenanceCalendar:
    """The windows of the configuration and of the database."""

    def __init__(self, plans: Sequence[MaintenanceSettings], services: Mapping[str, ServiceSettings]) -> None:
        self._stored: tuple[MaintenanceWindow, ...] = ()
        self.use(plans, services)

    def __repr__(self) -> str:
        return f"<MaintenanceCalendar: {len(self._plans)} plans, {len(self._stored)} windows>"

    def use(self, plans: Sequence[MaintenanceSettings], services: Mapping[str, ServiceSettings]) -> None:
        """Follow the plans of another configuration."""
        self._plans = [(plan, canonical(plan.services, services)) for plan in plans]
        self._services = services

    def take(self, stored: Iterable[MaintenanceWindow]) -> None:
        """Replace the windows of the database."""
        self._stored = tuple(stored)

    def replace(self, changed: MaintenanceWindow) -> None:
        """Replace one window of the database."""
        self._stored = tuple(changed if window.id == changed.id else window for window in self._stored)

    def windows(self, now: datetime) -> list[MaintenanceWindow]:
        """The windows that are open or planned: each stored one, and of each plan the open one or else the next."""
        planned = [window for plan, services in self._plans for window in upcoming(plan, services, now)]
        waiting = [window for window in self._stored if window.ends_at > now]
        return sorted([*planned, *waiting], key=lambda window: (window.starts_at, window.ends_at))

    def reasons(self, now: datetime) -> dict[str, Reason]:
        """The services that are in maintenance now, each with the reason and the end."""
        ends: dict[str, datetime] = {}
        reasons: dict[str, Reason] = {}
        for window in self.windows(now):
            if window.holds(now):
                end, reason = window.ends_at, _reason(window)
                for name in window.services or self._services:
                    # Of several open windows, the one that ends last gives the end.
                    if name in self._services and (name not in ends or end > ends[name]):
                        ends[name], reasons[name] = end, reason
        return reasons


def canonical(names: Collection[str], services: Mapping[str, ServiceSettings]) -> tuple[str, ...]:
    """The canonical names for `names`, each once; empty for every service. Raises KeyError for an unknown name."""
    if EVERY in names:
        return ()
    known = {alias: service.name for service in services.values() for alias in service.aliases}
    known |= {name: name for name in services}
    return tuple(dict.fromkeys(known[name] for name in names))


def upcoming(plan: MaintenanceSettings, services: tuple[str, ...], now: datetime) -> Iterator[MaintenanceWindow]:
    """The window of `plan` that is open at `now`, else the next one; nothing if the plan is over."""
    if plan.once is not None:
        start, end = plan.once
        if end > now:
            yield MaintenanceWindow(services, start.astimezone(UTC), end.astimezone(UTC), plan.reason)
        return
    today = now.astimezone(plan.time_zone).date()
    # A window that began yesterday may still be open, and within seven days there is one of any plan.
    for day in (today + timedelta(days=number) for number in range(-1, 9)):
        if DAYS[day.weekday()] in plan.days:
            start, end = _on(plan, day)
            if start < end and now < end:
                yield MaintenanceWindow(services, start, end, plan.reason)
                return


def _on(plan: MaintenanceSettings, day: date) -> tuple[datetime, datetime]:
    """Start and end, in UTC, of the window that begins on `day` in the plan's zone."""
    assert plan.times is not None
    start, end = plan.times
    last = day if start < end else day + timedelta(days=1)
    zone = plan.time_zone
    return (
        datetime.combine(day, start, zone).astimezone(UTC),
        datetime.combine(last, end, zone).astimezone(UTC),
    )


def _reason(window: MaintenanceWindow) -> Reason:
    why = stated(window.reason, "planned_maintenance")
    return because("maintenance_until", stated=why, time=window.ends_at.astimezone(UTC).isoformat())
