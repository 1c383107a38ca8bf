"""Queries of incidents, their notes, acknowledgements and mutes, and of maintenance windows, in the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, and_, case, delete, func, insert, or_, select, update

from tentaculo.model.health import Health
from tentaculo.model.incident import (
    EVERY_CHANNEL,
    Acknowledgement,
    ChannelTotals,
    DeliveryRecord,
    Incident,
    MaintenanceWindow,
    Note,
    NotificationState,
    Notified,
)
from tentaculo.model.mute import Mute
from tentaculo.model.reason import Reason
from tentaculo.store.lease import notify_fleet
from tentaculo.store.tables import (
    acknowledgements,
    alert_channels,
    aware_utc,
    dialect_module,
    encoded_reason,
    incident_notes,
    incidents,
    maintenance,
    mutes,
    naive_utc,
    storable,
)

MOST_MUTES: Final = 25
"""Mutes of one incident that a page says."""

_NOTIFIED = msgspec.json.Encoder()
_DELIVERED = msgspec.json.Decoder(dict[str, Notified])
_DELIVERIES = msgspec.json.Decoder(tuple[DeliveryRecord, ...])


def save(connection: Connection, changed: Sequence[Incident]) -> None:
    """Bring the rows of `changed` up to date, in place."""
    for incident in sorted(changed, key=lambda one: one.id):
        values = _row(incident)
        done = connection.execute(update(incidents).where(incidents.c.id == incident.id).values(values))
        if not done.rowcount:
            connection.execute(insert(incidents).values(id=incident.id, **values))
    notify_fleet(connection)


def find(connection: Connection, number: int) -> Incident | None:
    """One incident."""
    row = connection.execute(select(incidents).where(incidents.c.id == number)).mappings().one_or_none()
    return None if row is None else _acknowledged(connection, [_incident(row)])[0]


def newest(
    connection: Connection, *, limit: int, before: int | None = None, is_open: bool | None = None
) -> list[Incident]:
    """At most `limit` incidents, the newest first, older than the id `before`, open or ended ones only."""
    conditions = [] if before is None else [incidents.c.id < before]
    if is_open is not None:
        conditions.append(incidents.c.ended_at.is_(None) if is_open else incidents.c.ended_at.is_not(None))
    return read(connection, *conditions, limit=limit)


def read(connection: Connection, *conditions: ColumnElement[bool], limit: int) -> list[Incident]:
    """The newest `limit` incidents that meet all conditions, the newest first."""
    query = select(incidents).where(*conditions).order_by(incidents.c.id.desc()).limit(limit)
    return _acknowledged(connection, [_incident(row) for row in connection.execute(query).mappings()])


def open_between(connection: Connection, since: datetime, until: datetime, limit: int) -> list[Incident]:
    """The newest `limit` incidents that were open in a time, without those that are part of another one."""
    c = incidents.c
    lasted = or_(c.ended_at.is_(None), c.ended_at >= _naive(since))
    return read(connection, lasted, c.started_at <= _naive(until), c.part_of.is_(None), limit=limit)


def unfinished(connection: Connection, since: datetime, announced_since: datetime, limit: int) -> list[Incident]:
    """The newest `limit` incidents that a new process continues.

    They are open, or ended after `since`, or were announced and ended after `announced_since`: their end was not. One
    that was merged into another ends with its own root, whenever that recovers.
    """
    c = incidents.c
    is_recent = or_(c.ended_at > naive_utc(announced_since), c.part_of.is_not(None))
    must_continue = or_(
        c.ended_at.is_(None),
        c.ended_at > naive_utc(since),
        and_(c.told == NotificationState.OPEN.value, is_recent),
    )
    return read(connection, must_continue, limit=limit)


def forget(connection: Connection, before: datetime, batch: int = 200) -> int:
    """Remove incidents that ended before a time, with what people wrote, `batch` at most; gives how many there were.

    Channels of alerts that were last used before that time are removed too.
    """
    old = select(incidents.c.id).where(incidents.c.ended_at < naive_utc(before)).order_by(incidents.c.id).limit(batch)
    numbers = list(connection.scalars(old))
    if numbers:
        for written in (incident_notes, acknowledgements, mutes):
            connection.execute(delete(written).where(written.c.incident.in_(numbers)))
        connection.execute(delete(incidents).where(incidents.c.id.in_(numbers)))
    c = alert_channels.c
    is_old = [or_(moment.is_(None), moment < naive_utc(before)) for moment in (c.last_sent_at, c.last_error_at)]
    connection.execute(delete(alert_channels).where(*is_old))
    return len(numbers)


def add_note(connection: Connection, incident: int, author: str, text: str, at: datetime) -> Note:
    """Store a note."""
    values = {
        "incident": incident,
        "written_at": naive_utc(at),
        "author": storable(author),
        "text": storable(text),
    }
    number = connection.execute(insert(incident_notes).values(values)).inserted_primary_key[0]  # type: ignore[index]
    notify_fleet(connection)
    return Note(int(number), incident, at, author, text)


def notes(connection: Connection, numbers: Iterable[int], limit: int) -> list[Note]:
    """The notes of some incidents, the oldest first, the newest `limit`."""
    query = (
        select(incident_notes)
        .where(incident_notes.c.incident.in_(list(numbers)))
        .order_by(incident_notes.c.id.desc())
        .limit(limit)
    )
    found = [
        Note(row["id"], row["incident"], aware_utc(row["written_at"]), row["author"], row["text"])
        for row in connection.execute(query).mappings()
    ]
    return found[::-1]


def add_acknowledgement(connection: Connection, incident: int, author: str, note: str, at: datetime) -> Acknowledgement:
    """Store an acknowledgement."""
    values = {
        "incident": incident,
        "acknowledged_at": naive_utc(at),
        "author": storable(author),
        "note": storable(note),
    }
    number = connection.execute(insert(acknowledgements).values(values)).inserted_primary_key[0]  # type: ignore[index]
    return Acknowledgement(int(number), incident, at, author, note)


def latest_acknowledgements(connection: Connection, numbers: Collection[int]) -> dict[int, Acknowledgement]:
    """The latest acknowledgement of each of some incidents that have any, by the id of the incident."""
    c = acknowledgements.c
    latest = select(func.max(c.id)).where(c.incident.in_(numbers)).group_by(c.incident)
    query = select(acknowledgements).where(c.id.in_(latest))
    return {row["incident"]: _acknowledgement(row) for row in connection.execute(query).mappings()}


def acknowledgements_of(connection: Connection, numbers: Collection[int], limit: int) -> list[Acknowledgement]:
    """The acknowledgements of some incidents, the oldest first, the newest `limit`."""
    c = acknowledgements.c
    query = select(acknowledgements).where(c.incident.in_(numbers)).order_by(c.id.desc()).limit(limit)
    return [_acknowledgement(row) for row in connection.execute(query).mappings()][::-1]


def _acknowledgement(row: RowMapping) -> Acknowledgement:
    return Acknowledgement(row["id"], row["incident"], aware_utc(row["acknowledged_at"]), row["author"], row["note"])


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
    """The mutes of an incident, the oldest first; of many the last `MOST_MUTES`."""
    newest = select(mutes).where(mutes.c.incident == incident).order_by(mutes.c.id.desc()).limit(MOST_MUTES)
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


def _acknowledged(connection: Connection, found: list[Incident]) -> list[Incident]:
    """`found`, each with its latest acknowledgement and mute."""
    numbers = [one.id for one in found]
    known = latest_acknowledgements(connection, numbers) if found else {}
    muted = latest_mutes(connection, numbers) if found else {}
    return [replace(one, acknowledged=known.get(one.id), muted=muted.get(one.id)) for one in found]


def _row(incident: Incident) -> dict[str, Any]:
    return {
        "root": incident.root,
        "services": json.dumps(incident.services),
        "severity": incident.severity.value,
        "reason": storable(incident.reason),
        "started_at": naive_utc(incident.started_at),
        "seen_at": naive_utc(incident.seen_at),
        "ended_at": _naive(incident.ended_at),
        "ending": storable(incident.ending),
        "peak_error_rate": incident.peak_error_rate,
        "reopened": incident.reopened,
        "part_of": incident.part_of,
        # What an earlier version reads.
        "told": incident.alert_state.value,
        "told_at": _naive(incident.alerted_at),
        "told_services": max((one.services for one in incident.notified.values()), default=0),
        "notified": _NOTIFIED.encode(incident.notified).decode(),
        **encoded_reason("reason", incident.cause),
        **encoded_reason("ending", incident.ending_cause),
        "reopened_at": _naive(incident.reopened_at),
        "failed_requests": incident.failed_requests,
        "counted_until": _naive(incident.counted_until),
        "deliveries": storable(_NOTIFIED.encode(incident.deliveries).decode()),
    }


def _incident(row: RowMapping) -> Incident:
    values = dict(row)
    for name in ("started_at", "seen_at", "ended_at", "told_at", "reopened_at", "counted_until"):
        values[name] = _aware(values[name])
    values["services"] = tuple(json.loads(values["services"]))
    values["severity"] = Health(values["severity"])
    told, told_at, told_services = (values.pop(name) for name in ("told", "told_at", "told_services"))
    if values["notified"] is not None:
        values["notified"] = _notified(values["notified"])
    else:
        # An earlier version did not record which channel delivered a message.
        last = told_at and Notified(NotificationState(told), told_at, values["severity"], told_services)
        values["notified"] = {EVERY_CHANNEL: last} if last else {}
    for name, member in (("reason", "cause"), ("ending", "ending_cause")):
        code, encoded = values.pop(f"{name}_code"), values.pop(f"{name}_values")
        values[member] = Reason.decode(values[name], code, encoded)
    values["deliveries"] = () if values["deliveries"] is None else _deliveries(values["deliveries"])
    return Incident(**values)


def _deliveries(encoded: str) -> tuple[DeliveryRecord, ...]:
    try:
        return _DELIVERIES.decode(encoded)
    except msgspec.MsgspecError:
        # They only say what was: what a later version wrote must not hide the incident.
        return ()


def _notified(encoded: str) -> dict[str, Notified]:
    try:
        return _DELIVERED.decode(encoded)
    except msgspec.MsgspecError:
        raise ValueError("holds deliveries of an unknown form") from None


def _naive(moment: datetime | None) -> datetime | None:
    return None if moment is None else naive_utc(moment)


def _aware(moment: datetime | None) -> datetime | None:
    return None if moment is None else aware_utc(moment)


def add_channels(connection: Connection, totals: Sequence[ChannelTotals]) -> None:
    """Add to the totals of each channel."""
    statement = dialect_module(connection).insert(alert_channels)
    new, c = statement.excluded, alert_channels.c
    changed = {
        "sent": c.sent + new.sent,
        "failed": c.failed + new.failed,
        "last_sent_at": func.coalesce(new.last_sent_at, c.last_sent_at),
        "last_error_at": func.coalesce(new.last_error_at, c.last_error_at),
        "last_error": case((new.last_error_at.is_(None), c.last_error), else_=new.last_error),
    }
    rows = [
        {
            "name": one.name,
            "sent": one.sent,
            "failed": one.failed,
            "last_sent_at": _naive(one.last_sent_at),
            "last_error_at": _naive(one.last_error_at),
            "last_error": storable(one.last_error),
        }
        for one in sorted(totals, key=lambda one: one.name)
    ]
    if rows:
        connection.execute(statement.on_conflict_do_update(index_elements=[c.name], set_=changed), rows)


def read_channels(connection: Connection, names: Sequence[str]) -> dict[str, ChannelTotals]:
    """The totals of those of `names` that have any, by name."""
    query = select(alert_channels).where(alert_channels.c.name.in_(names))
    return {
        row["name"]: ChannelTotals(
            **{**row, "last_sent_at": _aware(row["last_sent_at"]), "last_error_at": _aware(row["last_error_at"])}
        )
        for row in connection.execute(query).mappings()
    }


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
    notify_fleet(connection)
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


def move_window(connection: Connection, window: MaintenanceWindow, before: MaintenanceWindow) -> bool:
    """Change the start and the end of a stored window, where they are those of `before`; returns whether they were.

    Otherwise another process has ended or changed it since.
    """
    c = maintenance.c
    values = {"starts_at": naive_utc(window.starts_at), "ends_at": naive_utc(window.ends_at)}
    is_same = (
        (c.id == window.id) & (c.starts_at == naive_utc(before.starts_at)) & (c.ends_at == naive_utc(before.ends_at))
    )
    return bool(connection.execute(update(maintenance).where(is_same).values(values)).rowcount)


def change_window(connection: Connection, window: MaintenanceWindow, now: datetime) -> MaintenanceWindow | None:
    """Change the times and the reason of a stored window. None where there is none that still holds or will at `now`."""
    c = maintenance.c
    values = {
        "starts_at": naive_utc(window.starts_at),
        "ends_at": naive_utc(window.ends_at),
        "reason": storable(window.reason),
    }
    still = (c.id == window.id) & (c.ends_at > naive_utc(now))
    if not connection.execute(update(maintenance).where(still).values(values)).rowcount:
        return None
    notify_fleet(connection)
    return _window(connection.execute(select(maintenance).where(c.id == window.id)).mappings().one())


def end_window(connection: Connection, number: int, now: datetime) -> MaintenanceWindow | None:
    """End a window at `now`; one that has not begun is removed. None where there is none that still holds or will."""
    c = maintenance.c
    still = (c.id == number) & (c.ends_at > naive_utc(now))
    row = connection.execute(select(maintenance).where(still)).mappings().one_or_none()
    if row is None:
        return None
    notify_fleet(connection)
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
