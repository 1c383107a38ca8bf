"""Which alerts are due on a channel, from the incidents as they are now, and what they say. Pure.

    opened     the incident has lasted `wait` seconds, or has become worse; one message names all of that time
    changed    more services are affected than the last message named; at most every five minutes
    ended      it was announced, and has not reopened for a settle time
    reminder   it is still open and nobody has acknowledged it, `remind` seconds after its last message

An early warning is no incident: its message is sent once, when it opens.

An open incident that a person has muted causes no message. Its end is announced where it was announced itself.

What a channel has delivered is a field of the incident, is stored with it, and so survives a restart. Only a delivered
message changes it: while a receiver is unavailable its messages stay due, each with what is true at the next attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from tentaculo.model.early_warning import EarlyWarning, name_of, sentence
from tentaculo.model.health import Health
from tentaculo.model.incident import Incident, NotificationState, Notified
from tentaculo.model.text import format_duration, format_time, join_names

CHANGES_EVERY = timedelta(minutes=5)
"""Least time between two messages that more services are affected by one incident."""
STALE = timedelta(days=1)
"""The end of an incident is not announced after this time: the gateway or the channel was unavailable meanwhile."""
MOST_DESCRIBED = 20
"""Incidents that one message describes; it gives the number of the others."""
MOST_SERVICES = 100
"""Services of one incident that the JSON names; the text names fewer."""


class NotificationKind(StrEnum):
    """The kind of a message."""

    OPENED = "incident.opened"
    CHANGED = "incident.changed"
    ENDED = "incident.ended"
    REMINDER = "incident.reminder"
    WARNING = "warning.opened"
    TEST = "test"


class Notification(msgspec.Struct, frozen=True):
    """One message that is due on a channel, with all incidents it is about, as they were when it became due."""

    kind: NotificationKind
    channel: str
    incidents: tuple[Incident, ...]
    warning: EarlyWarning | None = None
    """The early warning that it is about, in place of incidents."""

    def record(self, incident: Incident, at: datetime) -> Notified:
        """What the channel knows of `incident` once it has delivered this message."""
        state = NotificationState.ENDED if self.kind is NotificationKind.ENDED else NotificationState.OPEN
        return Notified(state, at, incident.severity, len(incident.services))


class AlertPolicy:
    """Decides what is due on one channel. Times are in seconds, `remind` 0 is never."""

    def __init__(self, channel: str, *, wait: float, remind: float, settle: float) -> None:
        self._channel = channel
        self._wait = timedelta(seconds=wait)
        self._remind = timedelta(seconds=remind)
        self._settle = timedelta(seconds=settle)

    def __repr__(self) -> str:
        return f"<AlertPolicy of {self._channel}>"

    def due(self, incidents: Iterable[Incident], now: datetime) -> list[Notification]:
        """The messages that are due at `now`."""
        opened: list[Incident] = []
        announced: list[tuple[Incident, Notified]] = []
        ended: list[Incident] = []
        for one in incidents:
            last = one.notified_by(self._channel)
            is_announced = last is not None and last.state is NotificationState.OPEN
            if one.is_muted(now):
                continue
            if last is None or not is_announced:
                if one.part_of is None and self._is_live(one, now):
                    opened.append(one)
            elif one.is_open and _is_worse(one.severity, last.severity):
                opened.append(one)
            elif self._has_settled(one, now):
                ended.extend([one] if self._is_news(one, now) else [])
            else:
                announced.append((one, last))
        found = []
        if any(_has_passed(one.started_at, self._wait, now) for one in opened):
            found.append(self._notification(NotificationKind.OPENED, opened))
        found.append(self._notification(NotificationKind.ENDED, (one for one in ended if one.is_recovery)))
        found.append(self._notification(NotificationKind.ENDED, (one for one in ended if not one.is_recovery)))
        grown = [one for one, last in announced if _has_grown(one, last, now)]
        found.append(self._notification(NotificationKind.CHANGED, grown))
        rest = [(one, last) for one, last in announced if one.is_open and one.acknowledged is None and one not in grown]
        # A reminder names every open incident that nobody has acknowledged, so that each does not cause a reminder of its own.
        if self._remind and any(_has_passed(last.at, self._remind, now) for _, last in rest):
            rest.sort(key=lambda pair: pair[1].at)
            found.append(self._notification(NotificationKind.REMINDER, [one for one, _ in rest]))
        return [notification for notification in found if notification.incidents]

    def _notification(self, kind: NotificationKind, incidents: Iterable[Incident]) -> Notification:
        return Notification(kind, self._channel, tuple(incidents))

    def _is_live(self, incident: Incident, now: datetime) -> bool:
        """Whether the incident is open, or reopened before and ended less than a settle time ago."""
        return incident.is_open or (incident.reopened > 0 and not self._has_settled(incident, now))

    def _has_settled(self, incident: Incident, now: datetime) -> bool:
        return incident.ended_at is not None and _has_passed(incident.ended_at, self._settle, now)

    @staticmethod
    def _is_news(incident: Incident, now: datetime) -> bool:
        return incident.ended_at is not None and now - incident.ended_at < STALE


def _has_passed(moment: datetime, span: timedelta, now: datetime) -> bool:
    """Whether `span` has passed since `moment`. A moment in the future comes from a clock that was set back since."""
    return now - moment >= span or moment > now


def _has_grown(incident: Incident, last: Notified, now: datetime) -> bool:
    grown = incident.is_open and len(incident.services) > last.services
    return grown and _has_passed(last.at, CHANGES_EVERY, now)


def _is_worse(severity: Health, before: Health) -> bool:
    return severity is Health.DOWN and before is not Health.DOWN


class Message(msgspec.Struct, frozen=True):
    """One message, ready for every channel."""

    id: str
    """The same at every attempt (Standard Webhooks, `webhook-id`)."""
    kind: NotificationKind
    title: str
    """One line."""
    text: str
    """Plain text of several lines. It contains text of services, so a channel that shows markup must escape it."""
    body: bytes
    """The same as JSON: `{"type", "timestamp", "data": {"title", "text", "page", "incidents"}}`."""


class MessageContext(msgspec.Struct, frozen=True):
    """What messages say besides the incidents."""

    page: str
    """The status page's address."""
    depends_on: Callable[[str], Iterable[tuple[str, str]]]
    """What a service depends on: names, each with its state in words."""


