"""Muting the alerts of one incident. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Mute:
    """A person's word that no alert is to be sent about an incident. Its end is still notified if its beginning was."""

    id: int
    incident: int
    at: datetime
    author: str
    """A label. It says who, and proves nothing."""
    until: datetime | None = None
    """The first moment at which alerts are sent again; None is when the incident ends."""

    def holds(self, now: datetime) -> bool:
        """Whether the alerts of its incident are muted at `now`."""
        return self.until is None or now < self.until
