"""Decides which alerts are due, from the incidents as they are now. Pure.

The only state here is which incidents have an alert in progress. What was notified is a field of the incident, is
stored with it, and so survives a restart.

    opened     the incident has lasted `wait` seconds; one message names all incidents of that time
    changed    more services are affected than the last message named; at most every five minutes
    ended      it was notified, and has not reopened for a settle time
    reminder   it is still open, `remind` seconds after its last message
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from tentaculo.model.incident import Incident, NotificationState

CHANGES_EVERY = timedelta(minutes=5)
"""Least time between two messages that more services are affected by one incident."""

STALE = timedelta(days=1)
"""An incident that ended longer ago is not notified any more: the gateway or the channels were down meanwhile."""


class NotificationKind(StrEnum):
    """The kind of a message."""

    OPENED = "incident.opened"
    CHANGED = "incident.changed"
    ENDED = "incident.ended"
    REMINDER = "incident.reminder"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Notification:
    """One message that is due, with all incidents it is about."""

    kind: NotificationKind
    incidents: tuple[Incident, ...]

    @property
    def told(self) -> NotificationState:
        """The notification state of each incident after delivery."""
        return NotificationState.ENDED if self.kind is NotificationKind.ENDED else NotificationState.OPEN


class AlertPolicy:
    """Decides what is due. Times are in seconds, `remind` 0 is never."""

    def __init__(self, *, wait: float, remind: float, settle: float) -> None:
        self._wait = timedelta(seconds=wait)
        self._remind = timedelta(seconds=remind)
        self._settle = timedelta(seconds=settle)
        self._in_progress: set[int] = set()

    def __repr__(self) -> str:
        return f"<AlertPolicy: {len(self._in_progress)} incidents in progress>"

    def due(self, incidents: Iterable[Incident], now: datetime) -> list[Notification]:
        """The messages that are due at `now`. Their incidents get no further message until `done` is called."""
        known = [one for one in incidents if one.part_of is None and one.id not in self._in_progress]
        found: list[Notification] = []
        new = [one for one in known if one.told is NotificationState.NOTHING and self._is_live(one, now)]
        if any(now - one.started_at >= self._wait for one in new):
            found.append(Notification(NotificationKind.OPENED, tuple(new)))
        told = [one for one in known if one.told is NotificationState.OPEN and one.told_at is not None]
        for kind, is_due in (
            (NotificationKind.ENDED, self._is_over),
            (NotificationKind.CHANGED, self._has_grown),
            (NotificationKind.REMINDER, self._is_forgotten),
        ):
            ripe = tuple(one for one in told if is_due(one, now))
            if ripe:
                found.append(
                    Notification(kind, self._with_the_others(ripe, told) if kind is NotificationKind.REMINDER else ripe)
                )
                told = [one for one in told if one not in ripe]
        self._in_progress.update(one.id for notification in found for one in notification.incidents)
        return found

    def done(self, notification: Notification) -> None:
        """Record that the message was delivered or given up."""
        self._in_progress.difference_update(one.id for one in notification.incidents)

    def _is_live(self, incident: Incident, now: datetime) -> bool:
        """Whether the incident is open, or reopened before and ended less than a settle time ago."""
        return incident.is_open or (incident.reopened > 0 and not self._has_settled(incident, now))

    def _is_over(self, incident: Incident, now: datetime) -> bool:
        is_news = incident.ended_at is not None and now - incident.ended_at < STALE
        return is_news and self._has_settled(incident, now)

    def _has_settled(self, incident: Incident, now: datetime) -> bool:
        return incident.ended_at is not None and now - incident.ended_at >= self._settle

    def _has_grown(self, incident: Incident, now: datetime) -> bool:
        grown = incident.is_open and len(incident.services) > incident.told_services
        return grown and incident.told_at is not None and now - incident.told_at >= CHANGES_EVERY

    def _is_forgotten(self, incident: Incident, now: datetime) -> bool:
        if not self._remind or not incident.is_open or incident.told_at is None:
            return False
        return now - incident.told_at >= self._remind

    @staticmethod
    def _with_the_others(ripe: Iterable[Incident], told: Iterable[Incident]) -> tuple[Incident, ...]:
        """A reminder names every open incident, so that each does not cause a reminder of its own."""
        first = list(ripe)
        return (*first, *(one for one in told if one.is_open and one not in first))
