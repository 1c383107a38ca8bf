"""The four phases of a proxied request, and how long each of them took over many requests. Pure.

The queue is the wait for room at an endpoint, and connect that for a new connection with it. The first byte is the wait
for the head of the response once the request has been sent, with attempts that failed. The body is the rest: both bodies,
as fast as the client and the service let them pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

BOUNDS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the buckets of a phase, in seconds; one more has what took longer."""


class Phases(NamedTuple):
    """Seconds of each phase, of one request or of several together."""

    queue: float = 0.0
    connect: float = 0.0
    first_byte: float = 0.0
    body: float = 0.0

    def plus(self, other: Phases) -> Phases:
        """The sums, phase by phase."""
        return Phases(*[mine + more for mine, more in zip(self, other, strict=True)])


@dataclass(slots=True)
class PhaseCounts:
    """How long one phase took, counted in buckets."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    """Requests by the first of `BOUNDS` that they stayed within."""
    seconds: float = 0.0
    """All of them together."""

    def add(self, seconds: float, count: int = 1) -> None:
        """Count `count` requests whose phase took `seconds` each."""
        self.buckets[sum([seconds > bound for bound in BOUNDS])] += count
        self.seconds += seconds * count

    def merge(self, other: PhaseCounts) -> None:
        """Count every request of `other` too."""
        self.buckets = [mine + more for mine, more in zip(self.buckets, other.buckets, strict=True)]
        self.seconds += other.seconds
