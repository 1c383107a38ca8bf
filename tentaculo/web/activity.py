"""What happened: incidents, changes of state, messages, notes and events as one list, the newest first. Pure."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from heapq import nlargest
from itertools import chain, pairwise
from operator import attrgetter
from types import MappingProxyType
from typing import Final

from tentaculo.model.event import Event
from tentaculo.model.health import Health, StateChange
from tentaculo.model.incident import Incident, Note, NotificationState
from tentaculo.model.mute import Mute
from tentaculo.model.text import printable
from tentaculo.web import incident_words, wording
from tentaculo.web.languages import Language, Sentence

MOST: Final = 25
"""Entries of the list."""
MOST_INCIDENTS: Final = 20
"""Of them, beginnings of incidents."""
_MARGIN: Final = timedelta(seconds=5)
"""Between a change of state and the incident that it opens or ends."""
NO_MUTES: Final[Mapping[int, Sequence[Mute]]] = MappingProxyType({})
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_TEXTS: Final = ("message", "summary", "reason", "text", "detail")
"""Members of a payload that people wrote, the first that is there is shown."""
_MOST_SAID: Final = 160
"""Characters of a payload that are shown."""
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, default=str)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened."""

    at: datetime
    symbol: str
    tone: str
    subject: str
    """What it is about; may be empty."""
    text: str
    detail: str | Sentence = ""
    anchor: str = ""
    """Its id on the page: messages of older versions lead there."""
    href: str = ""
    """The page about it, where there is one."""


def entries(
    incidents: Iterable[tuple[Incident, Sequence[Note]]],
    changes: Mapping[str, Sequence[StateChange]],
    events: Iterable[Event],
    since: datetime,
    now: datetime,
    t: Language,
    mutes: Mapping[int, Sequence[Mute]] = NO_MUTES,
) -> list[Entry]:
    """The newest entries since `since`, and of the incidents the newest whenever they began: messages lead to them.

    A change of state that an incident shows is not shown twice. `mutes` are those that are known of an incident, the oldest
    first, by its id; the latest one is known without. `now` is in the zone of the page.
    """
    known = list(incidents)
    changed = chain.from_iterable(changes_without_incident([incident for incident, _ in known], changes, now))
    return listed(known, changed, events, since, now, t, mutes)


def changes_without_incident(
    incidents: Iterable[Incident], changes: Mapping[str, Sequence[StateChange]], now: datetime
) -> Iterator[list[StateChange]]:
    """The last changes of state of each service that no incident shows."""
    shown: dict[str, list[tuple[datetime, datetime]]] = {}
    for incident in incidents:
        span = incident.started_at - _MARGIN, (incident.ended_at or now) + _MARGIN
        shown.setdefault(incident.root, []).append(span)
    for service, known in changes.items():
        spans = _joined(shown.get(service, ()))
        starts = [start for start, _ in spans]
        found: list[StateChange] = []
        for change in reversed(known):
            place = bisect_right(starts, change.at)
            if change.before is not Health.UNKNOWN and not (place and change.at <= spans[place - 1][1]):
                found.append(change)
            # No more of one service are ever listed, and one that flaps has thousands.
            if len(found) == MOST:
                break
        yield found


def listed(
    known_incidents: Sequence[tuple[Incident, Sequence[Note]]],
    changes_without_incident: Iterable[StateChange],
    events: Iterable[Event],
    since: datetime,
    now: datetime,
    t: Language,
    mutes: Mapping[int, Sequence[Mute]] = NO_MUTES,
) -> list[Entry]:
    """The same entries, of the changes that `changes_without_incident` gave."""
    # No entry of another incident is among the newest, and to word hundreds takes long.
    newest = nlargest(MOST_INCIDENTS, known_incidents, key=lambda one: one[0].started_at)
    latest = nlargest(MOST, known_incidents, key=_last_moment)
    shown = {incident.id for incident, _ in (*newest, *latest)}
    found: list[Entry] = []
    for incident, notes in known_incidents:
        if incident.id in shown:
            found += _of_incident(incident, notes, now, t)
            found += _of_mutes(incident, mutes.get(incident.id, ()), now, t)
    # Only the newest are worded: of a thousand services there are thousands.
    found += [_of_change(change, t) for change in nlargest(MOST, changes_without_incident, key=_moment)]
    found += [_of_event(event, t) for event in nlargest(MOST, events, key=_moment_of_event)]
    found.sort(key=_moment, reverse=True)
    anchored = [entry for entry in found if entry.anchor][:MOST_INCIDENTS]
    others = [entry for entry in found if not entry.anchor and entry.at >= since][: MOST - len(anchored)]
    return sorted([*anchored, *others], key=_moment, reverse=True)


_moment = attrgetter("at")
_moment_of_event = attrgetter("received_at")


def _last_moment(one: tuple[Incident, Sequence[Note]]) -> datetime:
    """When the last thing happened to an incident after its beginning; long ago where nothing has."""
    incident, notes = one
    moments = [*(notified.at for notified in incident.notified.values()), *(note.at for note in notes)]
    if incident.acknowledged is not None:
        moments.append(incident.acknowledged.at)
    if incident.muted is not None:
        moments.append(incident.muted.at)
    return max([*moments, incident.ended_at or _LONG_AGO])


