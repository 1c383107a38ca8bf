"""Counts and latencies of a service per minute, hour and day."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tentaculo.model.histogram import Histogram

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86400
"""The spans of which history is kept, in seconds."""


@dataclass(slots=True)
class Tally:
    """What probes, or what proxied requests, met in some span of time."""

    ok: int = 0
    failed: int = 0
    latency: Histogram = field(default_factory=Histogram)
    """Of those that were ok."""

    def __bool__(self) -> bool:
        return bool(self.ok or self.failed)

    @property
    def share_ok(self) -> float | None:
        """The part that was ok, 0 to 1; None where there was nothing."""
        return self.ok / (self.ok + self.failed) if self else None

    def merge(self, other: Tally) -> None:
        """Take in what `other` met."""
        self.ok += other.ok
        self.failed += other.failed
        self.latency.merge(other.latency)


@dataclass(slots=True)
class Period:
    """What one service did in one span of time."""

    service: str
    span: int
    """`MINUTE`, `HOUR` or `DAY`."""
    start: int
    """Its first second since 1970 in UTC, a multiple of `span`."""
    probes: Tally = field(default_factory=Tally)
    requests: Tally = field(default_factory=Tally)

    def merge(self, other: Period) -> None:
        """Take in what happened in `other`."""
        self.probes.merge(other.probes)
        self.requests.merge(other.requests)


@dataclass(frozen=True, slots=True)
class HistorySummary:
    """The summary of one service's history."""

    hours: tuple[Period, ...] = ()
    """Of the last 24 hours, the one under way included, those in which something was met."""
    quarter: Tally = field(default_factory=Tally)
    """What probes met in the last 90 days, today included; without latencies."""
    since: int | None = None
    """When the first of that was met, in seconds since 1970, to the day or the hour."""
