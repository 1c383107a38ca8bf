"""Queries of what came before incidents, in the caller's transaction. Each reads a bounded number of rows.

The times of events are those of their receipt, which is by the same clock as the detection of an incident.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection, func, or_, select

from tentaculo.model.health import GATEWAY_NAME, Health
from tentaculo.model.history import HOUR, MINUTE
from tentaculo.model.incident import opening_key
from tentaculo.store.tables import aware_utc, events, history, naive_utc, state_changes

MOST_ROWS, MOST_GROUPS = 100_000, 500
"""Events and types of events in one window. One that has more is not counted."""
AT_ONCE = 0.1
"""Seconds after which a query of windows returns what it has: other queries wait for the thread."""
_MOST_CHANGES = 2000
_KEYS_AT_ONCE = 500


class EventWindow(NamedTuple):
    """Seconds since 1970, and the id that all events in the window are below, where there is one."""

    start: float
    end: float
    before_id: int | None


class WindowTypes(NamedTuple):
    """What came in one window."""

    rows: int
    """Events that were read."""
    types: list[tuple[str, str, int]] | None
    """Source, type and greatest id of each type of event; None where there are too many to count."""


def openings(connection: Connection, numbers: Sequence[int]) -> dict[int, tuple[int, datetime]]:
    """The id and the time of the event that records the opening of each incident, where there is one."""
    c = events.c
    keys = {opening_key(number): number for number in numbers}
    found = {}
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        some = list(keys)[start : start + _KEYS_AT_ONCE]
        query = select(c.key, c.id, c.received_at).where(c.source == GATEWAY_NAME, c.key.in_(some))
        found.update({keys[key]: (id_, aware_utc(at)) for key, id_, at in connection.execute(query)})
    return found


def first_event(connection: Connection, since: datetime) -> datetime | None:
    """When the first event of a service that is still stored was received, from `since` on; None without any."""
    c = events.c
    query = select(c.received_at).where(c.received_at >= naive_utc(since), c.source != GATEWAY_NAME)
    found = connection.scalar(query.order_by(c.received_at).limit(1))
    return None if found is None else aware_utc(found)


def maintenance_of(connection: Connection, service: str) -> list[tuple[datetime, bool]]:
    """When maintenance of a service began (True) or ended (False), the newest changes, the oldest first."""
    c = state_changes.c
    is_maintenance = or_(c.before == Health.MAINTENANCE.value, c.after == Health.MAINTENANCE.value)
    query = select(c.changed_at, c.after).where(c.service == service, c.endpoint == "", is_maintenance)
    rows = connection.execute(query.order_by(c.id.desc()).limit(_MOST_CHANGES)).all()
    return [(aware_utc(at), after == Health.MAINTENANCE.value) for at, after in reversed(rows)]


def watched_hours(connection: Connection, service: str, since: datetime) -> set[int]:
    """The first seconds of the hours since `since` in which anything of a service was recorded."""
    c = history.c
    start = int(since.timestamp()) // HOUR * HOUR
    hour = c.start - c.start % HOUR
    query = select(hour).distinct().where(c.service == service, c.span.in_([MINUTE, HOUR]), c.start >= start)
    return {int(one) for one in connection.scalars(query)}


def read_windows(connection: Connection, windows: Sequence[EventWindow]) -> list[WindowTypes]:
    """What came in the first of `windows`, one at least: as many as `AT_ONCE` allows. The gateway's own events do not count."""
    end = time.monotonic() + AT_ONCE
    found = list[WindowTypes]()
    for window in windows:
        found.append(_read_window(connection, window))
        if time.monotonic() >= end:
            break
    return found


def _read_window(connection: Connection, window: EventWindow) -> WindowTypes:
    c = events.c
    query = select(c.source, c.type, c.id).where(
        c.received_at >= _stored_time(window.start), c.received_at < _stored_time(window.end), c.source != GATEWAY_NAME
    )
    if window.before_id is not None:
        query = query.where(c.id < window.before_id)
    rows = query.limit(MOST_ROWS + 1).subquery()
    counts = select(rows.c.source, rows.c.type, func.max(rows.c.id), func.count()).group_by(rows.c.source, rows.c.type)
    found = connection.execute(counts.limit(MOST_GROUPS + 1)).all()
    read = sum(one[3] for one in found)
    if read > MOST_ROWS or len(found) > MOST_GROUPS:
        return WindowTypes(read, None)
    return WindowTypes(read, [(source, type_, last) for source, type_, last, _ in found])


def _stored_time(seconds: float) -> datetime:
    return naive_utc(datetime.fromtimestamp(seconds, UTC))
