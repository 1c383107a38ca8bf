"""Incidents in words: for whom may see everything, and for everybody. Pure.

Everybody may see when which service failed, and the reason's code and numbers, but no text of a service, no address and
no name of a person or a channel.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from tentaculo.model.health import state_name
from tentaculo.model.incident import TEXT_LENGTH, DeliveryOutcome, DeliveryRecord, Incident, Note
from tentaculo.model.text import printable
from tentaculo.web import languages, wording
from tentaculo.web.languages import Language

REASON_LENGTH = 300
MOST_NAMED = 5
"""Services that a sentence names."""
_KINDS = {
    "incident.opened": "incident.kind_opened",
    "incident.changed": "incident.kind_changed",
    "incident.ended": "incident.kind_ended",
    "incident.reminder": "incident.kind_reminder",
}


def path(number: int) -> str:
    """The path of the page of an incident."""
    return f"/status/incidents/{number}"


def over(t: Language) -> wording.State:
    """How an incident that ended is shown."""
    return wording.State.of("up", t("incident.over"))


def state(incident: Incident, t: Language) -> wording.State:
    """How an incident is shown."""
    return wording.state_of(incident.severity, t=t) if incident.is_open else over(t)


def predicate(incident: Incident, t: Language) -> str:
    """What is said of the root: `is down`, `was degraded`."""
    key = state_name(incident.severity)
    return wording.predicate(key, 1, t) if incident.is_open else t(f"incident.was_{key}")


def what_failed(incident: Incident, t: Language) -> str:
    """`hermes is down`, `hermes was degraded`."""
    return t("incident.is_so", root=printable(incident.root, 80), is_so=predicate(incident, t))


def lasted(incident: Incident, now: datetime, t: Language, units: int = 2) -> str:
    """How long it lasts, or lasted."""
    return t.duration(((incident.ended_at or now) - incident.started_at).total_seconds(), units)


def reason(incident: Incident, t: Language, *, is_private: bool) -> str:
    """Why the root failed; empty where everybody may not know. With `is_private` everything may be shown."""
    if is_private:
        return wording.said(incident.reason, incident.cause, t, REASON_LENGTH)
    cause = wording.public(incident.cause)
    return "" if cause is None else wording.said("", cause, t, REASON_LENGTH)


def ending(incident: Incident, t: Language, *, is_private: bool) -> str:
    """How it ended, as a sentence; empty while it is open. Of an earlier version everybody may know its beginning."""
    text, cause = incident.ending, incident.ending_cause
    if not is_private:
        text, cause = text.partition(": ")[0], wording.public(cause)
    return sentence(wording.said(text, cause, t, REASON_LENGTH))


def sentence(text: str) -> str:
    """`text` with a stop at its end."""
    return text if not text or wording.plain(text).endswith((".", "…")) else f"{text}."


def failed_with(incident: Incident, t: Language) -> str:
    """`operator failed with it.`; empty where nothing else failed."""
    if not incident.affected:
        return ""
    names = t.joined(incident.affected, MOST_NAMED, 80)
    if incident.is_open:
        return t("incident.fails_with_it", names=names, count=len(incident.affected))
    return t("incident.failed_with_it", names=names)


def lost(incident: Incident, t: Language) -> str:
    """`1,310 requests failed.`; empty where none is known."""
    return t("incident.requests_failed", count=incident.failed_requests) if incident.failed_requests else ""


def muted(incident: Incident, now: datetime, t: Language) -> languages.Sentence:
    """Until when its alerts are muted: `Alerts are muted until 14:30.` Empty where they are not."""
    if not incident.is_muted(now):
        return []
    until = incident.muted.until if incident.muted is not None else None
    if until is None:
        return t.sentence("actions.muted")
    return t.sentence("actions.muted_until", time=t.moment(until, now))


def unnotified(incident: Incident, t: Language) -> languages.Sentence:
    """Why nobody has a message about it: `Nobody: no message reached duty.`"""
    if failed := sorted({one.channel for one in incident.delivery_log if one.channel}):
        return t.sentence("incident.no_message_reached", names=t.joined(failed, 3, 40))
    return t.sentence("summary.nobody_yet" if incident.is_open else "incident.nobody")


def reopened(incident: Incident, t: Language) -> str:
    """How often it failed again; empty where it did not."""
    return t("activity.failed_again", count=incident.reopened) if incident.reopened else ""


class SaidNote(NamedTuple):
    """A note, ready to be shown."""

    at: datetime
    when: str
    author: str
    text: str
    """With its line ends, where it is not cut."""


def said(note: Note, now: datetime, t: Language, most: int | None = None) -> SaidNote:
    """`note` in printable characters; with `most` as one line of so many."""
    lines = (printable(line) for line in note.text[:TEXT_LENGTH].splitlines())
    text = "\n".join(lines) if most is None else printable(note.text, most)
    return SaidNote(note.at, t.clock(note.at, now), printable(note.author, 80) or t("summary.somebody"), text)


def attempted(delivery: DeliveryRecord, t: Language) -> str:
    """What a message of a channel said, and what became of it: `It began: delivered at the first attempt`."""
    key = _KINDS.get(delivery.kind)
    about = printable(delivery.kind, 40) if key is None else t(key)
    if delivery.messages > 1:
        about = t("incident.messages", about=about, count=delivery.messages)
    return t("incident.attempted", about=about, outcome=_outcome(delivery, t))


def _outcome(delivery: DeliveryRecord, t: Language) -> str:
    error = wording.foreign(delivery.error, 120)
    match delivery.outcome:
        case DeliveryOutcome.DELIVERED if delivery.attempts == delivery.messages:
            return t("incident.delivered_first")
        case DeliveryOutcome.DELIVERED:
            return t("incident.delivered_after", count=delivery.attempts)
        case DeliveryOutcome.REFUSED:
            return t("incident.refused", error=error)
        case DeliveryOutcome.FAILED:
            return t("incident.given_up_after", count=delivery.attempts, error=error)


def without_private(incident: Incident) -> Incident:
    """The same as everybody may see it: with the public reason and ending, without channels and names of people."""
    cause, ending_cause = wording.public(incident.cause), wording.public(incident.ending_cause)
    return replace(
        incident,
        reason="" if cause is None else str(cause),
        cause=cause,
        ending=incident.ending.partition(": ")[0] if ending_cause is None else str(ending_cause),
        ending_cause=ending_cause,
        notified={},
        deliveries=(),
        muted=None,
        acknowledged=incident.acknowledged and replace(incident.acknowledged, author="", note=""),
    )
