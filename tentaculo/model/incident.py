"""Frozen values of what went wrong and of what is planned: incidents, their notes, maintenance windows.

Nothing here does I/O or knows a room. Times are UTC and timezone-aware. Text comes from outside: it is bounded where it
is taken in, and escaped where it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tentaculo.model.health import Health


class NotificationState(StrEnum):
    """What an alert has last told of an incident."""

    NOTHING = "nothing"
    OPEN = "open"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Incident:
    """One failure of one service, with all that failed because of it."""

    id: int
    """Milliseconds since 1970 at which it was noted; grows strictly and fits in 53 bits, so JavaScript can hold it."""
    root: str
    """The service whose failure it is."""
    services: tuple[str, ...]
    """Every service affected so far, the root first, then the others in the order in which they failed."""
    severity: Health
    """The worst so far: DOWN or DEGRADED."""
    reason: str
    """Why the root fails, in words, as last known."""
    started_at: datetime
    seen_at: datetime
    """When it was last seen to go on, to the minute: what a restart of the gateway can vouch for."""
    ended_at: datetime | None = None
    """None while it is open."""
    ending: str = ""
    """How it ended, in words; empty while it is open."""
    peak_error_rate: float | None = None
    """The highest share (0 to 1) of failures among the root's requests and probes in any minute of it."""
    reopened: int = 0
    """How often it was over, and came back before it had settled."""
    part_of: int | None = None
    """The incident that took this one up, where another service's failure turned out to explain it."""
    told: NotificationState = NotificationState.NOTHING
    told_at: datetime | None = None
    """When an alert last told of it."""
    told_services: int = 0
    """How many of `services` alerts have told of."""

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.ended_at is None

    @property
    def affected(self) -> tuple[str, ...]:
        """The services that failed because of the root."""
        return self.services[1:]


@dataclass(frozen=True, slots=True)
class Note:
    """What a person wrote about an incident."""

    id: int
    incident: int
    at: datetime
    author: str
    text: str


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    """A planned maintenance: while it holds, its services are in maintenance and nothing alerts of them."""

    services: tuple[str, ...]
    """Canonical names; empty is every service."""
    starts_at: datetime
    ends_at: datetime
    """The first moment at which it no longer holds."""
    reason: str
    author: str = ""
    id: int | None = None
    """Its number in the database; None where the configuration says it."""

    def holds(self, now: datetime) -> bool:
        """Whether it is the time of this window."""
        return self.starts_at <= now < self.ends_at

    def covers(self, service: str) -> bool:
        """Whether `service` is one of its services."""
        return not self.services or service in self.services
