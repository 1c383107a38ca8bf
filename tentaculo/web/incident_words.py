"""Incidents in words: for whom may see everything, and for everybody. Pure.

Everybody may see when which service failed, and the reason's code and numbers, but no text of a service, no address and
no name of a person or a channel.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from tentaculo.model.incident import TEXT_LENGTH, DeliveryOutcome, DeliveryRecord, Incident, Note
from tentaculo.model.text import format_duration, join_names, printable
from tentaculo.web import wording

REASON_LENGTH = 300
MOST_NAMED = 5
"""Services that a sentence names."""
OVER = wording.State("up", "Over", "over", "up")
"""How an incident that ended is shown."""
_KINDS = {
    "incident.opened": "It began",
    "incident.changed": "More services fail",
    "incident.ended": "It is over",
    "incident.reminder": "Reminder",
}


def path(number: int) -> str:
    """The path of the page of an incident."""
    return f"/status/incidents/{number}"


def state(incident: Incident) -> wording.State:
    """How an incident is shown."""
    return wording.state_of(incident.severity) if incident.is_open else OVER


def what_failed(incident: Incident) -> str:
    """`hermes is down`, `hermes was degraded`."""
    verb = "is" if incident.is_open else "was"
    return f"{printable(incident.root, 80)} {verb} {wording.state_of(incident.severity).phrase}"


def lasted(incident: Incident, now: datetime, units: int = 2) -> str:
    """How long it lasts, or lasted."""
    return format_duration(((incident.ended_at or now) - incident.started_at).total_seconds(), units=units)


def reason(incident: Incident, *, is_private: bool) -> str:
    """Why the root failed; empty where everybody may not know. With `is_private` everything may be shown."""
    if is_private:
        return printable(incident.reason, REASON_LENGTH)
    try:
        return "" if incident.cause is None else printable(incident.cause.public, REASON_LENGTH)
    except (KeyError, ValueError):
        return ""  # a later version wrote a code or values that this one does not know


def ending(incident: Incident, *, is_private: bool) -> str:
    """How it ended; empty while it is open. What a service said of its recovery stands behind a colon."""
    text = incident.ending if is_private else incident.ending.partition(": ")[0]
    return sentence(printable(text, REASON_LENGTH))


def sentence(text: str) -> str:
    """`text` with a stop at its end."""
    return text if not text or text.endswith((".", "…")) else f"{text}."


def failed_with(incident: Incident) -> str:
    """`operator failed with it.`; empty where nothing else failed."""
    if not incident.affected:
        return ""
    names = join_names(incident.affected, MOST_NAMED, 80)
    if incident.is_open:
        return f"{names} {'fails' if len(incident.affected) == 1 else 'fail'} with it."
    return f"{names} failed with it."


def lost(incident: Incident) -> str:
    """`1,310 requests failed.`; empty where none is known."""
    return f"{wording.count_of(incident.failed_requests, 'request')} failed." if incident.failed_requests else ""


def muted(incident: Incident, now: datetime) -> str:
    """Until when its alerts are muted: `Alerts are muted until 14:30.`"""
    until = incident.muted.until if incident.muted is not None else None
    return (
        "Alerts are muted until it ends." if until is None else f"Alerts are muted until {wording.clock(until, now)}."
    )


def reopened(incident: Incident) -> str:
    """How often it failed again; empty where it did not."""
    if not incident.reopened:
        return ""
    return "It failed again once." if incident.reopened == 1 else f"It failed again {incident.reopened} times."


class SaidNote(NamedTuple):
    """A note, ready to be shown."""

    at: datetime
    when: str
    author: str
    text: str
    """With its line ends, where it is not cut."""


def said(note: Note, now: datetime, most: int | None = None) -> SaidNote:
    """`note` in printable characters; with `most` as one line of so many."""
    lines = (printable(line) for line in note.text[:TEXT_LENGTH].splitlines())
    text = "\n".join(lines) if most is None else printable(note.text, most)
    return SaidNote(note.at, wording.clock(note.at, now), printable(note.author, 80) or "Somebody", text)


def told(delivery: DeliveryRecord) -> str:
    """What a message of a channel said, and what became of it: `It began: delivered at the first attempt`."""
    about = _KINDS.get(delivery.kind, printable(delivery.kind, 40))
    if delivery.messages > 1:
        about = f"{about} ({delivery.messages} messages)"
    return f"{about}: {_outcome(delivery)}"


def _outcome(delivery: DeliveryRecord) -> str:
    attempts = wording.count_of(delivery.attempts, "attempt")
    match delivery.outcome:
        case DeliveryOutcome.DELIVERED if delivery.attempts == delivery.messages:
            return "delivered at the first attempt"
        case DeliveryOutcome.DELIVERED:
            return f"delivered after {attempts}"
        case DeliveryOutcome.REFUSED:
            return f"the receiver wants no more messages: {printable(delivery.error, 120)}"
        case DeliveryOutcome.FAILED:
            return f"given up after {attempts}: {printable(delivery.error, 120)}"


def without_private(incident: Incident) -> Incident:
    """The same as everybody may see it: with the public reason and ending, without channels and names of people."""
    return replace(
        incident,
        reason=reason(incident, is_private=False),
        ending=ending(incident, is_private=False),
        notified={},
        deliveries=(),
        muted=None,
        acknowledged=incident.acknowledged and replace(incident.acknowledged, author="", note=""),
    )
