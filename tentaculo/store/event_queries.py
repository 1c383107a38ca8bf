"""Reading the log of events: what a filter selects, and a page of it, in a bounded time.

A search reads rows, those of the blocks that may have what it looks for (`event_blocks`), and stops after its time. The
result then says how far it got. An index for any part of a text in the commit (SQLite's FTS5 with trigrams) took 62 µs
and 300 bytes for each event that is stored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from time import monotonic
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    and_,
    func,
    or_,
    select,
)

from tentaculo.model.clock import CorrectedTime
from tentaculo.model.event import MAX_EVENT_ID, Event, EventFilter, FoundEvents
from tentaculo.model.health import GATEWAY_NAME
from tentaculo.model.text import fold_case, has_case
from tentaculo.store.event_blocks import SEARCHED, Span, has_blocks, needles, spans
from tentaculo.store.tables import aware_utc, events, naive_utc, storable

SEARCH_SECONDS = 0.2
"""Seconds that one search reads rows."""
WITHOUT_BLOCKS = 0.02
"""Of these, seconds before the skip index is asked: reading it takes some 60 ms for a million events."""
LOOK_EVERY = 4093
"""About so many rows are read between two looks at the time. A prime number: ids may be multiples of a thousand."""
_MOST_LOOKS = 1000
_BEFORE_ALL = -1
_AT_ONCE = 8
"""Rows that a server sends at once: it may have to read `LOOK_EVERY` rows for each."""
_LIKE = re.compile(r"[%_!]")
_ESCAPE = "!"


def read_events(
    connection: Connection,
    wanted: EventFilter,
    *,
    after: int | None = None,
    before: int | None = None,
    limit: int,
    newest_first: bool = False,
    is_bounded: bool = False,
    seconds: float | None = None,
) -> FoundEvents:
    """Up to `limit` events that `wanted` selects, with ids greater than `after` and less than `before`, by id.

    After `seconds`, by default `SEARCH_SECONDS`, a search ends with what it has found, and says how far it got. It gets on by one row at least.
    With `is_bounded` every query is such a search, unless an index leads to its rows.
    """
    is_search = is_bounded or wanted.is_search
    indexed, others = _conditions(connection, wanted, is_search=is_search)
    query = select(events).where(*indexed).order_by(events.c.id.desc() if newest_first else events.c.id)
    place = Span(_BEFORE_ALL if after is None else after, MAX_EVENT_ID if before is None else before - 1)
    if not is_search or not others:
        if after is not None:
            query = query.where(events.c.id > after)
        if before is not None:
            query = query.where(events.c.id < before)
        query = query.where(*others)
        return FoundEvents([event_of(row) for row in connection.execute(query.limit(limit)).mappings()])
    is_found = and_(*others)
    # Rows that are looked at now and then bring the search back here, wherever nothing is found.
    query = query.add_columns(is_found.label("is_found")).where(or_(events.c.id % LOOK_EVERY == 0, is_found))
    search = _Search(connection, query, fold_case(storable(wanted.text)), limit)
    now = monotonic()
    end = now + (SEARCH_SECONDS if seconds is None else seconds)
    blocks = needles(wanted)
    if not blocks or not has_blocks(connection):
        return FoundEvents(search.found, search.read(place, end))
    # What many rows have is found before the blocks are read.
    reached = search.read(place, min(end, now + WITHOUT_BLOCKS))
    if reached is None or search.is_full or monotonic() >= end:
        return FoundEvents(search.found, reached)
    left = Span(place.after, reached - 1) if newest_first else Span(reached, place.upto)
    for span in spans(connection, blocks, after=left.after, upto=left.upto, newest_first=newest_first):
        reached = search.read(span, end) if span.after < span.upto else None
        if reached is not None or search.is_full:
            return FoundEvents(search.found, reached)
        if monotonic() >= end:
            # All of the span has been looked at, or excluded.
            is_last = span.after <= left.after if newest_first else span.upto >= left.upto
            return FoundEvents(search.found, None if is_last else span.after + 1 if newest_first else span.upto)
    return FoundEvents(search.found)


class _Search:
    """One search of rows, span by span, until it has found enough."""

    def __init__(self, connection: Connection, query: Select[Any], text: str, limit: int) -> None:
        self.found = list[Event]()
        self._connection = connection
        self._query = query
        self._text = text
        self._limit = limit

    def __repr__(self) -> str:
        return f"<_Search: {len(self.found)} of {self._limit}>"

    @property
    def is_full(self) -> bool:
        return len(self.found) == self._limit

    def read(self, span: Span, end: float) -> int | None:
        """Read the rows of `span` until `end`; the id of the last one that was looked at, None once none is left or wanted."""
        query = self._query.where(events.c.id > span.after, events.c.id <= span.upto)
        most = self._limit - len(self.found) + _MOST_LOOKS
        options = {"stream_results": True, "yield_per": _AT_ONCE}
        with self._connection.execute(query.limit(most), execution_options=options) as rows:
            for number, row in enumerate(rows.mappings(), 1):
                if row["is_found"] and self._has_text(row):
                    self.found.append(event_of(row))
                if self.is_full:
                    return None
                # Not at each row: a pause of a busy machine must not cut a short log.
                if number == most or (row["id"] % LOOK_EVERY == 0 and monotonic() >= end):
                    return int(row["id"])
        return None

    def _has_text(self, row: RowMapping) -> bool:
        return self._text.isascii() or self._text in fold_case("\0".join(row[one.name] for one in SEARCHED))


def _conditions(
    connection: Connection, wanted: EventFilter, *, is_search: bool
) -> tuple[list[ColumnElement[bool]], list[ColumnElement[bool]]]:
    """The conditions for which an index finds the rows in the order of ids, and the others."""
    indexed, others = list[ColumnElement[bool]](), list[ColumnElement[bool]]()
    if wanted.severities:
        others.append(events.c.severity.in_([storable(value) for value in wanted.severities]))
    if wanted.since is not None:
        others.append(events.c.received_at >= naive_utc(wanted.since))
    if wanted.until is not None:
        others.append(events.c.received_at < naive_utc(wanted.until))
    if wanted.not_source:
        others.append(events.c.source != storable(wanted.not_source))
    if wanted.is_broadcast:
        others.append(events.c.broadcast.is_(True))
    if wanted.text:
        others.append(_contains(connection, storable(wanted.text), SEARCHED))
    if wanted.correlation:
        escaped = json.dumps(wanted.correlation, ensure_ascii=False)[1:-1]
        others.append(_contains(connection, storable(escaped), SEARCHED[2:]))
    if wanted.about:
        others.append(_is_about(connection, wanted.about))
    for column, values in ((events.c.type, wanted.types), (events.c.source, wanted.sources)):
        if values:
            # With several values an index finds them in another order, and all would have to be read to sort them.
            # Of two indexes that of the type leads to fewer rows.
            is_second = column is events.c.source and len(wanted.types) == 1
            target = indexed if not is_search or (len(values) == 1 and not is_second) else others
            target.append(column.in_([storable(value) for value in values]))
    return indexed, others


def _is_about(connection: Connection, names: Sequence[str]) -> ColumnElement[bool]:
    """Whether one of `names` sent an event, or is a value of the payload of an own event of the gateway."""
    stored = [storable(name) for name in names]
    named = [_contains(connection, f'"{name}"', (events.c.payload,)) for name in stored]
    return or_(events.c.source.in_(stored), and_(events.c.source == GATEWAY_NAME, or_(*named)))


def _contains(connection: Connection, text: str, columns: Sequence[ColumnElement[str]]) -> ColumnElement[bool]:
    """Whether one of `columns` contains `text`, as far as LIKE says that: it knows the case of ASCII letters only.

    So it takes any character for a letter of another alphabet, and `_search` looks at what is found.
    """
    pattern = "".join(_like(character) for character in text)
    if connection.dialect.name == "sqlite":
        # Its LIKE ignores the case of ASCII letters; its ILIKE would compare copies of the texts.
        return or_(*(column.like(f"%{pattern}%", escape=_ESCAPE) for column in columns))
    # The collation of the database may know other cases of ASCII letters, and takes longer.
    return or_(*(column.collate("C").ilike(f"%{pattern}%", escape=_ESCAPE) for column in columns))


def _like(character: str) -> str:
    if character.isascii():
        return _LIKE.sub(lambda special: _ESCAPE + special[0], character)
    return "_" if has_case(character) else character


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(found, dict):
        raise TypeError("is no JSON object")
    return found


def event_of(row: RowMapping) -> Event:
    """The event of a row. Raises TypeError or ValueError where another program wrote what cannot be read."""
    return Event(
        id=row["id"],
        source=row["source"],
        type=row["type"],
        payload=_object(row["payload"]),
        received_at=aware_utc(row["received_at"]),
        canonical=row["canonical"],
        broadcast=row["broadcast"],
        metadata=_object(row["metadata"]),
        key=row["key"],
        digest=row["digest"],
        severity=row["severity"],
        stated_ms=row["stated_ms"],
        corrected=None
        if row["corrected_ms"] is None
        else CorrectedTime(row["corrected_ms"], row["corrected_width_ms"]),
    )


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
            limit=limit,
            newest_first=newest_first,
            is_bounded=True,
            seconds=SEARCH_SECONDS / len(searches),
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
