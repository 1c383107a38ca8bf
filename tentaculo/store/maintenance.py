"""Queries of maintenance windows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from tentaculo.model.incident import MaintenanceWindow
from tentaculo.store.sql_values import aware_utc, naive_utc, storable
from tentaculo.store.tables import maintenance


def add_window(connection: Connection, window: MaintenanceWindow) -> MaintenanceWindow:
    """Store a maintenance window, and give it with its number."""
    values = {
        "services": json.dumps(window.services),
        "starts_at": naive_utc(window.starts_at),
        "ends_at": naive_utc(window.ends_at),
        "reason": storable(window.reason),
        "author": storable(window.author),
    }
    number = connection.execute(insert(maintenance).values(values)).inserted_primary_key[0]  # type: ignore[index]
    return _window({**values, "id": number})


def windows(connection: Connection, after: datetime, limit: int) -> list[MaintenanceWindow]:
    """The maintenance windows that end after a time, the first to begin first; `limit` at most."""
    query = (
        select(maintenance)
        .where(maintenance.c.ends_at > naive_utc(after))
        .order_by(maintenance.c.starts_at, maintenance.c.id)
        .limit(limit)
    )
    return [_window(row) for row in connection.execute(query).mappings()]


def end_window(connection: Connection, number: int, now: datetime) -> MaintenanceWindow | None:
    """End a window at `now`; one that has not begun is removed. None where there is none that still holds or will."""
    c = maintenance.c
    still = (c.id == number) & (c.ends_at > naive_utc(now))
    row = connection.execute(select(maintenance).where(still)).mappings().one_or_none()
    if row is None:
        return None
    if row["starts_at"] >= naive_utc(now):
        connection.execute(delete(maintenance).where(c.id == number))
        return _window(row)
    connection.execute(update(maintenance).where(c.id == number).values(ends_at=naive_utc(now)))
    return _window({**row, "ends_at": naive_utc(now)})


def _window(row: Mapping[str, Any] | RowMapping) -> MaintenanceWindow:
    return MaintenanceWindow(
        tuple(json.loads(row["services"])),
        aware_utc(row["starts_at"]),
        aware_utc(row["ends_at"]),
        row["reason"],
        row["author"],
        int(row["id"]),
    )
