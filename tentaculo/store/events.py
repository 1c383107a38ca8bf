"""Queries of events, on the caller's connection and in the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, func, insert, select, text, update

from tentaculo.model.event import Event
from tentaculo.store.tables import event_sequence, events, naive_utc, storable

EventRow = Mapping[str, Any]
Query = Callable[[Connection], Any]


def event_row(event: Event) -> EventRow:
    """The row of an event. Raises TypeError or ValueError where its payload cannot be JSON."""
    return {
        "id": event.id,
        "source": storable(event.source),
        "type": storable(event.type),
        "payload": _to_json(event.payload),
        "metadata": _to_json(event.metadata),
        "canonical": event.canonical,
        "broadcast": event.broadcast,
        "received_at": naive_utc(event.received_at),
    }


MAX_CLOCK_ID = 2**53 - 2**50
"""No id is taken from a clock that is beyond this (the year 2219): ids must stay below 2**53."""
_ONLY_ROW = 1
_LOCK = 0x74656E746169
"""The PostgreSQL advisory lock of the event ids; the number is `tentai` in ASCII."""


def append_events(connection: Connection, rows: Sequence[EventRow]) -> list[int]:
    """Store events under ids that are greater than every id before them, in the order of `rows`; returns the ids.

    The `id` of a row is the least id it may get: the time, unless an event of a later time has been stored. On SQLite
    the transaction must have begun with BEGIN IMMEDIATE, so that no other process gives ids at the same time.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    last, stored = connection.execute(
        select(
            select(event_sequence.c.last_id).where(event_sequence.c.id == _ONLY_ROW).scalar_subquery(),
            select(func.max(events.c.id)).scalar_subquery(),
        )
    ).one()
    greatest = max(last or 0, stored or 0)
    ids = []
    for row in rows:
        wanted = row["id"] if row["id"] <= MAX_CLOCK_ID else 0
        greatest = max(greatest + 1, wanted)
        ids.append(greatest)
    if last is None:
        connection.execute(insert(event_sequence).values(id=_ONLY_ROW, last_id=greatest))
    else:
        connection.execute(update(event_sequence).where(event_sequence.c.id == _ONLY_ROW).values(last_id=greatest))
    insert_events(connection, [{**row, "id": id_} for row, id_ in zip(rows, ids, strict=True)])
    return ids


def insert_events(connection: Connection, rows: Sequence[EventRow]) -> None:
    """Store events under the ids that they have. Raises `IntegrityError` where an id is taken."""
    connection.execute(insert(events), list(rows))


def recent_events(connection: Connection, limit: int) -> list[Event]:
    """The newest `limit` events, newest first."""
    rows = connection.execute(select(events).order_by(events.c.id.desc()).limit(limit)).mappings()
    return [_event(row) for row in rows]


def _to_json(value: Mapping[str, Any]) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        # A lone surrogate: JSON can carry it as an escape, UTF-8 cannot.
        return json.dumps(value)


def _event(row: RowMapping) -> Event:
    return Event(
        id=row["id"],
        source=row["source"],
        type=row["type"],
        payload=json.loads(row["payload"]),
        received_at=row["received_at"].replace(tzinfo=UTC),
        canonical=row["canonical"],
        broadcast=row["broadcast"],
        metadata=json.loads(row["metadata"]),
    )
