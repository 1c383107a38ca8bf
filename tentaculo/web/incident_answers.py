"""What a person asks about one incident, in sentences and numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from tentaculo.model.incident import DeliveryOutcome, Incident
from tentaculo.model.incident_past import IncidentContext
from tentaculo.model.text import format_duration, join_names, printable
from tentaculo.web import incident_words, wording
from tentaculo.web.overview import event_title
from tentaculo.web.public import AFTER_SIGN_IN
from tentaculo.web.service_page import Fact
from tentaculo.web.summary import Piece
from tentaculo.web.viewer import Viewer

_NOT_READ: Final = "Not known: the database cannot be read now."


def lead(incident: Incident, now: datetime) -> Iterator[Piece]:
    """The sentences below the headline."""
    started = Piece(wording.clock(incident.started_at, now), at=incident.started_at)
    if incident.ended_at is None:
        yield Piece("Since ")
        yield started
    else:
        yield Piece("From ")
        yield started
        yield Piece(" to ")
        yield Piece(wording.clock(incident.ended_at, now), at=incident.ended_at)
    yield Piece(". ")
    if incident.affected:
        yield Piece(f"{incident_words.failed_with(incident)} ", is_strong=True)
    if incident.part_of is not None:
        yield Piece("It is a part of ")
        yield Piece(f"incident {incident.part_of}", href=incident_words.path(incident.part_of))
        yield Piece(".")


def answers(
    incident: Incident, context: IncidentContext, viewer: Viewer, *, is_known: bool, now: datetime
) -> list[tuple[str, list[Piece]]]:
    """What a person asks first: question and answer."""
    return [
        ("Why", [Piece(printable(incident.reason, incident_words.REASON_LENGTH) or AFTER_SIGN_IN)]),
        ("How it ended", [Piece(incident_words.ending(incident, is_private=True) or "It is still open.")]),
        ("Just before", _just_before(incident, context, viewer, is_known=is_known)),
        ("Notified", _notified(incident, viewer, now)),
        ("Acknowledged", _acknowledged(incident, viewer, now)),
        ("Last time", _last_time(context, is_known=is_known, now=now)),
    ]


def _just_before(incident: Incident, context: IncidentContext, viewer: Viewer, *, is_known: bool) -> list[Piece]:
    if not viewer.is_signed_in:
        return [Piece(AFTER_SIGN_IN)]
    if not is_known:
        return [Piece(_NOT_READ)]
    if not context.before:
        return [Piece("No service sent an event in the 30 minutes before.")]
    event = context.before[0]
    gap = format_duration((incident.started_at - event.received_at).total_seconds(), units=1)
    return [Piece(event_title(event), is_strong=True), Piece(f", {gap} earlier", at=event.received_at)]


def _notified(incident: Incident, viewer: Viewer, now: datetime) -> list[Piece]:
    if not viewer.is_signed_in:
        return [Piece(AFTER_SIGN_IN)]
    muted = [Piece(f" {incident_words.muted(incident, now)}")] if incident.is_muted(now) else []
    return [*_told(incident, now), *muted]


def _told(incident: Incident, now: datetime) -> list[Piece]:
    if not incident.notified:
        failed = sorted({one.channel for one in incident.delivery_log if one.channel})
        if failed:
            return [Piece(f"Nobody: no message reached {join_names(failed, 3, 40)}.")]
        return [Piece("Nobody yet." if incident.is_open else "Nobody.")]
    delivered = [one.first_at for one in incident.delivery_log if one.outcome is DeliveryOutcome.DELIVERED]
    first = min(delivered or [one.at for one in incident.notified.values()])
    names = [printable(name, 40) for name in incident.notified if name] or ["an alert channel"]
    return [Piece(f"{wording.listed(names)}, first at "), Piece(wording.clock(first, now), at=first), Piece(".")]


def _acknowledged(incident: Incident, viewer: Viewer, now: datetime) -> list[Piece]:
    found = incident.acknowledged
    if found is None:
        return [Piece("Not yet." if incident.is_open else "No.")]
    at = Piece(wording.clock(found.at, now), at=found.at)
    if not viewer.is_signed_in:
        return [Piece("At "), at, Piece(".")]
    note = f": {printable(found.note, 200)}" if found.note else "."
    return [Piece(f"By {printable(found.author, 80)} at "), at, Piece(note)]


def _last_time(context: IncidentContext, *, is_known: bool, now: datetime) -> list[Piece]:
    if not is_known:
        return [Piece(_NOT_READ)]
    if not context.earlier:
        return [Piece("Never, as far as is known.")]
    last = context.earlier[0]
    lasted = incident_words.lasted(last, now, units=1)
    return [
        Piece(wording.day(last.started_at, now), at=last.started_at, href=incident_words.path(last.id)),
        Piece(f", for {lasted}: {printable(last.reason, 120)}" if last.reason else f", for {lasted}"),
    ]


def facts(incident: Incident, now: datetime) -> Iterator[Fact]:
    """The numbers, each with what it counts."""
    last = incident.reopened_at
    again = f"failed again last at {wording.clock(last, now)}" if last is not None else ""
    yield Fact("Lasts" if incident.is_open else "Lasted", incident_words.lasted(incident, now), "", again)
    yield _failed_requests(incident, now)
    peak = incident.peak_error_rate
    share = "of its requests and probes failed in the worst minute" if peak is not None else "no share is known"
    yield Fact("At worst", wording.failed_share(peak), "down" if peak else "", share)
    names = join_names(incident.services, incident_words.MOST_NAMED, 80)
    yield Fact("Services", f"{len(incident.services):,}", "", names)
    times = "It did not fail again" if not incident.reopened else "after a recovery of less than the settle time"
    yield Fact("Failed again", f"{incident.reopened:,}", "", times)


def _failed_requests(incident: Incident, now: datetime) -> Fact:
    count, until = incident.failed_requests, incident.counted_until
    if count is None or until is None:
        return Fact("Requests lost", wording.NOTHING, "", "not counted yet" if incident.is_open else "not counted")
    first = incident.started_at.replace(second=0)
    minutes = f"{wording.clock(first, now)} to {wording.clock(until, now)}"
    more = f"failed or refused, of all its services, in the minutes from {minutes}"
    return Fact("Requests lost", f"{count:,}", "down" if count else "", more)
