"""How incidents, notes and maintenance are written as JSON: in the API, and by the commands. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tentaculo.model.incident import EVERY, Incident, MaintenanceWindow, Note


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
