"""The rates of a service in the last minutes, from its history by the minute. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tentaculo.model.history import MINUTE, RouteCount, Tally

RECENT: Final = 5 * MINUTE
"""Seconds that the recent rates cover."""
WORST_OF: Final = 60 * MINUTE
"""Seconds in which the worst minute is looked for."""
_LATE: Final = 5
"""Seconds after its end until a minute is complete: the counts of other workers, and the write, come a little later."""


def recent_end(now: int) -> int:
    """The end of the last complete minute at `now`. Both are seconds since 1970."""
    return (now - _LATE) // MINUTE * MINUTE


@dataclass(frozen=True, slots=True)
class WorstMinute:
    """The minute of the last hour in which the greatest share of the probes and requests failed."""

    start: int
    """Its first second since 1970."""
    failed: int
    counted: int
    """Probes and requests, failed ones included. More than 0."""

    @property
    def failed_share(self) -> float:
        """0 to 1."""
        return self.failed / self.counted


def worst_of(minutes: Iterable[WorstMinute]) -> WorstMinute | None:
    """The worst of some minutes in which something failed; of equal ones that with more failures, and then the latest."""
    return max(minutes, key=lambda one: (one.failed_share, one.failed, one.start), default=None)


@dataclass(frozen=True, slots=True)
class RecentRates:
    """What one service did in the last complete minutes."""

    until: int
    """The end of the last of them, in seconds since 1970."""
    minutes: int
    """Of how many anything is known: fewer than all after a start, or while nothing was stored."""
    probes: Tally = field(default_factory=Tally)
    requests: Tally = field(default_factory=Tally)
    worst: WorstMinute | None = None
    """None where nothing failed in the last hour."""
    routes: Mapping[str, RouteCount] = field(default_factory=dict)
    """The requests by the name of their route; a route without requests is left out."""

    @property
    def since(self) -> int:
        """The beginning of the first minute, in seconds since 1970."""
        return self.until - RECENT

    @property
    def failed_share(self) -> float | None:
        """The share of failures among probes and requests, 0 to 1, as an incident's; None where there were none."""
        failed = self.probes.failed + self.requests.failed
        counted = failed + self.probes.ok + self.requests.ok
        return failed / counted if counted else None

    def per_minute(self, count: int) -> float | None:
        """How many that is a minute; None where no minute is known."""
        return count / self.minutes if self.minutes else None
