"""What the pages of the incidents read from the database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import NamedTuple

import msgspec

from tentaculo.model.event import Event
from tentaculo.model.health import Health
from tentaculo.model.history import DAY, MINUTE
from tentaculo.model.incident import Incident, MaintenanceWindow, Note
from tentaculo.model.mute import Mute


class FailedMinute(NamedTuple):
    """How many requests of a service failed in a minute."""

    service: str
    start: int
    """Its first second since 1970."""
    failed: int


def is_uncounted(incident: Incident, since: datetime, until: datetime) -> bool:
    """Whether `incident` has minutes before `until` whose failed requests are not counted yet, the first from `since` on.

    What lies before `since` is no longer known, and half of a count says nothing.
    """
    end = until if incident.ended_at is None else min(until, incident.ended_at)
    return since <= incident.count_from < end


def count_failed(incident: Incident, failed: Mapping[str, Sequence[FailedMinute]], until: datetime) -> Incident:
    """`incident` with the failed requests of its services in its minutes up to `until`; `failed` is by service."""
    first, last = int(incident.count_from.timestamp()), int(until.timestamp())
    if incident.ended_at is not None:
        # The minute in which it ended counts, as does the one in which it began.
        last = min(last, ceil(incident.ended_at.timestamp() / MINUTE) * MINUTE)
    count = sum(
        minute.failed for name in incident.services for minute in failed.get(name, ()) if first <= minute.start < last
    )
    return replace(
        incident,
        failed_requests=(incident.failed_requests or 0) + count,
        counted_until=datetime.fromtimestamp(last, UTC),
    )


@dataclass(frozen=True, slots=True)
class IncidentSearch:
    """Which incidents are looked for."""

    since: datetime | None
    """Those that were open at this time or later; None is all that are stored."""
    service: str | None = None
    """Those that affected this service; None is all."""
    before: int | None = None
    """Ended ones with lower ids only: the next part of a list."""


@dataclass(frozen=True, slots=True)
class FoundIncidents:
    """A part of the incidents that were looked for, the newest first, without those that are part of another one."""

    open: tuple[Incident, ...] = ()
    ended: tuple[Incident, ...] = ()
    has_more: bool = False
    """Whether more ended ones follow."""
    notes: Mapping[int, tuple[Note, ...]] = field(default_factory=dict)
    """By incident, the oldest first."""


class IncidentSpan(NamedTuple):
    """How long one incident lasted."""

    started_at: datetime
    ended_at: datetime | None
    severity: Health


class IncidentTotals(msgspec.Struct, frozen=True):
    """How many incidents there were, and how long."""

    count: int = 0
    open: int = 0
    seconds: float = 0.0
    """In which at least one was open."""
    longest: float = 0.0
    """Seconds."""

    @classmethod
    def of(cls, spans: Iterable[IncidentSpan], since: datetime | None, now: datetime) -> IncidentTotals:
        """Those that were open at `since` or later. Of one that began earlier only the time from `since` on counts."""
        stretches: list[tuple[datetime, datetime]] = []
        still_open = 0
        for span in spans:
            start, end = span.started_at, max(span.ended_at or now, span.started_at)
            if since is None or end >= since:
                stretches.append((start if since is None else max(start, since), end))
                still_open += span.ended_at is None
        longest = max((end - start for start, end in stretches), default=timedelta())
        whole, reached = timedelta(), datetime.min.replace(tzinfo=UTC)
        for start, end in sorted(stretches):
            whole += max(end - max(start, reached), timedelta())
            reached = max(end, reached)
        return cls(len(stretches), still_open, whole.total_seconds(), longest.total_seconds())


class IncidentDay(NamedTuple):
    """What one day in UTC saw."""

    number: int
    """Days since 1970."""
    worst: Health | None
    """DOWN or DEGRADED of an incident, else MAINTENANCE, else None."""
    incidents: int
    is_known: bool
    """Whether anything was recorded on it."""


def incident_days(
    spans: Iterable[IncidentSpan],
    windows: Iterable[MaintenanceWindow],
    known: Collection[int],
    first: int,
    now: datetime,
) -> tuple[IncidentDay, ...]:
    """Each day from `first`, counted from 1970, to today. `known` are the days of which anything was recorded."""
    today = int(now.timestamp()) // DAY
    counts = dict.fromkeys(range(first, today + 1), 0)
    worst: dict[int, Health] = {}

    def days(start: datetime, end: datetime) -> range:
        return range(max(int(start.timestamp()) // DAY, first), min(int(end.timestamp()) // DAY, today) + 1)

    for window in windows:
        for day in days(window.starts_at, min(window.ends_at, now)):
            worst[day] = Health.MAINTENANCE
    for span in sorted(spans, key=lambda one: one.severity is Health.DOWN):
        for day in days(span.started_at, span.ended_at or now):
            worst[day] = span.severity
            counts[day] += 1
    return tuple(IncidentDay(day, worst.get(day), counts[day], day in known) for day in counts)


class IncidentSummary(msgspec.Struct, frozen=True):
    """The incidents of one service, or of all, without their texts."""

    totals: IncidentTotals = IncidentTotals()
    days: tuple[IncidentDay, ...] = ()


class IncidentContext(msgspec.Struct, frozen=True):
    """What one incident is compared with."""

    earlier: tuple[Incident, ...] = ()
    """The last incidents of the same root before it, the newest first."""
    before: tuple[Event, ...] = ()
    """The last events of services within `JUST_BEFORE` of its beginning, the newest first."""
    mutes: tuple[Mute, ...] = ()
    """Its own mutes, the oldest first."""
