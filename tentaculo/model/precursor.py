"""Which types of events came before the incidents of a service more often than at the same hour of other days. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

DEFAULT_DAYS: Final = 28
MOST_DAYS: Final = 90
"""Days that a report covers."""
LEAST_INCIDENTS: Final = 5
"""Fewer incidents of a service prove nothing: their events are counted, and nothing is claimed."""
LEVEL: Final = 0.05
"""The share of false claims among all claims, at most, in the mean."""
WINDOW: Final = 540
"""Seconds of the window before an incident."""


@dataclass(frozen=True, slots=True)
class Precursor:
    """One type of events of one source, counted by windows: a burst of any size is one occurrence."""

    source: str
    type: str
    before: Mapping[int, int]
    """The incidents before which it came, with the id of its last event there."""
    others_with: int
    """How many windows of other days it came in."""
    p: float | None = None
    """How probable so many by chance alone are; None where nothing was tested."""
    q: float | None = None
    """`p`, corrected for everything that the report has tested."""

    @property
    def is_claimed(self) -> bool:
        """Whether the report says that it comes before the incidents."""
        return self.q is not None and self.q <= LEVEL


@dataclass(frozen=True, slots=True)
class ServicePrecursors:
    """What came before the incidents of one service."""

    service: str
    margin: float
    """Seconds before the detection that are left out: what came in them may be a consequence."""
    incidents: tuple[int, ...]
    """The incidents that count."""
    others: int
    """How many windows of other days they were compared with."""
    precursors: tuple[Precursor, ...] = ()
    """The most telling first."""

    @property
    def within(self) -> float:
        """Seconds from the begin of a window to the detection."""
        return self.margin + WINDOW

    def sentence(self, one: Precursor) -> str:
        """What was counted, in words. Names are as the producers sent them."""
        count = len(self.incidents)
        verb = "was" if len(one.before) == 1 else "were"
        text = (
            f"{len(one.before)} of {count} incidents of {self.service} {verb} preceded within"
            f" {round(self.within / 60)} minutes by {one.type} of {one.source}; on other days at that hour"
            f" {one.others_with} of {self.others}."
        )
        if count < LEAST_INCIDENTS:
            return f"{text} {LEAST_INCIDENTS} incidents are needed for a claim."
        return text if one.is_claimed else f"{text} This may be chance."


@dataclass(frozen=True, slots=True)
class PrecursorReport:
    """What came before the incidents of every service."""

    since: datetime
    until: datetime
    tested: int = 0
    """How many pairs of a service and a type were tested."""
    openings: Mapping[int, int] = field(default_factory=dict)
    """By incident, the id of the event that records its opening."""
    services: Mapping[str, ServicePrecursors] = field(default_factory=dict)
    """By service."""


class ReadPrecursors(Protocol):
    """Reads the report of the last days."""

    async def __call__(self, days: int, opened: datetime, /) -> PrecursorReport:
        """The report of the last `days`, which may be some minutes old, but not older than an incident that opened then.

        Raises a 503 `Problem` while the database is away.
        """
        ...
