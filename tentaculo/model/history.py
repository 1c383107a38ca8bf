"""Counts, latencies and availability of a service per minute, hour and day.

Latencies are counted in buckets whose bounds grow by a constant factor, so that every percentile is right within 2 %.
The buckets are those of DDSketch (Masson, Rim and Lee, VLDB 2019, section 2): bucket i holds the latencies between
g^(i-1) and g^i microseconds, where g = (1 + a) / (1 - a) for a relative error a, and one value represents all of them.
Every histogram has the same buckets, so two are merged by adding their counts: the percentiles of a day are those of the
merged histograms of its minutes, exactly as if each latency had been counted in the day's, and never an average.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil, log
from typing import Final, NamedTuple

ACCURACY: Final = 0.02
"""Largest relative error of a percentile between `SHORTEST` and `LONGEST`."""
SHORTEST: Final = 1e-6
"""Seconds; a shorter latency counts as this."""
LONGEST: Final = 3600.0
"""Seconds; a longer latency counts as this."""

_GROWTH: Final = (1 + ACCURACY) / (1 - ACCURACY)
SCALE: Final = 1 / log(_GROWTH)
SHIFT: Final = 1 - log(SHORTEST) * SCALE
BUCKETS: Final = int(log(LONGEST) * SCALE + SHIFT) + 1
"""Number of buckets. The first is for latencies up to `SHORTEST`."""

_VERSION: Final = 1
"""The first byte of an encoded histogram: the version of the buckets."""
_MOST_BYTES: Final = 9
"""Bytes of one number: 63 bits, more than any count."""


def bucket(seconds: float) -> int:
    """The number of the bucket that counts `seconds`, a finite number."""
    if seconds <= SHORTEST:
        return 0
    return min(int(log(seconds) * SCALE + SHIFT), BUCKETS - 1)


def _value(number: int) -> float:
    """The seconds that represent a bucket: wrong by `ACCURACY` at both of its bounds, by less between."""
    return SHORTEST if number == 0 else SHORTEST * 2 * _GROWTH**number / (_GROWTH + 1)


class Histogram:
    """The number of latencies in each bucket."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        """`counts` has the number of latencies, more than 0, by the number of their `bucket`; the others have none."""
        self._counts: dict[int, int] = dict(counts) if counts else {}

    def __repr__(self) -> str:
        return f"<Histogram of {self.count}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self._counts == other._counts

    @property
    def count(self) -> int:
        """Number of latencies."""
        return sum(self._counts.values())

    def add(self, seconds: float) -> None:
        """Count one latency."""
        number = bucket(seconds)
        self._counts[number] = self._counts.get(number, 0) + 1

    def merge(self, other: Histogram) -> None:
        """Count every latency of `other` too."""
        counts = self._counts
        for number, count in other._counts.items():
            counts[number] = counts.get(number, 0) + count

    def items(self) -> Iterator[tuple[float, int]]:
        """The seconds that represent each bucket in use, and how many latencies it has."""
        return ((_value(number), count) for number, count in self._counts.items())

    def percentiles(self, *parts: float) -> list[float | None]:
        """For each of `parts`, between 0 and 1, the seconds that at least this part of the latencies stay within.

        By nearest rank: of n latencies in order, the one at place ceil(part * n). None for each where it is empty.
        """
        total = self.count
        if not total:
            return [None] * len(parts)
        found: dict[float, float] = {}
        wanted = sorted(set(parts), reverse=True)
        seen = 0
        for number, count in sorted(self._counts.items()):
            seen += count
            # 0.07 * 100 is a little more than 7.
            while wanted and seen >= ceil(round(wanted[-1] * total, 9)):
                found[wanted.pop()] = _value(number)
        return [found[part] for part in parts]

    def percentile(self, part: float) -> float | None:
        """As `percentiles` of one part, which a page asks for a thousand times."""
        counts = self._counts
        if not counts:
            return None
        left = ceil(round(part * sum(counts.values()), 9))
        for number in sorted(counts):
            left -= counts[number]
            if left <= 0:
                return _value(number)
        return _value(max(counts))

    def encode(self) -> bytes:
        """Its bytes: nothing for an empty one, else a version and, for each bucket in use, the gap and the count.

        The gap is the number of the bucket less that of the one before. Both are in groups of seven bits, the lowest
        first, with the highest bit set on all groups but the last (LEB128).
        """
        if not self._counts:
            return b""
        encoded = bytearray((_VERSION,))
        last = 0
        for number, count in sorted(self._counts.items()):
            for value in (number - last, count):
                while value > 0x7F:
                    encoded.append(value & 0x7F | 0x80)
                    value >>= 7
                encoded.append(value)
            last = number
        return bytes(encoded)

    @classmethod
    def decode(cls, encoded: bytes) -> Histogram:
        """What `encode` gave `encoded` for. Raises ValueError for anything else."""
        counts: dict[int, int] = {}
        octets = iter(encoded)
        if next(octets, _VERSION) != _VERSION:
            raise ValueError("is a histogram of an unknown version")
        place = 0
        try:
            # Most numbers are of one byte, and a page reads a hundred thousand of them.
            for octet in octets:
                gap = octet if octet <= 0x7F else _long_number(octet, octets)
                octet = next(octets)
                count = octet if octet <= 0x7F else _long_number(octet, octets)
                if not count or (counts and not gap):
                    raise ValueError("is no histogram")
                place += gap
                counts[place] = count
        except StopIteration:
            raise ValueError("is half a histogram") from None
        if place >= BUCKETS or (encoded and not counts):
            raise ValueError("is no histogram")
        histogram = cls()
        histogram._counts = counts
        return histogram


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """A new histogram of all latencies in `histograms`."""
    total = Histogram()
    for histogram in histograms:
        total.merge(histogram)
    return total


def _long_number(octet: int, octets: Iterator[int]) -> int:
    """The number of several bytes that begins with `octet`. Raises StopIteration where it does not end."""
    value, shift = octet & 0x7F, 7
    while (octet := next(octets)) > 0x7F:
        value |= (octet & 0x7F) << shift
        shift += 7
        if shift >= 7 * _MOST_BYTES:
            raise ValueError("has too long a number")
    # One number has one spelling: no leading zeros.
    if not octet:
        raise ValueError("is no histogram")
    return value | octet << shift


MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86400
"""The spans of which history is kept, in seconds."""


@dataclass(slots=True)
class Tally:
    """Results of probes, or of proxied requests, in a span of time."""

    ok: int = 0
    failed: int = 0
    latency: Histogram = field(default_factory=Histogram)
    """Latencies of the successes."""

    def __bool__(self) -> bool:
        return bool(self.ok or self.failed)

    @property
    def share_ok(self) -> float | None:
        """The share of successes, 0 to 1; None without results."""
        return self.ok / (self.ok + self.failed) if self else None

    def merge(self, other: Tally) -> None:
        """Add the results of `other`."""
        self.ok += other.ok
        self.failed += other.failed
        self.latency.merge(other.latency)


class RouteKey(NamedTuple):
    """A route of a service."""

    service: str
    route: str
    """Its prefix, behind its host where it has one: `/mail`, `mail.example.org/`."""


@dataclass(slots=True)
class RouteCount:
    """Requests of one route in a span of time. What counts, and as what, is that of the service's requests."""

    ok: int = 0
    failed: int = 0

    def merge(self, other: RouteCount) -> None:
        """Add the requests of `other`."""
        self.ok += other.ok
        self.failed += other.failed


