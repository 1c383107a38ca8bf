"""Incidents and planned maintenance as the page shows them: in words, and cut to size. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tentaculo.model.health import Health
from tentaculo.model.incident import Incident, MaintenanceWindow, Note
from tentaculo.web import wording

MOST_OPEN, MOST_NOTES, MOST_WINDOWS = 20, 5, 10
"""What the page shows of each: open incidents, the newest notes of one, and windows."""
_MOST_NAMES = 10


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
        root=wording.cut(incident.root, 80),
        started_at=incident.started_at,
        started=f"{wording.at(incident.started_at, now)} UTC",
        lasted=wording.format_duration(((ended_at or now) - incident.started_at).total_seconds()),
        reason=wording.cut(incident.reason, 200),
        ending=wording.cut(incident.ending, 200),
        affected=_names(incident.affected),
        more=" ".join(_more(incident)),
        notes=tuple(_note_row(note, now) for note in notes[-MOST_NOTES:]),
    )


def window_row(window: MaintenanceWindow, now: datetime) -> WindowRow:
    """`window` in words."""
    return WindowRow(
        holds=window.holds(now),
        services=_names(window.services) or "every service",
        reason=wording.cut(window.reason, 200),
        starts_at=window.starts_at,
        starts=f"{wording.at(window.starts_at, now)} UTC",
        ends_at=window.ends_at,
        ends=f"{wording.at(window.ends_at, now)} UTC",
    )


def _note_row(note: Note, now: datetime) -> NoteRow:
    return NoteRow(
        note.at, f"{wording.at(note.at, now)} UTC", wording.cut(note.author, 80), wording.cut(note.text, 400)
    )


def _more(incident: Incident) -> Iterable[str]:
    if incident.peak_error_rate is not None:
        yield f"At worst {incident.peak_error_rate:.0%} of its calls and probes failed."
    if incident.reopened:
        yield f"It came back {'once' if incident.reopened == 1 else f'{incident.reopened} times'}."


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(wording.cut(name, 80) for name in names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"
