"""The mutes of incidents. The latest one of an incident counts; one that ends when it was made takes back another."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from tentaculo.model.mute import Mute
from tentaculo.store.lease import notify_fleet
from tentaculo.store.tables import aware_utc, mutes, naive_utc, storable


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
        row["incident"]: Mute(
            row["id"],
            row["incident"],
            aware_utc(row["muted_at"]),
            row["author"],
            None if row["until_at"] is None else aware_utc(row["until_at"]),
        )
        for row in connection.execute(select(mutes).where(c.id.in_(latest))).mappings()
    }
