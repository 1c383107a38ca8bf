"""Incidents and maintenance windows as JSON, for the API and the commands, and as rows of the status page. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tentaculo.model.health import Health
from tentaculo.model.incident import EVERY, Incident, MaintenanceWindow, Note
from tentaculo.model.text import format_duration, format_time, join_names, printable


def incident_shape(incident: Incident, notes: Sequence[Note] | None = None) -> dict[str, Any]:
    """One incident; with `notes`, those too."""
    shape = {
        "id": incident.id,
        "open": incident.is_open,
        "root": incident.root,
        "services": incident.services,
        "severity": incident.severity.value,
        "reason": incident.reason,
        "started_at": incident.started_at,
        "seen_at": incident.seen_at,
        "ended_at": incident.ended_at,
        "ending": incident.ending or None,
        "peak_error_rate": incident.peak_error_rate,
        "reopened": incident.reopened,
        "part_of": incident.part_of,
        "alerted_at": incident.alerted_at,
    }
    return shape if notes is None else {**shape, "notes": [note_shape(note) for note in notes]}


def note_shape(note: Note) -> dict[str, Any]:
    """One note."""
    return {"id": note.id, "at": note.at, "author": note.author or None, "text": note.text}


def window_shape(window: MaintenanceWindow, now: datetime) -> dict[str, Any]:
    """One maintenance."""
    return {
        "id": window.id,
        "services": list(window.services) or [EVERY],
        "reason": window.reason,
        "starts_at": window.starts_at,
        "ends_at": window.ends_at,
        "holds": window.holds(now),
        "author": window.author or None,
        "source": "configuration" if window.id is None else "database",
    }


MOST_OPEN, MOST_NOTES, MOST_WINDOWS = 20, 5, 10
"""What the page shows of each: open incidents, the newest notes of one, and windows."""


@dataclass(frozen=True, slots=True)
class NoteRow:
    """One note, ready to be shown."""

    at: datetime
    written: str
    author: str
    text: str


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """One incident, ready to be shown."""

    id: int
    is_open: bool
    key: str
    """Names its symbol and its accent in the template."""
    state: str
    root: str
    started_at: datetime
    started: str
    lasted: str
    reason: str
    ending: str
    affected: str
    more: str
    """What else is known of it, in a sentence or two; may be empty."""
    notes: tuple[NoteRow, ...]


@dataclass(frozen=True, slots=True)
class WindowRow:
    """One maintenance, ready to be shown."""

    holds: bool
    services: str
    reason: str
    starts_at: datetime
    starts: str
    ends_at: datetime
    ends: str


def incident_row(incident: Incident, notes: Sequence[Note], now: datetime) -> IncidentRow:
    """`incident` in words."""
    is_down = incident.severity is Health.DOWN
    ended_at = incident.ended_at
    return IncidentRow(
        id=incident.id,
        is_open=incident.is_open,
        key=("down" if is_down else "degraded") if incident.is_open else "up",
        state=("Down" if is_down else "Degraded") if incident.is_open else "Over",
        root=printable(incident.root, 80),
        started_at=incident.started_at,
        started=format_time(incident.started_at, now),
        lasted=format_duration(((ended_at or now) - incident.started_at).total_seconds(), units=1),
        reason=printable(incident.reason, 200),
        ending=printable(incident.ending, 200),
        affected=join_names(incident.affected, longest=80),
        more=" ".join(_more(incident)),
        notes=tuple(_note_row(note, now) for note in notes[-MOST_NOTES:]),
    )


def window_row(window: MaintenanceWindow, now: datetime) -> WindowRow:
    """`window` in words."""
    return WindowRow(
        holds=window.holds(now),
        services=join_names(window.services, longest=80) or "every service",
        reason=printable(window.reason, 200),
        starts_at=window.starts_at,
        starts=format_time(window.starts_at, now),
        ends_at=window.ends_at,
        ends=format_time(window.ends_at, now),
    )


def _note_row(note: Note, now: datetime) -> NoteRow:
    return NoteRow(note.at, format_time(note.at, now), printable(note.author, 80), printable(note.text, 400))


def _more(incident: Incident) -> Iterable[str]:
    if incident.peak_error_rate is not None:
        yield f"At worst {incident.peak_error_rate:.0%} of its calls and probes failed."
    if incident.reopened:
        yield f"It came back {'once' if incident.reopened == 1 else f'{incident.reopened} times'}."
