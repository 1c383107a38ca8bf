"""One stored event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One event, as it is stored and broadcast."""

    id: int
    """Grows strictly with each event and fits in 53 bits, so JavaScript can hold it."""
    source: str
    type: str
    payload: Mapping[str, Any]
    received_at: datetime
    canonical: bool = False
    broadcast: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
