"""Reading the log of events: what a filter selects, and a page of it, in a bounded time.

    filter ─▶ an index, or several side by side, in the order of ids ─▶ rows, each looked at ─▶ what is wanted

A read stops after its time, and the result then says how far it got. That must not depend on what the planner of the
database thinks of the filter: it is left with one index for each part of the query. An index for any part of a text in
the commit (SQLite's FTS5 with trigrams) took 62 µs and 300 bytes for each event that is stored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from heapq import merge
from operator import itemgetter
from time import monotonic
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    and_,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)

from tentaculo.model.clock import CorrectedTime
from tentaculo.model.event import MAX_EVENT_ID, MOST_LED, Event, EventFilter, FoundEvents, lowest_id
from tentaculo.model.health import GATEWAY_NAME
from tentaculo.model.text import fold_case, has_case
from tentaculo.store.event_blocks import SEARCHED, Span, has_blocks, needles, spans
from tentaculo.store.events import run_by_driver
from tentaculo.store.tables import aware_utc, events, naive_utc, storable

SEARCH_SECONDS = 0.2
"""Seconds that one read looks for rows."""
WITHOUT_BLOCKS = 0.02
"""Of these, seconds before the skip index is asked: reading it takes some 60 ms for a million events."""
LOOK_EVERY = 4093
"""About so many rows are read between two looks at the time. A prime number: ids may be multiples of a thousand."""
_MOST_LOOKS = 1000
_BEFORE_ALL = -1
_AT_ONCE = 8
"""Rows that a server sends at once: it may have to read `LOOK_EVERY` rows for each."""
_NEAR = 1000
"""Events before a time, by their receipt, of which the one with the greatest id is where what is wanted ends."""
_LIKE = re.compile(r"[%_!]")
_ESCAPE = "!"
_LIKELIHOOD: ColumnElement[float] = literal_column("0.0001")
_ONLY_INDEXES = "SELECT " + ", ".join(
    f"set_config('{name}', '{value}', true)"
    for name, value in (
        ("enable_sort", "off"),
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("max_parallel_workers_per_gather", "0"),
    )
)
"""For the rest of the transaction. Without statistics PostgreSQL reads and sorts all rows of a range for its first ones."""


def read_events(
    connection: Connection,
    wanted: EventFilter,
    *,
    after: int | None = None,
    before: int | None = None,
    limit: int,
    newest_first: bool = False,
) -> FoundEvents:
    """Up to `limit` events that `wanted` selects, with ids greater than `after` and less than `before`, by id.

    After `SEARCH_SECONDS` a read ends with what it has found, and says how far it got, unless an index leads to exactly
    what is wanted. It then continues behind a row that was looked at, so that each read gets on by about `LOOK_EVERY` rows
    at least, whatever the filter.

    Events that were received before `wanted.until`, but stored a thousand events after all others of that time, are not
    found: only a clock that was set back can make such.
    """
    if connection.dialect.name == "postgresql":
        run_by_driver(connection, _ONLY_INDEXES)
    search = _Search(connection, wanted, limit, newest_first=newest_first)
    place = search.without_later(_place(connection, wanted, after, before))
    end = monotonic() + SEARCH_SECONDS
    blocks = needles(wanted)
    if place.after >= place.upto or not blocks or not has_blocks(connection):
        return FoundEvents(search.found, search.read(place, end))
    # What many rows have is found before the blocks are read.
    reached = search.read(place, min(end, monotonic() + WITHOUT_BLOCKS))
    if reached is None or search.is_full or monotonic() >= end:
        return FoundEvents(search.found, reached)
    left = Span(place.after, reached - 1) if newest_first else Span(reached, place.upto)
    for span in spans(connection, blocks, after=left.after, upto=left.upto, newest_first=newest_first):
        reached = search.read(span, end)
        if reached is not None or search.is_full:
            return FoundEvents(search.found, reached)
        if monotonic() >= end:
            # All of the span has been looked at, or excluded.
            is_last = span.after <= left.after if newest_first else span.upto >= left.upto
            return FoundEvents(search.found, None if is_last else span.after + 1 if newest_first else span.upto)
    return FoundEvents(search.found)


def _place(connection: Connection, wanted: EventFilter, after: int | None, before: int | None) -> Span:
    """The ids that may be wanted."""
    low, high = _BEFORE_ALL if after is None else after, MAX_EVENT_ID if before is None else before - 1
    if wanted.since is not None:
        low = max(low, lowest_id(wanted.since) - 1)
    if wanted.until is not None and low < high:
        high = min(high, _last_id(connection, naive_utc(wanted.until), high))
    return Span(low, high)


def _last_id(connection: Connection, until: datetime, high: int) -> int:
    """The greatest id of the events that were received before `until`, which has no zone; `high` where all up to it may be."""
    c = events.c
    newest = connection.scalar(select(c.received_at).where(c.id <= high).order_by(c.id.desc()).limit(1))
    if newest is None or newest < until:
        # Where the clock was set back, older events have a later receipt.
        return high
    query = select(c.id).where(c.received_at < until).order_by(c.received_at.desc()).limit(_NEAR)
    return connection.scalar(select(func.max(query.subquery().c.id))) or 0


class _Lead(NamedTuple):
    """A value by which an index leads to rows in the order of ids."""

    column: ColumnElement[str]
    value: str


class _Search:
    """One search of rows, span by span, until it has found enough."""

    def __init__(self, connection: Connection, wanted: EventFilter, limit: int, *, newest_first: bool) -> None:
        self.found = list[Event]()
        self._connection = connection
        self._text = fold_case(storable(wanted.text))
        self._limit = limit
        self._newest_first = newest_first
        self._leads, others = _conditions(connection, wanted)
        self._query, self._is_exact = select(events), not others
        if others:
            is_found = and_(*others)
            # Rows that are looked at now and then bring the search back here, wherever nothing is found. And no part of
            # such a condition can have an index.
            self._query = self._query.add_columns(is_found.label("is_found"))
            self._query = self._query.where(or_(events.c.id % LOOK_EVERY == 0, is_found))

    def __repr__(self) -> str:
        return f"<_Search: {len(self.found)} of {self._limit}>"

    @property
    def is_full(self) -> bool:
        return len(self.found) == self._limit

    def without_later(self, place: Span) -> Span:
        """`place` without what is stored from now on, where several queries read it: a later one would see more."""
        if len(self._leads) <= 1:
            return place
        return place._replace(upto=min(place.upto, self._connection.scalar(select(func.max(events.c.id))) or 0))

    def read(self, span: Span, end: float) -> int | None:
        """Read the rows of `span` until `end`; the id of the last one that was looked at, None once none is left or wanted."""
        if span.after >= span.upto:
            return None
        most = self._limit - len(self.found) + (0 if self._is_exact else _MOST_LOOKS)
        with ExitStack() as stack:
            for number, row in enumerate(self._rows(span, most, stack), 1):
                if (self._is_exact or row["is_found"]) and self._has_text(row):
                    self.found.append(event_of(row))
                if self.is_full:
                    return None
                # Not at each row: a pause of a busy machine must not cut a short log.
                is_look = row["id"] % LOOK_EVERY == 0 and not self._is_exact
                if number == most or (is_look and monotonic() >= end):
                    return int(row["id"])
        return None

    def _rows(self, span: Span, most: int, stack: ExitStack) -> Iterable[RowMapping]:
        """Rows of `span` in the order of ids: from each index no more than `most`, and few before they are needed."""
        is_one = len(self._leads) <= 1
        options = {} if is_one and self._is_exact else {"stream_results": True, "yield_per": _AT_ONCE}
        found = list[Iterator[RowMapping]]()
        for lead in self._leads or (None,):
            query = self._ordered(span, lead).limit(most)
            found.append(
                iter(stack.enter_context(self._connection.execute(query, execution_options=options)).mappings())
            )
        return found[0] if is_one else merge(*found, key=itemgetter("id"), reverse=self._newest_first)

    def _ordered(self, span: Span, lead: _Lead | None) -> Select[Any]:
        query, id_ = self._query, events.c.id
        if lead is None:
            query = query.where(id_ > span.after, id_ <= span.upto)
        elif self._connection.dialect.name == "sqlite":
            # The likelihood counts more than old statistics, by which it might look for a rare value in each row.
            query = query.where(
                func.likelihood(lead.column == lead.value, _LIKELIHOOD), id_ > span.after, id_ <= span.upto
            )
        else:
            # Pairs have the order of the one index. With a condition for each column PostgreSQL may take another one.
            pair = tuple_(lead.column, id_)
            query = query.where(
                lead.column.is_not(None), pair > (lead.value, span.after), pair <= (lead.value, span.upto)
            )
            query = query.order_by(lead.column.desc() if self._newest_first else lead.column)
        return query.order_by(id_.desc() if self._newest_first else id_)

    def _has_text(self, row: RowMapping) -> bool:
        return self._text.isascii() or self._text in fold_case("\0".join(row[one.name] for one in SEARCHED))


def _conditions(connection: Connection, wanted: EventFilter) -> tuple[list[_Lead], list[ColumnElement[bool]]]:
    """The values that lead to rows, each by its index, and the other conditions."""
    leads, others = list[_Lead](), list[ColumnElement[bool]]()
    c = events.c
    # Of several indexes the first mostly leads to the fewest rows.
    for column, values in ((c.type, wanted.types), (c.severity, wanted.severities), (c.source, wanted.sources)):
        stored = list(dict.fromkeys(storable(value) for value in values))
        if values and not leads and len(values) <= MOST_LED:
            leads = [_Lead(column, value) for value in stored]
        elif values:
            others.append(column.in_(stored))
    if wanted.since is not None:
        others.append(c.received_at >= naive_utc(wanted.since))
    if wanted.until is not None:
        others.append(c.received_at < naive_utc(wanted.until))
    if wanted.not_source:
        others.append(c.source != storable(wanted.not_source))
    if wanted.is_broadcast:
        others.append(c.broadcast.is_(True))
    if wanted.text:
        others.append(_contains(connection, storable(wanted.text), SEARCHED))
    if wanted.correlation:
        escaped = json.dumps(wanted.correlation, ensure_ascii=False)[1:-1]
        others.append(_contains(connection, storable(escaped), SEARCHED[2:]))
    if wanted.about:
        others.append(_is_about(connection, wanted.about))
    return leads, others


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
