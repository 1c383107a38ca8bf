"""The queries behind the status page's axis of time, in the caller's transaction. Each reads a bounded number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, func, or_, select

from tentaculo.model.event import Event, EventFilter
from tentaculo.model.health import GATEWAY_NAME, StateChange
from tentaculo.model.history import Period
from tentaculo.model.incident import Incident
from tentaculo.model.timeline import JUST_BEFORE, Timeline, TimelineRequest
from tentaculo.store import history, incidents, states, tables
from tentaculo.store.event_queries import read_events

MOST_CHANGES = 5000
"""Changes of state that are read, the newest ones: a service that flaps each second makes as many in an hour."""
MOST_INCIDENTS = 200
MOST_EVENTS = 200


def read_timeline(connection: Connection, wanted: TimelineRequest) -> Timeline:
    """The part of the past that `wanted` names."""
    since, until = (datetime.fromtimestamp(seconds, UTC) for seconds in (wanted.since, wanted.until))
    return Timeline(
        changes=_changes(connection, wanted.services, since, until),
        periods=_periods(connection, wanted),
        incidents=tuple(_incidents(connection, since, until)),
        events=tuple(_events(connection, since, until, MOST_EVENTS)),
        earlier={root: incident for root, began in wanted.failing for incident in _earlier(connection, root, began)},
        just_before={
            root: event
            for root, began in wanted.failing
            for event in _events(connection, began - JUST_BEFORE, began, 1)
        },
    )


def _changes(
    connection: Connection, services: Sequence[str], since: datetime, until: datetime
) -> dict[str, tuple[StateChange, ...]]:
    c = tables.state_changes.c
    is_wanted = (c.endpoint == "") & c.service.in_(services)
    moment = tables.naive_utc(since)
    inside = (c.changed_at >= moment, c.changed_at < tables.naive_utc(until))
    recent = select(tables.state_changes).where(is_wanted, *inside).order_by(c.id.desc())
    newest = states.read_changes(connection, recent.limit(MOST_CHANGES))
    before = select(func.max(c.id)).where(is_wanted, c.changed_at < moment).group_by(c.service)
    first = states.read_changes(connection, select(tables.state_changes).where(c.id.in_(before)))
    # What lies between the state at the beginning and the oldest row that was read is not known.
    found: dict[str, list[StateChange]] = {}
    for change in first if len(newest) < MOST_CHANGES else []:
        found.setdefault(change.service, []).append(change)
    for change in reversed(newest):
        found.setdefault(change.service, []).append(change)
    return {service: tuple(changes) for service, changes in found.items()}


def _periods(connection: Connection, wanted: TimelineRequest) -> dict[str, tuple[Period, ...]]:
    if not wanted.detailed:
        return {}
    since = wanted.since - wanted.since % wanted.span
    found: dict[str, list[Period]] = {}
    for period in history.read_history(connection, wanted.span, since, wanted.until, wanted.detailed):
        found.setdefault(period.service, []).append(period)
    return {service: tuple(periods) for service, periods in found.items()}


def _incidents(connection: Connection, since: datetime, until: datetime) -> list[Incident]:
    c = tables.incidents.c
    lasted = or_(c.ended_at.is_(None), c.ended_at >= tables.naive_utc(since))
    began = c.started_at < tables.naive_utc(until)
    return incidents.read(connection, lasted, began, c.part_of.is_(None), limit=MOST_INCIDENTS)


def _earlier(connection: Connection, root: str, began: datetime) -> list[Incident]:
    c = tables.incidents.c
    started_before = c.started_at < tables.naive_utc(began)
    return incidents.read(connection, c.root == root, started_before, c.part_of.is_(None), limit=1)


def _events(connection: Connection, since: datetime, until: datetime, limit: int) -> list[Event]:
    selected = EventFilter(since=since, until=until, not_source=GATEWAY_NAME)
    return read_events(connection, selected, limit=limit, newest_first=True).events
