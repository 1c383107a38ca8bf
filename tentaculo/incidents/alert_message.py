"""What alerts say, in words that a person can act on: what, since when, why, what it depends on, where to look. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from tentaculo.incidents.alert_policy import Notification, NotificationKind
from tentaculo.model.health import Health
from tentaculo.model.incident import Incident
from tentaculo.model.text import format_duration, format_time, join_names

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


def message(number: str, notification: Notification, context: MessageContext, now: datetime) -> Message:
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
