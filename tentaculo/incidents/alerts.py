"""Which alerts are due, from the incidents as they are now, and what they say. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from tentaculo.model.health import Health
from tentaculo.model.incident import Incident, NotificationState
from tentaculo.model.text import format_duration, format_time, join_names

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


MOST_TOLD = 20
"""Incidents that one message describes; of the others it says how many there are."""
MOST_SERVICES = 100
"""Services that are named of one incident, in the JSON; in the text they are fewer."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message, ready for every channel."""

    id: str
    """The same however often it is tried (Standard Webhooks, `webhook-id`)."""
    kind: NotificationKind
    title: str
    """One line."""
    text: str
    """Plain text of several lines; what came from services is in it, so a channel that shows more must escape it."""
    body: bytes
    """The same as JSON: `{"type", "timestamp", "data": {"title", "text", "page", "incidents"}}`."""


@dataclass(frozen=True, slots=True)
class MessageContext:
    """What messages say beside the incidents themselves."""

    page: str
    """The status page's address."""
    depends_on: Callable[[str], Iterable[tuple[str, str]]]
    """What a service depends on: names, each with its state in words."""


def compose_message(number: str, notification: Notification, context: MessageContext, now: datetime) -> Message:
    """The words of `notification`; `number` becomes the message's id."""
    told = notification.incidents[:MOST_TOLD]
    title = _title(notification.kind, notification.incidents, now)
    parts = [_paragraph(notification.kind, incident, context, now) for incident in told]
    if more := len(notification.incidents) - len(told):
        parts.append(f"And {more} more: {context.page}")
    data = {
        "incidents": [_shape(incident, context) for incident in told],
        "more_incidents": more,
    }
    return _message(number, notification.kind, title, "\n\n".join(parts), context.page, data, now)


def trial_message(number: str, page: str, now: datetime) -> Message:
    """The message of `tentaculo alerts test`."""
    text = f"This is a test, asked for by hand. Nothing is wrong.\nStatus page: {page}"
    return _message(
        number, NotificationKind.TEST, "A test of Tentáculo Link's alerts", text, page, {"incidents": []}, now
    )


def _message(
    number: str, kind: NotificationKind, title: str, text: str, page: str, data: dict[str, Any], now: datetime
) -> Message:
    shape = {"type": kind.value, "timestamp": now, "data": {"title": title, "text": text, "page": page, **data}}
    return Message(number, kind, title, text, msgspec.json.encode(shape))


def _title(kind: NotificationKind, incidents: Sequence[Incident], now: datetime) -> str:
    first, count = incidents[0], len(incidents)
    names = join_names([one.root for one in incidents], most=3)
    if kind is NotificationKind.ENDED:
        return (
            f"{first.root}: over after {_lasted(first, now)}" if count == 1 else f"{count} incidents are over: {names}"
        )
    if kind is NotificationKind.CHANGED and count == 1:
        return f"{first.root} {_state(first)}: {len(first.services) - first.told_services} more affected"
    still = "still " if kind is NotificationKind.REMINDER else ""
    if count == 1:
        others = f", and {len(first.affected)} with it" if first.affected else ""
        return f"{first.root} {_state(first, still)}{others}"
    if any(one.reopened for one in incidents):
        return f"{count} services {still}fail: {names}"
    down = "down" if any(one.severity is Health.DOWN for one in incidents) else "degraded"
    return f"{count} services are {still}{down}: {names}"


def _paragraph(kind: NotificationKind, incident: Incident, context: MessageContext, now: datetime) -> str:
    if kind is NotificationKind.ENDED:
        first = f"{incident.root} was {_was(incident)} from {format_time(incident.started_at, now)} for {_lasted(incident, now)}."
        lines = [first, incident.ending, f"It failed because: {incident.reason}"]
    else:
        since = f"{format_time(incident.started_at, now)} ({_lasted(incident, now)})"
        lines = [f"{incident.root} {_state(incident)} since {since}: {incident.reason}"]
        if depends := list(context.depends_on(incident.root)):
            lines.append(f"It depends on {join_names([f'{name} ({state})' for name, state in depends])}.")
    if incident.affected:
        word = "Also affected" if incident.is_open else "It also affected"
        lines.append(f"{word}: {join_names(incident.affected)}.")
    if incident.peak_error_rate is not None:
        lines.append(f"At worst {incident.peak_error_rate:.0%} of its calls and probes failed.")
    lines.append(f"See {link(context.page, incident.id)}")
    return "\n".join(lines)


def link(page: str, number: int) -> str:
    """Where the status page shows an incident."""
    return f"{page}#incident-{number}"


def _state(incident: Incident, still: str = "") -> str:
    if incident.reopened:
        return f"{still}keeps failing ({incident.reopened + 1} times)"
    return f"is {still}{_was(incident)}"


def _was(incident: Incident) -> str:
    return "down" if incident.severity is Health.DOWN else "degraded"


def _lasted(incident: Incident, now: datetime) -> str:
    return format_duration(((incident.ended_at or now) - incident.started_at).total_seconds())


def _shape(incident: Incident, context: MessageContext) -> dict[str, Any]:
    return {
        "id": incident.id,
        "root": incident.root,
        "services": incident.services[:MOST_SERVICES],
        "more_services": len(incident.services[MOST_SERVICES:]),
        "state": _was(incident),
        "reason": incident.reason,
        "started_at": incident.started_at,
        "ended_at": incident.ended_at,
        "ending": incident.ending,
        "reopened": incident.reopened,
        "peak_error_rate": incident.peak_error_rate,
        "depends_on": dict(context.depends_on(incident.root)),
        "url": link(context.page, incident.id),
    }
