"""Frozen values that more than one room speaks of: health, breakers, probe results, outcomes, events.

Nothing here does I/O or knows a room. Times are UTC and timezone-aware unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from tentaculo.histogram import Histogram

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86400
"""The spans of which history is kept, in seconds."""


class Health(StrEnum):
    """What the gateway believes of a service.

    `OFF` and `MAINTENANCE` are somebody's intention and never a failure.
    """

    UNKNOWN = "unknown"
    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"
    MAINTENANCE = "maintenance"
    OFF = "off"

    @property
    def is_healthy(self) -> bool:
        """Whether the service can be used: up, or up but not at its best."""
        return self in (Health.UP, Health.DEGRADED)

    @property
    def is_counted(self) -> bool:
        """Whether the service counts in totals; one that is off on purpose does not."""
        return self is not Health.OFF


class BreakerState(StrEnum):
    """The three states of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Upstream:
    """One address of a service. `str()` gives its origin, as in the configuration."""

    service: str
    host: str
    port: int
    tls: bool = False

    @property
    def authority(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one probe of one upstream found. A probe returns this and never raises."""

    upstream: Upstream
    health: Health
    """UP, DEGRADED or DOWN; UNKNOWN only where the gateway itself could not ask, out of file descriptors."""
    reason: str
    """In words, for people: `answered 200 in 4 ms`, `connection refused`."""
    checked_at: datetime
    endpoint: str | None = None
    """The health path that answered, or the last one tried."""
    code: int | None = None
    """HTTP status, None where no answer came."""
    latency_ms: int | None = None
    snippet: str | None = None
    """The first characters of the body, untrusted text, at most 200."""


@dataclass(frozen=True, slots=True)
class BreakerView:
    """A breaker at one moment."""

    state: BreakerState
    failure_count: int
    """Failures in a row."""
    last_failure: datetime | None = None
    reason: str | None = None
    """Why it last opened, in words."""
    retry_after: float = 0.0
    """Seconds until a trial is let through; 0 unless open."""
    opened_at: datetime | None = None
    """Since when requests have been refused; None while it is closed."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How often something went well, and how often it failed."""

    ok: int = 0
    failed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.ok + other.ok, self.failed + other.failed)


NOTHING = Counts()


@dataclass(frozen=True, slots=True)
class TrafficView:
    """What the proxied requests of one address met. Callers' own 4xx count as well, clients that left not at all."""

    total: Counts = NOTHING
    """Since the start."""
    recent: Counts = NOTHING
    """Within the breaker's window; counted from the first failure in it, or from the first doubt of the probes."""


@dataclass(frozen=True, slots=True)
class UpstreamView:
    """One address of a service at one moment. Probes and requests are counted apart."""

    upstream: Upstream
    health: Health
    breaker: BreakerView
    probes: Counts = NOTHING
    traffic: Counts = NOTHING


@dataclass(frozen=True, slots=True)
class ServiceView:
    """One service at one moment, as the board believes it. The page, the API, the metrics and the table show this."""

    name: str
    port: int
    health: Health
    reason: str
    since: datetime
    """Since when it has had this health."""
    upstreams: tuple[UpstreamView, ...]
    aliases: tuple[str, ...] = ()
    host: str = "localhost"
    health_url: str | None = None
    checked_at: datetime | None = None
    code: int | None = None
    latency_ms: int | None = None
    endpoint: str | None = None
    snippet: str | None = None
    last_seen_well: datetime | None = None
    root: str | None = None
    """The service whose failure explains this one's, while it does; always one that this one depends on."""
    maintenance: str | None = None
    """Why it is in maintenance, in words; None where it is not."""

    @property
    def probes(self) -> Counts:
        """The probes of all its addresses since the start."""
        return sum((view.probes for view in self.upstreams), NOTHING)

    @property
    def traffic(self) -> Counts:
        """The proxied requests of all its addresses since the start."""
        return sum((view.traffic for view in self.upstreams), NOTHING)

    @property
    def full_reason(self) -> str:
        """The reason, and the service that is behind it where there is one."""
        return self.reason if self.root is None else f"{self.reason}; it depends on {self.root}, which is down"

    @property
    def breaker(self) -> BreakerView:
        """The breaker of a service with several addresses is the least open of theirs: it is down when all are."""
        order = (BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN)
        return min((view.breaker for view in self.upstreams), key=lambda breaker: order.index(breaker.state))


@dataclass(frozen=True, slots=True)
class Transition:
    """The health of one service has changed, or only what explains it: then `before` is `after`, and `root` is new."""

    service: str
    before: Health
    after: Health
    reason: str
    """In words, why it is `after` now."""
    at: datetime
    root: str | None = None
    """The service whose failure explains this one's; None where it is its own, and where it is well."""


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
class Past:
    """What is told at a glance of one service's past."""

    hours: tuple[Period, ...] = ()
    """Of the last 24 hours, the one under way included, those in which something was met."""
    quarter: Tally = field(default_factory=Tally)
    """What probes met in the last 90 days, today included; without latencies."""
    since: int | None = None
    """When the first of that was met, in seconds since 1970, to the day or the hour."""


class Outcome(StrEnum):
    """What one proxied exchange says of its upstream. Callers' own 4xx and clients that leave say nothing."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"


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
