"""The mutes of incidents. The latest one of an incident counts; one that ends when it was made takes back another."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from tentaculo.model.mute import Mute
from tentaculo.store.lease import notify_fleet
from tentaculo.store.tables import aware_utc, mutes, naive_utc, storable

MOST: Final = 25
"""Mutes of one incident that a page says."""


def add_mute(connection: Connection, incident: int, author: str, at: datetime, until: datetime | None) -> Mute:
    """Store a mute."""
    values = {
        "incident": incident,
        "muted_at": naive_utc(at),
        "until_at": None if until is None else naive_utc(until),
        "author": storable(author),
    }
    number = connection.execute(insert(mutes).values(values)).inserted_primary_key[0]  # type: ignore[index]
    notify_fleet(connection)
    return Mute(int(number), incident, at, author, until)


def move_mute(connection: Connection, mute: Mute) -> None:
    """Change the beginning and the end of a stored mute."""
    values = {"muted_at": naive_utc(mute.at), "until_at": None if mute.until is None else naive_utc(mute.until)}
    connection.execute(update(mutes).where(mutes.c.id == mute.id).values(values))
    notify_fleet(connection)


def latest_mutes(connection: Connection, numbers: Collection[int]) -> dict[int, Mute]:
    """The latest mute of each of some incidents that have any, by the id of the incident."""
    c = mutes.c
    latest = select(func.max(c.id)).where(c.incident.in_(numbers)).group_by(c.incident)
    return {
        one.incident: one for one in map(_mute, connection.execute(select(mutes).where(c.id.in_(latest))).mappings())
    }


def last_mutes(connection: Connection, incident: int) -> tuple[Mute, ...]:
    """The mutes of an incident, the oldest first; of many the last `MOST`."""
    newest = select(mutes).where(mutes.c.incident == incident).order_by(mutes.c.id.desc()).limit(MOST)
    return tuple(map(_mute, connection.execute(newest).mappings()))[::-1]


def _mute(row: RowMapping) -> Mute:
    until = row["until_at"]
    return Mute(
        row["id"],
        row["incident"],
        aware_utc(row["muted_at"]),
        row["author"],
        None if until is None else aware_utc(until),
    )
