"""Named queries over the gateway's own tables. Each runs on the caller's connection, in the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, insert, select

from tentaculo.model.event import Event
from tentaculo.store.tables import events, naive_utc, storable

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


def insert_events(connection: Connection, rows: Sequence[EventRow]) -> None:
    """Store events. Raises `IntegrityError` where an id is taken."""
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
