"""Named queries over the changes of state of services and over their heartbeats, in the caller's transaction.

A row that another program or a later version wrote, and that has no valid state, counts as none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, delete, func, insert, or_, select

from tentaculo.model.health import GATEWAY_NAME, DegradedKind, Health, LastHeartbeat, StateChange
from tentaculo.model.reason import Reason
from tentaculo.store.lease import notify_fleet
from tentaculo.store.tables import (
    aware_utc,
    dialect_module,
    encoded_reason,
    heartbeats,
    naive_utc,
    state_changes,
    storable,
)

MOST_CHANGES = 100_000
"""Changes that are kept at most: a service that flaps every second makes as many in a day."""
_REASON = 300
"""Characters of a reason that are stored."""
_VALUES = 1000
"""Characters of its values that are stored: a service that flaps must not fill the disk with what it says."""


def add_changes(connection: Connection, changes: Sequence[StateChange], *, is_repeat: bool = False) -> None:
    """Store changes of state. Of a repeat, some may have been stored by the attempt whose outcome was not known."""
    known = _stored(connection, changes) if is_repeat and changes else set()
    rows = [
        {
            "service": change.service,
            "endpoint": change.endpoint,
            "before": change.before.value,
            "after": change.after.value,
            "kind": change.kind and change.kind.value,
            "reason": storable(change.reason[:_REASON]),
            "changed_at": naive_utc(change.at),
            **encoded_reason("reason", change.cause, _VALUES),
        }
        for change in changes
        if _key(change) not in known
    ]
    if rows:
        connection.execute(insert(state_changes), rows)
        notify_fleet(connection)


def _stored(connection: Connection, changes: Sequence[StateChange]) -> set[tuple[object, ...]]:
    """What is stored of the services of `changes` since the first of them."""
    c = state_changes.c
    first, services = naive_utc(min(change.at for change in changes)), {change.service for change in changes}
    found = select(c.service, c.endpoint, c.after, c.changed_at).where(c.service.in_(services), c.changed_at >= first)
    return {tuple(row) for row in connection.execute(found)}


def _key(change: StateChange) -> tuple[object, ...]:
    return change.service, change.endpoint, change.after.value, naive_utc(change.at)


def latest_changes(connection: Connection) -> list[StateChange]:
    """The last change of each service and of each endpoint."""
    c = state_changes.c
    last = select(func.max(c.id)).group_by(c.service, c.endpoint)
    return read_changes(connection, select(state_changes).where(c.id.in_(last)).order_by(c.id))


def read_changes(connection: Connection, query: Select[Any]) -> list[StateChange]:
    """The changes that `query`, a selection of all their columns, finds."""
    return [change for row in connection.execute(query).mappings() if (change := _change(row)) is not None]


def changes_after(connection: Connection, position: int | None, limit: int = 1000) -> tuple[int, list[StateChange]]:
    """The changes after `position`, and the position behind them; without one the last change of each.

    A machine reads what another one stores with this: one holder of the lease stores them, in the order of their ids.
    """
    c = state_changes.c
    end = connection.execute(select(func.coalesce(func.max(c.id), 0))).scalar_one()
    if position is None or end < position:
        # A backup was restored, with smaller ids.
        return end, latest_changes(connection)
    if end == position:
        return end, []
    query = select(state_changes).where(c.id > position).order_by(c.id).limit(limit)
    rows = connection.execute(query).mappings().all()
    return rows[-1]["id"] if rows else end, [change for row in rows if (change := _change(row)) is not None]


def forget_changes(connection: Connection, before: datetime, most: int = MOST_CHANGES, batch: int = 200) -> int:
    """Remove changes before a time, and all but the newest `most`; returns how many, `batch` at most.

    The last change of each service and endpoint stays.
    """
    c = state_changes.c
    last = select(func.max(c.id)).group_by(c.service, c.endpoint)
    beyond = select(func.coalesce(func.max(c.id), 0) - most).scalar_subquery()
    is_old = or_(c.changed_at < naive_utc(before), c.id <= beyond)
    old = select(c.id).where(is_old, c.id.not_in(last)).order_by(c.id).limit(batch)
    numbers = list(connection.scalars(old))
    if numbers:
        connection.execute(delete(state_changes).where(c.id.in_(numbers)))
    return len(numbers)


def save_heartbeats(connection: Connection, beats: Sequence[LastHeartbeat]) -> None:
    """Store the last heartbeat of each service, in place of the one before it."""
    for beat in sorted(beats, key=lambda one: one.service):
        values = {"service": beat.service, "received_at": naive_utc(beat.at), "body": beat.body}
        statement = dialect_module(connection).insert(heartbeats).values(values)
        replaced = {name: statement.excluded[name] for name in ("received_at", "body")}
        connection.execute(statement.on_conflict_do_update(index_elements=["service"], set_=replaced))
    if any(beat.service != GATEWAY_NAME for beat in beats):
        notify_fleet(connection)


def read_heartbeats(connection: Connection) -> dict[str, LastHeartbeat]:
    """The last heartbeat of each service, by its name."""
    return {
        row["service"]: LastHeartbeat(row["service"], aware_utc(row["received_at"]), row["body"])
        for row in connection.execute(select(heartbeats)).mappings()
        if isinstance(row["received_at"], datetime) and isinstance(row["body"], bytes | None)
    }


def _change(row: RowMapping | Mapping[str, Any]) -> StateChange | None:
    try:
        return StateChange(
            row["service"],
            row["endpoint"],
            Health(row["before"]),
            Health(row["after"]),
            row["reason"],
            aware_utc(row["changed_at"]),
            DegradedKind(row["kind"]) if row["kind"] else None,
            Reason.decode(row["reason"], row["reason_code"], row["reason_values"]),
        )
    except (ValueError, AttributeError):
        return None
