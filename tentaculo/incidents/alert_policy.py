"""Who is to be told of what, and when: from the incidents as they are now to the messages that are due. Pure.

Nothing is remembered here but which incidents a message is under way for. What has been told of an incident stands in
the incident itself, is stored with it, and so outlives a restart.

    opened     it has gone on for `wait` seconds; all that fell by then are in one message
    changed    more services are affected than were told, at most every five minutes
    ended      it was told, and has not come back for a settle time
    reminder   it is still open, `remind` seconds after it was last told
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from tentaculo.model.incident import Incident, NotificationState

CHANGES_EVERY = timedelta(minutes=5)
"""How often at most it is told that more services are affected by the same incident."""

STALE = timedelta(days=1)
"""An end that could not be told for so long, since nobody was there to tell or to be told, is no news any more."""


class NotificationKind(StrEnum):
    """What a message tells."""

    OPENED = "incident.opened"
    CHANGED = "incident.changed"
    ENDED = "incident.ended"
    REMINDER = "incident.reminder"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Notification:
    """One message that is due: incidents of which the same thing is to be told."""

    kind: NotificationKind
    incidents: tuple[Incident, ...]

    @property
    def told(self) -> NotificationState:
        """What has been told of each once this is delivered."""
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
        """The messages that are due at `now`; each of their incidents is left alone until `done` says how it went."""
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
        """The message has been delivered, or given up."""
        self._in_progress.difference_update(one.id for one in notification.incidents)

    def _is_live(self, incident: Incident, now: datetime) -> bool:
        """Whether it goes on. One that comes and goes does, also in the moments in between."""
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
        """A reminder names everything that is open, so that several do not each come at an hour of their own."""
        first = list(ripe)
        return (*first, *(one for one in told if one.is_open and one not in first))
