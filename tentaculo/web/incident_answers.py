"""What a person asks about one incident, in sentences and numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from tentaculo.model.incident import DeliveryOutcome, Incident
from tentaculo.model.incident_past import IncidentContext
from tentaculo.model.text import printable
from tentaculo.web import incident_words, wording
from tentaculo.web.languages import NOTHING, Language, Piece, Sentence, paragraph
from tentaculo.web.service_page import Fact
from tentaculo.web.summary import lasted_because
from tentaculo.web.timeline import event_path, event_title
from tentaculo.web.viewer import Viewer


def lead(incident: Incident, now: datetime, t: Language) -> Sentence:
    """The sentences below the headline."""
    start = t.moment(incident.started_at, now)
    if incident.ended_at is None:
        found = [t.sentence("summary.since", since=start)]
    else:
        end = t.moment(incident.ended_at, now)
        found = [t.sentence("incident.from_to", start=start, end=end)]
    if incident.affected:
        found.append([Piece(incident_words.failed_with(incident, t), is_strong=True)])
    if incident.part_of is not None:
        whole = Piece(t("incident.numbered", id=str(incident.part_of)), href=incident_words.path(incident.part_of))
        found.append(t.sentence("incident.part_of", incident=whole))
    return paragraph(found)


def answers(
    incident: Incident, context: IncidentContext, viewer: Viewer, *, is_known: bool, now: datetime
) -> list[tuple[str, Sentence]]:
    """What a person asks first: question and answer."""
    t = viewer.texts
    why = wording.said(incident.reason, incident.cause, t, incident_words.REASON_LENGTH)
    ending = incident_words.ending(incident, t, is_private=True)
    return [
        (t("summary.why"), [Piece(why or viewer.not_shown)]),
        (t("incident.how_it_ended"), [Piece(ending or t("incident.still_open"))]),
        (t("summary.just_before"), _just_before(incident, context, viewer, is_known=is_known)),
        (t("summary.notified"), _notified(incident, viewer, now)),
        (t("incident.acknowledged"), _acknowledged(incident, viewer, now)),
        (t("summary.last_time"), _last_time(context, t, is_known=is_known, now=now)),
    ]


def _just_before(incident: Incident, context: IncidentContext, viewer: Viewer, *, is_known: bool) -> Sentence:
    t = viewer.texts
    if not viewer.is_signed_in:
        return [Piece(viewer.not_shown)]
    if not is_known:
        return t.sentence("summary.not_read")
    if not context.before:
        return t.sentence("summary.no_event_before")
    event = context.before[0]
    gap = t.duration((incident.started_at - event.received_at).total_seconds())
    return t.sentence(
        "summary.event_before",
        event=Piece(event_title(event, t), is_strong=True, href=event_path(event)),
        earlier=Piece(t("summary.earlier", duration=gap), at=event.received_at),
    )


def _notified(incident: Incident, viewer: Viewer, now: datetime) -> Sentence:
    t = viewer.texts
    if not viewer.is_signed_in:
        return [Piece(viewer.not_shown)]
    told = _told(incident, t, now)
    return paragraph(filter(None, (told, incident_words.muted(incident, now, t))))


def _told(incident: Incident, t: Language, now: datetime) -> Sentence:
    if not incident.notified:
        return incident_words.unnotified(incident, t)
    delivered = [one.first_at for one in incident.delivery_log if one.outcome is DeliveryOutcome.DELIVERED]
    first = min(delivered or [one.at for one in incident.notified.values()])
    names = [printable(name, 40) for name in incident.notified if name] or [t("summary.a_channel")]
    time = t.moment(first, now)
    return t.sentence("incident.notified_first", names=t.listed(names), time=time)


def _acknowledged(incident: Incident, viewer: Viewer, now: datetime) -> Sentence:
    found, t = incident.acknowledged, viewer.texts
    if found is None:
        return t.sentence("incident.not_yet" if incident.is_open else "incident.no")
    time = t.moment(found.at, now)
    if not viewer.is_signed_in:
        return t.sentence("incident.at", time=time)
    author = wording.foreign(found.author, 80)
    if not found.note:
        return t.sentence("incident.by_at", author=author, time=time)
    return t.sentence("incident.by_at_note", author=author, time=time, note=wording.foreign(found.note, 200))


def _last_time(context: IncidentContext, t: Language, *, is_known: bool, now: datetime) -> Sentence:
    if not is_known:
        return t.sentence("summary.not_read")
    if not context.earlier:
        return t.sentence("summary.never_known")
    last = context.earlier[0]
    day = Piece(t.day(last.started_at, now), at=last.started_at, href=incident_words.path(last.id))
    duration = incident_words.lasted(last, now, t, units=1)
    return lasted_because(last, day, duration, t)


def facts(incident: Incident, now: datetime, t: Language) -> Iterator[Fact]:
    """The numbers, each with what it counts."""
    last = incident.reopened_at
    again = t.sentence("incident.again_at", time=t.moment(last, now)) if last is not None else ""
    lasts = t("incident.lasts" if incident.is_open else "incident.lasted")
    yield Fact(lasts, incident_words.lasted(incident, now, t), "", again)
    yield _failed_requests(incident, now, t)
    peak = incident.peak_error_rate
    share = t("incident.worst_minute" if peak is not None else "incident.no_share")
    yield Fact(t("incident.at_worst"), t.failed_share(peak), "down" if peak else "", share)
    names = t.joined(incident.services, incident_words.MOST_NAMED, 80)
    yield Fact(t("incident.services"), t.number(len(incident.services)), "", names)
    times = t("incident.settle_time" if incident.reopened else "incident.not_again")
    yield Fact(t("incident.failed_again"), t.number(incident.reopened), "", times)


def _failed_requests(incident: Incident, now: datetime, t: Language) -> Fact:
    count, until, name = incident.failed_requests, incident.counted_until, t("incident.requests_lost")
    if count is None or until is None:
        return Fact(name, NOTHING, "", t("incident.not_counted_yet" if incident.is_open else "incident.not_counted"))
    first = t.moment(incident.started_at.replace(second=0), now)
    more = t.sentence("incident.lost_minutes", start=first, end=t.moment(until, now))
    return Fact(name, t.number(count), "down" if count else "", more)
