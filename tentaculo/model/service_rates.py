"""The rates of a service in the last minutes, and what is usual for it at this hour, both from its history. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from typing import Final

import msgspec

from tentaculo.model.history import HOUR, MINUTE, Period, RouteCount, Tally

RECENT: Final = 5 * MINUTE
"""Seconds that the recent rates cover."""
WORST_OF: Final = 60 * MINUTE
"""Seconds in which the worst minute is looked for."""
_LATE: Final = 5
"""Seconds after its end until a minute is complete: the counts of other workers, and the write, come a little later."""


def recent_end(now: int) -> int:
    """The end of the last complete minute at `now`. Both are seconds since 1970."""
    return (now - _LATE) // MINUTE * MINUTE


class WorstMinute(msgspec.Struct, frozen=True):
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


def share_interval(part: int, whole: int) -> tuple[float, float]:
    """Between which shares the true one is with a confidence of 95 %, where `part` of `whole` were counted: Wilson's interval.

    Both are from 0 to 1. `whole` is more than 0.
    """
    share, z2 = part / whole, 1.96**2
    middle = (share + z2 / (2 * whole)) / (1 + z2 / whole)
    half = 1.96 * sqrt(share * (1 - share) / whole + z2 / (4 * whole * whole)) / (1 + z2 / whole)
    # Of none and of all the ends are 0 and 1, but for what floating point leaves.
    return (middle - half if part else 0.0), (middle + half if part < whole else 1.0)


class RecentRates(msgspec.Struct, frozen=True):
    """What one service did in the last complete minutes."""

    until: int
    """The end of the last of them, in seconds since 1970."""
    minutes: int
    """Of how many anything is known: fewer than all after a start, or while nothing was stored."""
    probes: Tally = msgspec.field(default_factory=Tally)
    requests: Tally = msgspec.field(default_factory=Tally)
    worst: WorstMinute | None = None
    """None where nothing failed in the last hour."""
    routes: Mapping[str, RouteCount] = msgspec.field(default_factory=dict)
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


USUAL_DAYS: Final = 7
"""Days before today whose same hour is looked at."""
LEAST_DAYS: Final = 4
"""Of them, how many must be known: more than half."""
_LEAST_LATENCIES: Final = 10
"""Latencies that an hour must have for its percentile to count: that of a few says nothing."""


class UsualRates(msgspec.Struct, frozen=True):
    """The medians of one service over the same hour, in UTC, of the last seven days that are known.

    A median is the same whether one day had an outage, a gap or the wrong time.
    """

    hour: int
    """The start of the hour of today that it is about, in seconds since 1970."""
    days: int
    """How many days are known, `LEAST_DAYS` or more."""
    requests_per_minute: float
    requests_p95: float | None
    """Seconds; None where fewer than `LEAST_DAYS` of these hours had requests enough."""
    probes_p95: float | None
    """Seconds; None as above."""


def usual_rates(hour: int, hours: Iterable[Period]) -> UsualRates | None:
    """What is usual by `hours`, the same hour of other days; None where too few of them are known."""
    known = [(period, minutes) for period in hours if (minutes := _known_minutes(period))]
    if len(known) < LEAST_DAYS:
        return None
    return UsualRates(
        hour,
        len(known),
        _median([(period.requests.ok + period.requests.failed) / minutes for period, minutes in known]),
        _usual_p95([period.requests for period, _ in known]),
        _usual_p95([period.probes for period, _ in known]),
    )


def _known_minutes(period: Period) -> float:
    """The minutes of an hour of which anything is known; 0 where that is less than half, or in maintenance.

    Of a service without probes nothing says how long it was watched. Its hour is whole if it had requests.
    """
    uptime = period.uptime
    milliseconds = 0 if uptime is None else uptime.available + uptime.unavailable
    if milliseconds:
        return min(milliseconds / 60_000, 60.0) if milliseconds >= HOUR * 1000 / 2 else 0.0
    return 60.0 if period.requests or period.probes else 0.0


def _usual_p95(tallies: Sequence[Tally]) -> float | None:
    found = [
        seconds
        for tally in tallies
        if tally.latency.count >= _LEAST_LATENCIES and (seconds := tally.latency.percentile(0.95)) is not None
    ]
    return _median(found) if len(found) >= LEAST_DAYS else None


def _median(values: Sequence[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2
