"""What the status page draws on its axis of time: changes of state, latencies, incidents and events of one span."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from tentaculo.model.event import Event
from tentaculo.model.health import StateChange
from tentaculo.model.history import Period
from tentaculo.model.incident import Incident

JUST_BEFORE: Final = timedelta(minutes=30)
"""How long before an incident an event is shown as what came just before it."""


@dataclass(frozen=True, slots=True)
class TimelineRequest:
    """Which part of the past is wanted."""

    since: int
    """Seconds since 1970."""
    until: int
    """As above; not included."""
    span: int
    """Seconds of one period of latencies: `MINUTE`, `HOUR` or `DAY`."""
    services: tuple[str, ...]
    """Those whose states are wanted."""
    detailed: tuple[str, ...] = ()
    """Those whose latencies are wanted too."""
    failing: tuple[tuple[str, datetime], ...] = ()
    """The roots of open incidents, and when each began: their earlier incident and the events just before are wanted."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The past that was found. Of a great number of anything, only the newest."""

    changes: Mapping[str, tuple[StateChange, ...]] = field(default_factory=dict)
    """By service, in the order in which they were noted. The first is the state at the beginning, where that is known."""
    periods: Mapping[str, tuple[Period, ...]] = field(default_factory=dict)
    """By service, the oldest first."""
    incidents: tuple[Incident, ...] = ()
    """Those that were open in the span, the newest first, without those that are part of another one."""
    events: tuple[Event, ...] = ()
    """Those of the services, the newest first."""
    earlier: Mapping[str, Incident] = field(default_factory=dict)
    """By root, the last incident before the open one."""
    just_before: Mapping[str, Event] = field(default_factory=dict)
    """By root, the last event within `JUST_BEFORE` of the beginning of the open incident."""
