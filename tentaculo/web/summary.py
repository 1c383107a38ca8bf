"""What the overview says beside the rows: the worst true sentence, what else is wrong, what a person asks then, and what is
planned, switched and served. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from tentaculo.model.health import ServiceView
from tentaculo.model.incident import Incident, MaintenanceWindow, Note
from tentaculo.model.page import PageInfo, ServedConfiguration
from tentaculo.model.text import printable
from tentaculo.model.timeline import Timeline
from tentaculo.web import incident_words, wording
from tentaculo.web.languages import Language, Piece, Sentence, paragraph
from tentaculo.web.overview import Fleet, service_path
from tentaculo.web.timeline import event_path, event_title, lanes


def lead(fleet: Fleet) -> Iterator[Sentence]:
    """The sentences below the headline."""
    named, t = fleet.worst, fleet.t
    if not named:
        return
    if named[0].state not in wording.TROUBLES:
        yield from _calm_lead(fleet, named[0].state)
        return
    since = min(view.since for view in named)
    yield t.sentence("summary.since", since=t.moment(since, fleet.local_now))
    troubled = [view for view in fleet.services if view.state in wording.TROUBLES]
    affected = [view for view in troubled if view.root is not None]
    if affected:
        yield _affected(fleet, affected)
    named_ids = {id(view) for view in named}
    others = [view for view in troubled if view.root is None and id(view) not in named_ids]
    for key in sorted({view.state for view in others}, key=wording.RANKS.__getitem__):
        names = [view.name for view in others if view.state == key]
        who = f"{t.listed(names)} {wording.predicate(key, len(names), t)}"
        yield t.sentence("summary.other_reason", len(names), who=Piece(who, is_strong=True))
    up = len([view for view in fleet.services if view.state == "up"])
    if up:
        yield t.sentence("summary.others_up", up)


def _affected(fleet: Fleet, affected: Sequence[ServiceView]) -> Sentence:
    """What fails with the worst: `a and b fail with it: 38 % of the requests, 16 a minute.`"""
    t = fleet.t
    names = t.listed([view.name for view in affected])
    who = Piece(t("summary.fails_with_it", names=names, count=len(affected)), is_strong=True)
    rates = [fleet.past.rates[view.name] for view in affected if view.name in fleet.past.rates]
    failed = sum(one.requests.failed for one in rates)
    if not failed:
        return t.sentence("summary.affected", who=who)
    share = failed / (failed + sum(one.requests.ok for one in rates))
    a_minute = sum(one.per_minute(one.requests.failed) or 0.0 for one in rates)
    return t.sentence("summary.affected_lost", who=who, share=t.failed_share(share), rate=t.rate(a_minute))


def _calm_lead(fleet: Fleet, key: str) -> Iterator[Sentence]:
    t = fleet.t
    counts = [fleet.past.rates[view.name] for view in fleet.services if view.name in fleet.past.rates]
    total = sum(one.per_minute(one.requests.ok + one.requests.failed) or 0.0 for one in counts)
    up = len([view for view in fleet.services if view.state == "up"])
    if key == "up" and total:
        failed = sum(one.requests.failed for one in counts)
        share = failed / (failed + sum(one.requests.ok for one in counts))
        said = t("summary.part_fails", share=t.failed_share(share)) if failed else t("summary.none_fails")
        rate = t.rate(total)
        yield t.sentence("summary.serve", up, rate=rate, failed=Piece(said, is_strong=True))
    elif up:
        yield t.sentence("summary.are_up", up)
    ended = next((one for one, _ in fleet.incidents if not one.is_open), None)
    if ended is not None and ended.ended_at is not None:
        yield t.sentence(
            "summary.last_incident",
            ago=Piece(t.ago(ended.ended_at, fleet.now), at=ended.ended_at),
            root=printable(ended.root, 80),
            duration=t.duration((ended.ended_at - ended.started_at).total_seconds()),
        )


def answers(fleet: Fleet) -> list[tuple[str, Sentence]]:
    """What a person asks first about the worst trouble: question and answer. Empty where there is no trouble."""
    named = fleet.worst
    if not named or named[0].state not in wording.TROUBLES:
        return []
    view, t = named[0], fleet.t
    known = fleet.open_incident(view.name)
    incident, notes = known if known is not None else (None, ())
    reason = wording.said(incident.reason, incident.cause, t, 200) if incident else wording.reason(view, t, 200)
    return [
        (t("summary.why"), [Piece(reason or fleet.not_shown)]),
        (t("summary.just_before"), _just_before(fleet, view, incident)),
        (t("summary.notified"), _notified(fleet, incident, notes)),
        (t("summary.last_time"), _last_time(fleet, view)),
    ]


class Button(NamedTuple):
    """A page that a person may want next."""

    text: str
    href: str
    """A path of this page, a fragment, or the address of a runbook."""


def buttons(fleet: Fleet) -> Iterator[Button]:
    """Where more is said of the worst trouble. Empty where there is no trouble."""
    named, t = fleet.worst, fleet.t
    if not named or named[0].state not in wording.TROUBLES:
        return
    name = named[0].name
    if (known := fleet.open_incident(name)) is not None:
        yield Button(t("summary.incident"), incident_words.path(known[0].id))
    yield Button(t("incident.in_detail", root=printable(name, 80)), service_path(name))
    found = list(contacts(fleet))
    if len(found) == 1 and found[0].runbook:
        yield Button(t("common.runbook"), found[0].runbook)


class Contact(NamedTuple):
    """Who takes care of a service with trouble, and what to do about it."""

    service: str
    owner: str
    runbook: str


def contacts(fleet: Fleet) -> Iterator[Contact]:
    """Those of the services that the headline names."""
    for name in fleet.named:
        info = fleet.info.of(name)
        if info.owner or info.runbook:
            yield Contact(printable(name, 80), info.owner, info.runbook)


class SwitchedRow(NamedTuple):
    """A service that is switched on or off for a time, ready to be shown."""

    service: str
    is_on: bool
    until: datetime
    clock: str


MOST_WINDOWS: Final = 10
"""Maintenance windows that are listed."""
MOST_SWITCHED: Final = 10
"""Services that are switched for a time and shown on the overview at most; each service page shows its own."""


def switched_rows(info: PageInfo, now: datetime, t: Language, service: str | None = None) -> list[SwitchedRow]:
    """What is switched on or off for a time, of one service or of all. `now` is in the zone of the pages."""
    return [
        SwitchedRow(printable(name, 80), one.is_on, one.until, t.clock(one.until, now))
        for name, one in info.switched
        if service in (None, name) and one.until > now
    ][:MOST_SWITCHED]


@dataclass(frozen=True, slots=True)
class WindowRow:
    """One maintenance, ready to be shown."""

    number: int | None
    """None for one of the configuration, which is changed there."""
    holds: bool
    services: str
    reason: str
    starts_at: datetime
    starts: str
    ends_at: datetime
    ends: str
    fields: Mapping[str, str]
    """What a form says that changes it, by the names of its fields."""


@dataclass(frozen=True, slots=True)
class ServedRow:
    """Which configuration is served, in words."""

    served: ServedConfiguration
    since: str
    by: str
    refused: str
    """When the last reload was refused; empty where it was not."""
    refused_by: str


def served_row(served: ServedConfiguration | None, now: datetime, t: Language) -> ServedRow | None:
    """`served` with its times in the zone of `now`."""
    if served is None:
        return None
    refused = served.refused_at
    return ServedRow(
        served,
        t.clock(served.since, now),
        _by(served.by, t),
        "" if refused is None else t.clock(refused, now),
        _by(served.refused_by, t),
    )


_BY: Final = {"start": "overview.by_start", "file change": "overview.by_file"}
"""What changes the configuration, beside signals and callers, and the key of its text."""


def _by(what: str, t: Language) -> str:
    return t(_BY[what]) if what in _BY else what


def window_row(window: MaintenanceWindow, now: datetime, t: Language) -> WindowRow:
    """`window` in words, with its times in the zone of `now`."""
    zone = now.tzinfo
    return WindowRow(
        number=window.id,
        holds=window.holds(now),
        services=t.joined(window.services, longest=80) or t("overview.every_service"),
        reason=wording.foreign(window.reason, 200),
        starts_at=window.starts_at,
        starts=t.clock(window.starts_at, now),
        ends_at=window.ends_at,
        ends=t.clock(window.ends_at, now),
        fields={
            "reason": window.reason,
            "starts": f"{window.starts_at.astimezone(zone):%Y-%m-%dT%H:%M}",
            "ends": f"{window.ends_at.astimezone(zone):%Y-%m-%dT%H:%M}",
        },
    )


def _just_before(fleet: Fleet, view: ServiceView, incident: Incident | None) -> Sentence:
    t = fleet.t
    if fleet.is_public:
        return [Piece(fleet.not_shown)]
    if fleet.timeline is None:
        return t.sentence("summary.not_read")
    event = fleet.timeline.just_before.get(view.name)
    if event is None:
        return t.sentence("summary.no_event_before")
    began = incident.started_at if incident is not None else view.since
    gap = t.duration((began - event.received_at).total_seconds())
    return t.sentence(
        "summary.event_before",
        event=Piece(event_title(event, t), is_strong=True, href=event_path(event)),
        earlier=Piece(t("summary.earlier", duration=gap), at=event.received_at),
    )


def _notified(fleet: Fleet, incident: Incident | None, notes: Sequence[Note]) -> Sentence:
    t = fleet.t
    if fleet.is_public:
        return paragraph([[Piece(fleet.not_shown)], *_acknowledged(fleet, incident)])
    if incident is None:
        found = [t.sentence("summary.nobody")]
    elif not incident.notified:
        found = [incident_words.unnotified(incident, t)]
    else:
        at = min(one.at for one in incident.notified.values())
        names = [name for name in incident.notified if name] or [t("summary.a_channel")]
        time = t.moment(at, fleet.local_now)
        found = [t.sentence("summary.notified_at", names=t.listed(names), time=time)]
    said = list(_acknowledged(fleet, incident))
    if not said and not notes and incident is not None and incident.notified:
        said = [t.sentence("summary.not_acknowledged")]
    found += said
    if incident is not None and (muted := incident_words.muted(incident, fleet.local_now, t)):
        found.append(muted)
    if notes:
        last = max(notes, key=lambda note: note.at)
        time = t.moment(last.at, fleet.local_now)
        author = wording.foreign(last.author, 40) or t("summary.somebody")
        found.append(t.sentence("summary.note_at", author=author, time=time))
    return paragraph(found)


def _acknowledged(fleet: Fleet, incident: Incident | None) -> Iterator[Sentence]:
    """Who takes care of it, where somebody does. For everybody the name is empty."""
    if incident is not None and (found := incident.acknowledged) is not None:
        author = wording.foreign(found.author, 40) or fleet.t("summary.somebody")
        time = fleet.t.moment(found.at, fleet.local_now)
        yield fleet.t.sentence("summary.acknowledged_at", author=author, time=time)


def _last_time(fleet: Fleet, view: ServiceView) -> Sentence:
    t = fleet.t
    if fleet.timeline is None:
        return t.sentence("summary.not_read")
    last = fleet.timeline.earlier.get(view.name)
    if last is None:
        return t.sentence("summary.never_known")
    day = t.day(last.started_at, fleet.local_now)
    duration = t.duration(((last.ended_at or last.seen_at) - last.started_at).total_seconds())
    return lasted_because(last, Piece(day, at=last.started_at, href=incident_words.path(last.id)), duration, t)


def lasted_because(incident: Incident, day: Piece, duration: str, t: Language) -> Sentence:
    """When an incident was, how long it lasted, and why, where that is shown."""
    reason = wording.said(incident.reason, incident.cause, t, 120)
    if not reason:
        return t.sentence("incident.last_time", day=day, duration=duration)
    return t.sentence("summary.last_time_lasted", day=day, duration=duration, reason=reason)


def summarise(fleet: Fleet) -> Iterator[tuple[str, Any]]:
    """What the page says of the whole fleet, name by name."""
    named, t = fleet.worst, fleet.t
    state = wording.state(named[0].state if named else "off", t)
    yield "state", state
    yield "headline", printable(wording.headline(fleet.services, t, named), 160)
    since = (min if state.is_trouble else max)([view.since for view in named], default=None)
    yield "since", since
    yield "lasted", "" if since is None else t.duration((fleet.now - since).total_seconds())
    yield "answers", answers(fleet)
    yield "buttons", list(buttons(fleet))
    yield "contacts", list(contacts(fleet))
    yield "switched", switched_rows(fleet.info, fleet.local_now, t)
    past = fleet.timeline or Timeline()
    yield "lanes", lanes(fleet.axis, past, fleet.incidents, fleet.windows, fleet.now, t)
    yield "ticks", fleet.axis.ticks(fleet.range.tick, t)
