"""One endpoint of a service, its circuit breaker and the counts of its requests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

GATEWAY_NAME = "tentaculo_link"
"""Name of the gateway among the services, in VX11's own answers and in its database table."""
GATEWAY_ALIAS = "gateway"
"""Second name of the gateway. No service may have either name."""


class BreakerState(StrEnum):
    """The three states of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a service. `str()` gives its origin, as in the configuration."""

    service: str
    host: str
    port: int
    tls: bool = False

    @property
    def authority(self) -> str:
        """`host:port`, an IPv6 host in brackets and without its zone, which concerns this machine only (RFC 6874)."""
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"


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
    """Number of successes and of failures."""

    ok: int = 0
    failed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.ok + other.ok, self.failed + other.failed)


NOTHING = Counts()


@dataclass(frozen=True, slots=True)
class TrafficView:
    """Counts of the proxied requests of one endpoint. A client's own 4xx counts as ok; a client that left is not counted."""

    total: Counts = NOTHING
    """Since the start."""
    recent: Counts = NOTHING
    """Within the breaker's window; counted from the first failure in it, or from the first doubt of the probes."""


class Outcome(StrEnum):
    """What one proxied exchange says about its endpoint."""

    SUCCESS = "success"
    """A response; a 4xx too, which is its caller's own."""
    SERVER_ERROR = "server_error"
    """A whole response with a status of 500 or more: the request failed, but the endpoint is alive."""
    TIMEOUT = "timeout"
    """Nothing came in time, which may be a matter of this request only."""
    FAILURE = "failure"
    """No connection, or a broken response."""
    NEUTRAL = "neutral"
    """Nothing: the client left, or the gateway failed."""
