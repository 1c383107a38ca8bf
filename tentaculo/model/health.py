"""Frozen values that more than one room speaks of: health, breakers, probe results, outcomes, events.

Nothing here does I/O or knows a room. Times are UTC and timezone-aware unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, assert_never

from tentaculo.model.endpoint import NOTHING, BreakerState, BreakerView, Counts, Endpoint


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


class HealthWords(NamedTuple):
    """Every word that stands for one health where the plain value of `Health` does not."""

    label: str
    """Heading and badge of the status page."""
    phrase: str
    """Predicate of a sentence whose subject is the service: `is ...`."""
    vx11: str
    """`status` of a module in VX11 7.0's own answers."""
    truth: str
    """OK, BROKEN or UNKNOWN: column `status` of `copilot_runtime_services`, and what `tentaculo truth` writes."""
    mark: str
    """One character before the line that `tentaculo truth` prints."""


def words_of(health: Health) -> HealthWords:
    """The words for `health`. A new member of `Health` fails type checking here until it has words."""
    match health:
        case Health.UP:
            return HealthWords("Up", "up", "ok", "OK", "✓")
        case Health.DEGRADED:
            return HealthWords("Degraded", "degraded", "degraded", "OK", "⚠")
        case Health.DOWN:
            return HealthWords("Down", "down", "error", "BROKEN", "✗")
        case Health.MAINTENANCE:
            return HealthWords("Maintenance", "in maintenance", "maintenance", "UNKNOWN", "?")
        case Health.OFF:
            return HealthWords("Off", "off on purpose", "off", "UNKNOWN", "-")
        case Health.UNKNOWN:
            return HealthWords("Unknown", "not checked yet", "unknown", "UNKNOWN", "?")
        case _:
            assert_never(health)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one probe of one upstream found. A probe returns this and never raises."""

    upstream: Endpoint
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
    took: float = 0.0
    """Seconds from the start of the probe to its result."""


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One address of a service at one moment. Probes and requests are counted apart."""

    upstream: Endpoint
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
    upstreams: tuple[EndpointView, ...]
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
    """The service whose failure explains this one's; None where it is its own root, and where it is healthy."""
