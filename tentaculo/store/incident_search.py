"""The queries behind the pages of the incidents, in the caller's transaction. Each reads a bounded number of rows."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, or_, select

from tentaculo.model.event import EventFilter
from tentaculo.model.health import GATEWAY_NAME, Health
from tentaculo.model.history import DAY, HOUR, MINUTE
from tentaculo.model.incident import Incident, Note
from tentaculo.model.incident_past import (
    FoundIncidents,
    IncidentContext,
    IncidentSearch,
    IncidentSpan,
    IncidentSummary,
    IncidentTotals,
    incident_days,
)
from tentaculo.model.timeline import JUST_BEFORE
from tentaculo.store import incidents as stored
from tentaculo.store.event_queries import read_events
from tentaculo.store.tables import aware_utc, history, incidents, naive_utc

MOST_OPEN = 50
"""Open incidents that a list begins with, the newest ones."""
MOST_ENDED = 25
"""Ended incidents in one part of a list."""
MOST_NOTES = 200
MOST_SPANS = 5000
MOST_WINDOWS = 500
MOST_EARLIER = 5
"""Earlier incidents of the same root on the page of one."""
MOST_BEFORE = 10
"""Events just before an incident on its page."""

_C = incidents.c


def search(connection: Connection, wanted: IncidentSearch) -> FoundIncidents:
    """The part of the list that `wanted` names. The open incidents are in its first part only."""
    conditions = _conditions(wanted.service)
    still_open: list[Incident] = []
    if wanted.before is None:
        still_open = stored.read(connection, _C.ended_at.is_(None), *conditions, limit=MOST_OPEN)
    else:
        conditions.append(_C.id < wanted.before)
    lately = _C.ended_at.is_not(None) if wanted.since is None else _C.ended_at >= naive_utc(wanted.since)
    ended = stored.read(connection, lately, *conditions, limit=MOST_ENDED + 1)
    shown = ended[:MOST_ENDED]
    noted = _notes(connection, [*still_open, *shown])
    return FoundIncidents(tuple(still_open), tuple(shown), len(ended) > MOST_ENDED, noted)


def _conditions(service: str | None) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [_C.part_of.is_(None)]
    if service is not None:
        # The column is a JSON list of names, which hold neither quotes nor wildcards.
        found.append(_C.services.contains(f'"{service}"', autoescape=True))
    return found


def _notes(connection: Connection, found: list[Incident]) -> dict[int, tuple[Note, ...]]:
    notes: dict[int, tuple[Note, ...]] = {}
    if found:
        for note in stored.notes(connection, [one.id for one in found], MOST_NOTES):
            notes[note.incident] = (*notes.get(note.incident, ()), note)
    return notes


def summarise(
    connection: Connection, since: datetime | None, service: str | None, first_day: int, now: datetime
) -> IncidentSummary:
    """The incidents since `since`, and each day from `first_day`, counted from 1970, to the one of `now`."""
    first = datetime.fromtimestamp(first_day * DAY, UTC)
    conditions = _conditions(service)
    if since is not None:
        conditions.append(or_(_C.ended_at.is_(None), _C.ended_at >= naive_utc(min(since, first))))
    query = select(_C.started_at, _C.ended_at, _C.severity).where(*conditions)
    spans = [
        IncidentSpan(aware_utc(started), None if ended is None else aware_utc(ended), Health(severity))
        for started, ended, severity in connection.execute(query.order_by(_C.id.desc()).limit(MOST_SPANS))
    ]
    windows = stored.windows(connection, after=first, limit=MOST_WINDOWS)
    covering = [one for one in windows if service is None or one.covers(service)]
    days = incident_days(spans, covering, _known_days(connection, first_day * DAY), first_day, now)
    return IncidentSummary(IncidentTotals.of(spans, since, now), days)


def _known_days(connection: Connection, first: int) -> set[int]:
    """The days since 1970 of which anything was recorded: complete ones, and those of later hours and minutes."""
    c = history.c
    found: set[int] = set()
    for span in (DAY, HOUR, MINUTE):
        starts = connection.scalars(select(c.start).where(c.span == span, c.start >= first).distinct())
        found |= {start // DAY for start in starts}
        # What has no row of the longer span yet is made of the shorter ones.
        first = max((max(found) + 1) * DAY if found else first, first)
    return found


def find(connection: Connection, number: int) -> tuple[Incident, tuple[Note, ...]] | None:
    """One incident with its notes; None where there is none."""
    found = stored.find(connection, number)
    return None if found is None else (found, tuple(stored.notes(connection, [number], MOST_NOTES)))


def context(connection: Connection, incident: Incident) -> IncidentContext:
    """The earlier incidents of the same root, the events just before this one, and its mutes."""
    conditions = (_C.root == incident.root, _C.id < incident.id, _C.part_of.is_(None))
    since, until = incident.started_at - JUST_BEFORE, incident.started_at
    just_before = EventFilter(since=since, until=until, not_source=GATEWAY_NAME)
    events = read_events(connection, just_before, limit=MOST_BEFORE, newest_first=True).events
    earlier = stored.read(connection, *conditions, limit=MOST_EARLIER)
    return IncidentContext(tuple(earlier), tuple(events), stored.last_mutes(connection, incident.id))
