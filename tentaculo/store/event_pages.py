"""A page of the log for people: as a query of events, in a bounded time whatever the filter is."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter

from sqlalchemy import Connection, func, select

from tentaculo.model.event import EventFilter, FoundEvents
from tentaculo.store import event_queries
from tentaculo.store.event_queries import read_events
from tentaculo.store.tables import events, naive_utc

MOST_TYPES = 8
"""Types that are looked for one by one, each by its index."""
_NEAR = 1000
"""Events before a time, by their receipt, of which the one with the greatest id is where a search begins."""


def read_page(
    connection: Connection,
    wanted: EventFilter,
    *,
    after: int | None = None,
    before: int | None = None,
    not_from: str | None = None,
    limit: int,
    newest_first: bool,
) -> FoundEvents:
    """As `read_events` with `is_bounded`.

    Events that were received before `wanted.until`, but stored a thousand events after all others of that time, are not
    found: only a clock that was set back can make such.
    """
    if newest_first and wanted.until is not None:
        last = _last_id(connection, wanted)
        before = last + 1 if before is None else min(before, last + 1)
    types = wanted.types if 1 < len(wanted.types) <= MOST_TYPES else ()
    searches = [replace(wanted, types=(one,)) for one in types] or [wanted]
    results = [
        read_events(
            connection,
            one,
            after=after,
            before=before,
            not_from=not_from,
            limit=limit,
            newest_first=newest_first,
            is_bounded=True,
            seconds=event_queries.SEARCH_SECONDS / len(searches),
        )
        for one in searches
    ]
    found = sorted((event for result in results for event in result.events), key=attrgetter("id"), reverse=newest_first)
    reached = [result.reached for result in results if result.reached is not None]
    if not reached:
        return FoundEvents(found[:limit])
    # Beyond the nearest place at which one of them stopped, some events may be missing.
    nearest = max(reached) if newest_first else min(reached)
    known = [one for one in found if (one.id >= nearest if newest_first else one.id <= nearest)]
    return FoundEvents(known[:limit], None if len(known) >= limit else nearest)


def _last_id(connection: Connection, wanted: EventFilter) -> int:
    """The greatest id of the last events that were received before the end of the wanted time; 0 without any."""
    assert wanted.until is not None
    c = events.c
    query = select(c.id).where(c.received_at < naive_utc(wanted.until)).order_by(c.received_at.desc()).limit(_NEAR)
    return connection.scalar(select(func.max(query.subquery().c.id))) or 0