def _joined(spans: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """The same times in order, those that overlap as one."""
    found: list[tuple[datetime, datetime]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def by_day(found: Sequence[Entry], zone: tzinfo) -> list[tuple[date, list[Entry]]]:
    """The same entries, in order, by their day in `zone`."""
    days: dict[date, list[Entry]] = {}
    for entry in found:
        days.setdefault(entry.at.astimezone(zone).date(), []).append(entry)
    return list(days.items())


def _of_incident(incident: Incident, notes: Sequence[Note], now: datetime, t: Language) -> Iterator[Entry]:
    root = printable(incident.root, 80)
    state = wording.state_of(incident.severity, t=t)
    reason = wording.said(incident.reason, incident.cause, t, 160)
    lasted = t.duration(((incident.ended_at or now) - incident.started_at).total_seconds())
    yield Entry(
        incident.started_at,
        state.key,
        state.tone,
        root,
        ": ".join(filter(None, (wording.predicate(state.key, 1, t), reason)))
        if incident.is_open
        else t(f"state.was_{state.key}", duration=lasted),
        " ".join(_more(incident, reason, t)),
        f"incident-{incident.id}",
        incident_words.path(incident.id),
    )
    if incident.ended_at is not None:
        symbol, tone, text = "up", "up", t("activity.up_again")
        if incident.part_of is not None:
            symbol, tone, text = "note", "off", t("activity.belongs_to_another")
        elif not incident.is_recovery:
            text = t("activity.no_longer_watched")
        yield Entry(incident.ended_at, symbol, tone, root, text, incident_words.ending(incident, t, is_private=True))
    for channel, notified in incident.notified.items():
        name = printable(channel, 40) or t("summary.a_channel")
        is_over = notified.state is NotificationState.ENDED
        key = "activity.was_notified_ended" if is_over else "activity.was_notified_fails"
        yield Entry(notified.at, "bell", "off", "", t(key, channel=name, root=root))
    if (seen := incident.acknowledged) is not None:
        author = wording.foreign(seen.author, 80) or t("summary.somebody")
        text = t("activity.acknowledged", root=root)
        yield Entry(seen.at, "note", "off", author, text, wording.foreign(seen.note, 300))
    for note in notes:
        author = wording.foreign(note.author, 80) or t("summary.somebody")
        text = t("activity.wrote", root=root, text=wording.foreign(note.text, 300))
        yield Entry(note.at, "note", "off", author, text)


def _of_mutes(incident: Incident, known: Sequence[Mute], now: datetime, t: Language) -> Iterator[Entry]:
    """Who muted its alerts, until when, and when that was over before the incident was."""
    root, latest = printable(incident.root, 80), incident.muted
    if latest is not None:
        known = [*(one for one in known if one.id != latest.id), latest]
    for mute, later in pairwise([*known, None]):
        assert mute is not None
        author = wording.foreign(mute.author, 80) or t("summary.somebody")
        if mute.until is None:
            until = t.sentence("activity.muted_until_the_end")
        elif mute.until > mute.at:
            until = t.sentence("activity.muted_until", time=t.moment(mute.until, now))
        else:
            yield Entry(mute.at, "bell", "off", author, t("activity.unmuted", root=root))
            continue
        yield Entry(mute.at, "bell", "off", author, t("activity.muted", root=root), until)
        end = min(now, incident.ended_at or now, now if later is None else later.at)
        if mute.until is not None and mute.until < end:
            yield Entry(mute.until, "bell", "off", "", t("activity.mute_over", root=root))


def _more(incident: Incident, reason: str, t: Language) -> Iterator[str]:
    if not incident.is_open and reason:
        yield f"{reason}."
    if incident.affected:
        yield t("activity.affected", services=t.joined(incident.affected, 5, 80))
    if incident.peak_error_rate is not None:
        yield t("activity.at_worst", share=t.failed_share(incident.peak_error_rate))
    if incident.reopened:
        yield t("activity.failed_again", count=incident.reopened)
    if incident.failed_requests:
        yield incident_words.lost(incident, t)


def _of_change(change: StateChange, t: Language) -> Entry:
    state = wording.state_of(change.after, change.kind, t=t)
    return Entry(
        change.at,
        state.key,
        state.tone,
        printable(change.service, 80),
        wording.predicate(state.key, 1, t),
        wording.said(change.reason, change.cause, t, 160),
    )


def _of_event(event: Event, t: Language) -> Entry:
    said = next((value for name in _TEXTS if isinstance(value := event.payload.get(name), str) and value), None)
    if said is None:
        said = _beginning(event.payload) if event.payload else ""
    severity = event.severity or event.payload.get("severity")  # rows of older versions have it in the payload alone
    kind = wording.foreign(event.type, 60)
    title = t("activity.sent", type=kind)
    if isinstance(severity, str) and severity:
        title = t("activity.sent_level", type=kind, level=wording.foreign(severity, 20))
    return Entry(
        event.received_at,
        "event",
        "accent",
        wording.foreign(event.source, 60),
        title,
        wording.foreign(said, _MOST_SAID),
    )


def _beginning(payload: Mapping[str, object]) -> str:
    """A payload as JSON, as far as it is shown: to encode the whole of 25 large ones takes 20 ms."""
    pieces: list[str] = []
    left = 2 * _MOST_SAID
    for piece in _ENCODER.iterencode(payload):
        pieces.append(piece)
        left -= len(piece)
        if left < 0:
            break
    return "".join(pieces)
