"""What workers tell each other, as values. Each fits into one message of a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tentaculo.model.endpoint import Endpoint
from tentaculo.model.health import ProbeResult
from tentaculo.model.history import Tally
from tentaculo.model.incident import Incident, MaintenanceWindow, Note

ShownIncident = tuple[Incident, tuple[Note, ...]]
"""An incident on the page, with its notes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A worker has begun, and knows nothing yet."""

    by: int


@dataclass(frozen=True, slots=True)
class Probed:
    """What the leader's probes found."""

    results: Sequence[ProbeResult]


@dataclass(frozen=True, slots=True)
class Maintained:
    """Of some services: why each is in maintenance, None where it is not."""

    reasons: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Listed:
    """What the page shows beside the services."""

    incidents: Sequence[ShownIncident]
    windows: Sequence[MaintenanceWindow]
    not_listed: int = 0
    """Open incidents that would not fit."""


@dataclass(frozen=True, slots=True)
class Suspected:
    """Requests speak against what is believed of an address."""

    upstream: Endpoint


@dataclass(frozen=True, slots=True)
class Beaten:
    """A service has sent a heartbeat."""

    service: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Met:
    """What a worker's requests met since it told of that last, by service."""

    tallies: Mapping[str, Tally]


def shortened(listed: Listed) -> Listed:
    """The first half of it, which the page of a phone shows anyway, and how many open incidents that leaves out."""
    incidents, windows = listed.incidents, listed.windows
    half = len(incidents) // 2
    left_out = sum(incident.is_open for incident, _ in incidents[half:])
    return Listed(incidents[:half], windows[: len(windows) // 2], listed.not_listed + left_out)