def compose_message(number: str, notification: Notification, context: MessageContext, now: datetime) -> Message:
    """The message for `notification`; `number` becomes its id."""
    if notification.warning is not None:
        return _warning_message(number, notification.warning, context.page, now)
    described = notification.incidents[:MOST_DESCRIBED]
    title = _title(notification, now)
    parts = [_paragraph(notification.kind, incident, context, now) for incident in described]
    if more := len(notification.incidents) - len(described):
        parts.append(f"And {more} more: {context.page}")
    data = {
        "incidents": [_shape(incident, context) for incident in described],
        "more_incidents": more,
    }
    return _message(number, notification.kind, title, "\n\n".join(parts), context.page, data, now)


def _warning_message(number: str, warning: EarlyWarning, page: str, now: datetime) -> Message:
    names = ("service", "signal", "opened_at", "level", "usual", "limit", "expected_at", "earliest_at", "latest_at")
    title = f"Early warning of {warning.service}: {name_of(warning.signal)} is on its way to its limit"
    address = f"{page}/services/{warning.service}"
    data = {
        "incidents": [],
        "more_incidents": 0,
        "warning": {name: getattr(warning, name) for name in names} | {"url": address},
    }
    return _message(number, NotificationKind.WARNING, title, f"{sentence(warning)}\nSee {address}", page, data, now)


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


def _title(notification: Notification, now: datetime) -> str:
    kind, incidents = notification.kind, notification.incidents
    roots = list(dict.fromkeys(one.root for one in incidents))
    first, count = incidents[0], len(roots)
    names = join_names(roots, most=3)
    if kind is NotificationKind.ENDED:
        return _title_of_end(first, names, count, now)
    if kind is NotificationKind.CHANGED and count == 1:
        last = first.notified_by(notification.channel)
        more = len(first.services) - (last.services if last else 0)
        return f"{first.root} {_state(first)}: {more} more affected"
    still = "still " if kind is NotificationKind.REMINDER else ""
    if count == 1:
        others = f", and {len(first.affected)} with it" if first.affected else ""
        return f"{first.root} {_state(first, still)}{others}"
    if any(one.reopened for one in incidents):
        return f"{count} services {still}fail: {names}"
    down = "down" if any(one.severity is Health.DOWN for one in incidents) else "degraded"
    return f"{count} services are {still}{down}: {names}"


def _title_of_end(first: Incident, names: str, count: int, now: datetime) -> str:
    if not first.is_recovery:
        return f"{names}: no longer monitored"
    return f"{first.root}: over after {_lasted(first, now)}" if count == 1 else f"{count} incidents are over: {names}"


def _paragraph(kind: NotificationKind, incident: Incident, context: MessageContext, now: datetime) -> str:
    if kind is NotificationKind.ENDED:
        first = f"{incident.root} was {_was(incident)} from {format_time(incident.started_at, now)} for {_lasted(incident, now)}."
        lines = [first, incident.ending, f"It failed because: {incident.reason}"]
    else:
        since = f"{format_time(incident.started_at, now)} ({_lasted(incident, now)})"
        lines = [f"{incident.root} {_state(incident)} since {since}: {incident.reason}"]
        if depends := list(context.depends_on(incident.root)):
            lines.append(f"It depends on {join_names([f'{name} ({state})' for name, state in depends])}.")
        if incident.acknowledged is not None:
            lines.append(f"Acknowledged by {incident.acknowledged.author}.")
    if incident.affected:
        word = "Also affected" if incident.is_open else "It also affected"
        lines.append(f"{word}: {join_names(incident.affected)}.")
    if incident.peak_error_rate is not None:
        lines.append(f"At worst {incident.peak_error_rate:.0%} of its calls and probes failed.")
    lines.append(f"See {link(context.page, incident.id)}")
    return "\n".join(lines)


def link(page: str, number: int) -> str:
    """The page of an incident; `page` is the status page's address."""
    return f"{page}/incidents/{number}"


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
        "acknowledged_by": None if incident.acknowledged is None else incident.acknowledged.author,
        "reopened": incident.reopened,
        "peak_error_rate": incident.peak_error_rate,
        "depends_on": dict(context.depends_on(incident.root)),
        "url": link(context.page, incident.id),
    }
