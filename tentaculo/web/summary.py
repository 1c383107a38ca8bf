"""What the overview says first: the worst true sentence, what else is wrong, and what a person asks then. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from tentaculo.model.health import ServiceView
from tentaculo.model.incident import Incident, Note
from tentaculo.model.text import format_duration, printable
from tentaculo.web import incident_words, overview, wording
from tentaculo.web.overview import Fleet, event_title
from tentaculo.web.public import AFTER_SIGN_IN


class Piece(NamedTuple):
    """A part of a sentence."""

    text: str
    is_strong: bool = False
    at: datetime | None = None
    """The moment that `text` is, where it is one."""
    href: str = ""


def lead(fleet: Fleet) -> Iterator[Piece]:
    """The sentences below the headline."""
    named = wording.worst(fleet.services)
    if not named:
        return
    state = wording.state(named[0])
    if not state.is_trouble:
        yield from _calm_lead(fleet, state)
        return
    since = min(view.since for view in named)
    yield Piece("Since ")
    yield Piece(wording.clock(since, fleet.local_now), at=since)
    yield Piece(". ")
    troubled = [view for view in fleet.services if wording.state(view).is_trouble]
    affected = [view for view in troubled if view.root is not None]
    if affected:
        verb = "fails" if len(affected) == 1 else "fail"
        yield Piece(f"{wording.listed([view.name for view in affected])} {verb} with it", is_strong=True)
        yield Piece(f"{_losses(fleet, affected)}. ")
    named_ids = {id(view) for view in named}
    others = [view for view in troubled if view.root is None and id(view) not in named_ids]
    for key in dict.fromkeys(wording.state(view).key for view in sorted(others, key=wording.rank)):
        same = [view for view in others if wording.state(view).key == key]
        verb = "is" if len(same) == 1 else "are"
        phrase = wording.state(same[0]).phrase
        yield Piece(f"{wording.listed([view.name for view in same])} {verb} {phrase}", is_strong=True)
        yield Piece(" for another reason. " if len(same) == 1 else " for other reasons. ")
    up = sum(wording.state(view).key == "up" for view in fleet.services)
    if up:
        yield Piece(f"{wording.count_of(up, 'other')} {'is' if up == 1 else 'are'} up.")


def _losses(fleet: Fleet, affected: Sequence[ServiceView]) -> str:
    """How many of the requests of `affected` fail: `: 38 % of the requests, 16 a minute`."""
    rates = [fleet.rates[view.name] for view in affected if view.name in fleet.rates]
    failed = sum(one.requests.failed for one in rates)
    total = failed + sum(one.requests.ok for one in rates)
    if not failed:
        return ""
    a_minute = sum(one.per_minute(one.requests.failed) or 0.0 for one in rates)
    return f": {wording.failed_share(failed / total)} of the requests, {wording.rate(a_minute)} a minute"


def _calm_lead(fleet: Fleet, state: wording.State) -> Iterator[Piece]:
    counts = [fleet.rates[view.name] for view in fleet.services if view.name in fleet.rates]
    total = sum(one.per_minute(one.requests.ok + one.requests.failed) or 0.0 for one in counts)
    up = sum(wording.state(view).key == "up" for view in fleet.services)
    if state.key == "up" and total:
        failed = sum(one.requests.failed for one in counts)
        whole = failed + sum(one.requests.ok for one in counts)
        verb = "serves" if up == 1 else "serve"
        yield Piece(f"{wording.count_of(up, 'service')} {verb} {wording.rate(total)} requests a minute; ")
        yield Piece(
            f"{wording.failed_share(failed / whole)} of them fail" if failed else "none of them fails", is_strong=True
        )
        yield Piece(". ")
    elif up:
        yield Piece(f"{wording.count_of(up, 'service')} {'is' if up == 1 else 'are'} up. ")
    ended = next((one for one, _ in fleet.incidents if not one.is_open), None)
    if ended is not None and ended.ended_at is not None:
        yield Piece("The last incident ended ")
        yield Piece(wording.ago(ended.ended_at, fleet.now), at=ended.ended_at)
        lasted = format_duration((ended.ended_at - ended.started_at).total_seconds(), units=1)
        yield Piece(f": {printable(ended.root, 80)}, {lasted}.")


def answers(fleet: Fleet) -> list[tuple[str, list[Piece]]]:
    """What a person asks first about the worst trouble: question and answer. Empty where there is no trouble."""
    named = wording.worst(fleet.services)
    if not named or not wording.state(named[0]).is_trouble:
        return []
    view = named[0]
    known = fleet.open_incident(view.name)
    incident, notes = known if known is not None else (None, ())
    reason = incident.reason if incident is not None else wording.reason(view)
    why = [Piece(printable(reason, 200) or AFTER_SIGN_IN)]
    if incident is not None:
        why += [Piece(" "), Piece("Incident", href=incident_words.path(incident.id))]
    return [
        ("Why", why),
        ("Just before", _just_before(fleet, view, incident)),
        ("Notified", _notified(fleet, incident, notes)),
        ("Last time", _last_time(fleet, view)),
    ]


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


_NOT_READ: Final = "Not known: the database cannot be read now."


def _just_before(fleet: Fleet, view: ServiceView, incident: Incident | None) -> list[Piece]:
    if fleet.is_public:
        return [Piece(AFTER_SIGN_IN)]
    if fleet.timeline is None:
        return [Piece(_NOT_READ)]
    event = fleet.timeline.just_before.get(view.name)
    if event is None:
        return [Piece("No service sent an event in the 30 minutes before.")]
    began = incident.started_at if incident is not None else view.since
    gap = format_duration((began - event.received_at).total_seconds(), units=1)
    return [Piece(event_title(event), is_strong=True), Piece(f", {gap} earlier", at=event.received_at)]


def _notified(fleet: Fleet, incident: Incident | None, notes: Sequence[Note]) -> list[Piece]:
    if fleet.is_public:
        return [Piece(AFTER_SIGN_IN)]
    found = []
    if incident is None or not incident.notified:
        found.append(Piece("Nobody yet." if incident is not None else "Nobody: there is no incident."))
    else:
        at = min(one.at for one in incident.notified.values())
        names = [name for name in incident.notified if name] or ["an alert channel"]
        found.append(Piece(f"{wording.listed(names)} at "))
        found.append(Piece(wording.clock(at, fleet.local_now), at=at))
        found.append(Piece("."))
    if incident is not None and incident.is_muted(fleet.now):
        found.append(Piece(f" {incident_words.muted(incident, fleet.local_now)}"))
    if notes:
        last = max(notes, key=lambda note: note.at)
        found.append(Piece(f" {printable(last.author, 40) or 'Somebody'} wrote a note at "))
        found.append(Piece(wording.clock(last.at, fleet.local_now), at=last.at))
        found.append(Piece("."))
    return found


def _last_time(fleet: Fleet, view: ServiceView) -> list[Piece]:
    if fleet.timeline is None:
        return [Piece(_NOT_READ)]
    last = fleet.timeline.earlier.get(view.name)
    if last is None:
        return [Piece("Never, as far as is known.")]
    lasted = ((last.ended_at or last.seen_at) - last.started_at).total_seconds()
    return [
        Piece(wording.day(last.started_at, fleet.local_now), at=last.started_at, href=incident_words.path(last.id)),
        Piece(f", for {format_duration(lasted, units=1)}{f': {printable(last.reason, 120)}' if last.reason else ''}"),
    ]


def summarise(fleet: Fleet) -> Iterator[tuple[str, Any]]:
    """What the page says of the whole fleet, name by name."""
    named = wording.worst(fleet.services)
    state = wording.state(named[0]) if named else wording.State("off", "Off", "off", "off")
    yield "state", state
    yield "headline", printable(wording.headline(fleet.services), 160)
    since = (min if state.is_trouble else max)((view.since for view in named), default=None)
    yield "since", since
    yield "lasted", "" if since is None else format_duration((fleet.now - since).total_seconds(), units=1)
    yield "lead", list(lead(fleet))
    yield "answers", answers(fleet)
    yield "contacts", list(contacts(fleet))
    yield "lanes", overview.lanes(fleet)
    yield "ticks", fleet.axis.ticks(fleet.range.tick)