@dataclass(slots=True)
class Uptime:
    """How long a service was available, and how long it was not, in milliseconds.

    Available is up or degraded. Time in which the service was off, in maintenance or unknown, or in which the gateway
    did not run, is in neither.
    """

    available: int = 0
    unavailable: int = 0

    def merge(self, other: Uptime) -> None:
        """Add the time of `other`."""
        self.available += other.available
        self.unavailable += other.unavailable


@dataclass(frozen=True, slots=True)
class UptimeShare:
    """The share of time in which a service was available."""

    share: float | None
    """0 to 1; None where nothing is known."""
    by_time: bool = True
    """Whether all of it is time. Where an earlier version stored no time, the share of probes counts."""


@dataclass(slots=True)
class Period:
    """Results and availability of one service in one span of time."""

    service: str
    span: int
    """`MINUTE`, `HOUR` or `DAY`."""
    start: int
    """Its first second since 1970 in UTC, a multiple of `span`."""
    probes: Tally = field(default_factory=Tally)
    requests: Tally = field(default_factory=Tally)
    uptime: Uptime | None = None
    """None where an older version stored no time."""
    routes: dict[str, RouteCount] = field(default_factory=dict)
    """The requests by the name of their route, while they are on their way to the database."""

    def merge(self, other: Period) -> None:
        """Add the counts and the time of `other`, without its routes."""
        self.probes.merge(other.probes)
        self.requests.merge(other.requests)
        if other.uptime is not None:
            if self.uptime is None:
                self.uptime = Uptime()
            self.uptime.merge(other.uptime)


def uptime_share(periods: Iterable[Period]) -> UptimeShare:
    """The availability over `periods`. A period without time is divided by the share of its probes that succeeded."""
    total, by_time = Uptime(), True
    for period in periods:
        if period.uptime is not None:
            total.merge(period.uptime)
        elif (share := period.probes.share_ok) is not None:
            by_time = False
            total.merge(estimated_uptime(period.span, share))
    known = total.available + total.unavailable
    return UptimeShare(total.available / known if known else None, by_time)


def estimated_uptime(span: int, share: float) -> Uptime:
    """The uptime in `span` seconds where `share` of the probes succeeded."""
    available = round(span * 1000 * share)
    return Uptime(available, span * 1000 - available)


@dataclass(frozen=True, slots=True)
class HistorySummary:
    """The summary of one service's history."""

    hours: tuple[Period, ...] = ()
    """Of the last 24 hours, the current one included, those with results."""
    quarter: UptimeShare = UptimeShare(None)
    """The availability in the last 90 days, today included."""
    since: int | None = None
    """Start of the first period of those days, in seconds since 1970, to the day or the hour."""
