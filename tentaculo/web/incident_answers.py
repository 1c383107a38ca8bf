"""What a person asks about one incident, in sentences and numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from tentaculo.model.incident import DeliveryOutcome, Incident
from tentaculo.model.incident_past import IncidentContext
from tentaculo.model.text import printable
from tentaculo.web import incident_words, reasons, wording
from tentaculo.web.languages import Language
from tentaculo.web.sentences import Piece, Sentence, clock, joined, sentence
from tentaculo.web.service_page import Fact
from tentaculo.web.summary import lasted_because
from tentaculo.web.timeline import event_path, event_title
from tentaculo.web.viewer import Viewer


def lead(incident: Incident, now: datetime, t: Language) -> Sentence:
    """The sentences below the headline."""
    start = clock(incident.started_at, now, t)
    if incident.ended_at is None:
        found = [sentence(t, "summary.since", since=start)]
    else:
        end = clock(incident.ended_at, now, t)
        found = [sentence(t, "incident.from_to", start=start, end=end)]
    if incident.affected:
        found.append([Piece(incident_words.failed_with(incident, t), is_strong=True)])
    if incident.part_of is not None:
        whole = Piece(t("incident.numbered", id=str(incident.part_of)), href=incident_words.path(incident.part_of))
        found.append(sentence(t, "incident.part_of", incident=whole))
    return joined(found)


def answers(
    incident: Incident, context: IncidentContext, viewer: Viewer, *, is_known: bool, now: datetime
) -> list[tuple[str, Sentence]]:
    """What a person asks first: question and answer."""
    t = viewer.texts
    why = reasons.said(incident.reason, incident.cause, t, incident_words.REASON_LENGTH)
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
        return sentence(t, "summary.not_read")
    if not context.before:
        return sentence(t, "summary.no_event_before")
    event = context.before[0]
    gap = t.duration((incident.started_at - event.received_at).total_seconds())
    return sentence(
        t,
        "summary.event_before",
        event=Piece(event_title(event, t), is_strong=True, href=event_path(event)),
        earlier=Piece(t("summary.earlier", duration=gap), at=event.received_at),
    )


def _notified(incident: Incident, viewer: Viewer, now: datetime) -> Sentence:
    t = viewer.texts
    if not viewer.is_signed_in:
        return [Piece(viewer.not_shown)]
    told = _told(incident, t, now)
    return joined(filter(None, (told, incident_words.muted(incident, now, t))))


def _told(incident: Incident, t: Language, now: datetime) -> Sentence:
    if not incident.notified:
        return incident_words.unnotified(incident, t)
    delivered = [one.first_at for one in incident.delivery_log if one.outcome is DeliveryOutcome.DELIVERED]
    first = min(delivered or [one.at for one in incident.notified.values()])
    names = [printable(name, 40) for name in incident.notified if name] or [t("summary.a_channel")]
    time = clock(first, now, t)
    return sentence(t, "incident.notified_first", names=wording.listed(names, t), time=time)


def _acknowledged(incident: Incident, viewer: Viewer, now: datetime) -> Sentence:
    found, t = incident.acknowledged, viewer.texts
    if found is None:
        return sentence(t, "incident.not_yet" if incident.is_open else "incident.no")
    time = clock(found.at, now, t)
    if not viewer.is_signed_in:
        return sentence(t, "incident.at", time=time)
    author = reasons.foreign(found.author, 80)
    if not found.note:
        return sentence(t, "incident.by_at", author=author, time=time)
    return sentence(t, "incident.by_at_note", author=author, time=time, note=reasons.foreign(found.note, 200))


def _last_time(context: IncidentContext, t: Language, *, is_known: bool, now: datetime) -> Sentence:
    if not is_known:
        return sentence(t, "summary.not_read")
    if not context.earlier:
        return sentence(t, "summary.never_known")
    last = context.earlier[0]
    day = Piece(wording.day(last.started_at, now, t), at=last.started_at, href=incident_words.path(last.id))
    duration = incident_words.lasted(last, now, t, units=1)
    return lasted_because(last, day, duration, t)


def facts(incident: Incident, now: datetime, t: Language) -> Iterator[Fact]:
    """The numbers, each with what it counts."""
    last = incident.reopened_at
    again = sentence(t, "incident.again_at", time=clock(last, now, t)) if last is not None else ""
    lasts = t("incident.lasts" if incident.is_open else "incident.lasted")
    yield Fact(lasts, incident_words.lasted(incident, now, t), "", again)
    yield _failed_requests(incident, now, t)
    peak = incident.peak_error_rate
    share = t("incident.worst_minute" if peak is not None else "incident.no_share")
    yield Fact(t("incident.at_worst"), wording.failed_share(peak, t), "down" if peak else "", share)
    names = wording.joined(incident.services, incident_words.MOST_NAMED, 80, t=t)
    yield Fact(t("incident.services"), t.number(len(incident.services)), "", names)
    times = t("incident.settle_time" if incident.reopened else "incident.not_again")
    yield Fact(t("incident.failed_again"), t.number(incident.reopened), "", times)


def _failed_requests(incident: Incident, now: datetime, t: Language) -> Fact:
    count, until, name = incident.failed_requests, incident.counted_until, t("incident.requests_lost")
    if count is None or until is None:
        return Fact(
            name, wording.NOTHING, "", t("incident.not_counted_yet" if incident.is_open else "incident.not_counted")
        )
    first = clock(incident.started_at.replace(second=0), now, t)
    more = sentence(t, "incident.lost_minutes", start=first, end=clock(until, now, t))
    return Fact(name, t.number(count), "down" if count else "", more)
