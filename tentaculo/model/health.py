"""The health of services: endpoints, certificates, states and their words, breakers, probe results. Frozen values.

Times are UTC and timezone-aware.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, assert_never

import msgspec

from tentaculo.model.clock import DateReading
from tentaculo.model.reason import Reason

GATEWAY_NAME = "tentaculo_link"
"""Name of the gateway among the services, in VX11's own responses and in its database table."""
GATEWAY_ALIAS = "gateway"
"""Second name of the gateway. No service may have either name."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The certificate of an endpoint, in a chain that was verified. Its texts are untrusted, printable and cut."""

    names: tuple[str, ...]
    """The first of the names and IP addresses for which it is valid."""
    more_names: int
    """How many further ones it has."""
    issuer: str
    begins: datetime | None
    ends: datetime
    chain_ends: datetime
    """When the first certificate of the chain ends: its own or one of an issuer."""

    @property
    def is_issuer_first(self) -> bool:
        """Whether an issuer's certificate ends before the endpoint's own."""
        return self.chain_ends < self.ends


class BreakerState(StrEnum):
    """The three states of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Endpoint(msgspec.Struct, frozen=True):
    """One address of a service. `str()` gives its origin, as in the configuration.

    It is a key of many tables, and a struct's hash takes a quarter of the time of a dataclass's.
    """

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
    cause: Reason | None = field(default=None, compare=False)
    """`reason` with its code and values."""


class Counts(msgspec.Struct, frozen=True):
    """Number of successes and of failures."""

    ok: int = 0
    failed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.ok + other.ok, self.failed + other.failed)


NOTHING = Counts()


class TrafficView(msgspec.Struct, frozen=True):
    """Counts of the proxied requests of one endpoint. A client's own 4xx counts as ok; a client that left is not counted."""

    total: Counts = NOTHING
    """Since the start."""
    recent: Counts = NOTHING
    """Within the breaker's window; counted from the first failure in it, or from the first doubt of the probes."""


class ConcurrencyView(msgspec.Struct, frozen=True):
    """How many requests of one service may be in flight, as this process limits them."""

    limit: int | None
    """None while no request is refused."""
    in_flight: int
    """Requests that count for the limit now."""
    shed: int
    """Requests refused since the start."""
    recently_shed: int
    """Requests refused in the last five minutes."""


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


class Health(StrEnum):
    """The state of a service. `OFF` and `MAINTENANCE` are intended and never a failure."""

    UNKNOWN = "unknown"
    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"
    MAINTENANCE = "maintenance"
    OFF = "off"

    def __init__(self, word: str) -> None:
        # An attribute, since each probe asks for it many times.
        self.is_healthy = word in ("up", "degraded")
        """Whether the service can be used: up or degraded."""

    @property
    def is_counted(self) -> bool:
        """Whether the service counts in totals; one that is off on purpose does not."""
        return self is not Health.OFF


class DegradedKind(StrEnum):
    """Why a service is degraded, where that decides what follows; None stands for any other reason."""

    FAILING = "failing"
    """A part of its probes fails, though never enough in a row to make it down, or most of its requests fail."""
    SLOW = "slow"
    """It only takes longer than `probe.slow`."""


def state_name(health: Health, kind: DegradedKind | None = None) -> str:
    """The name of the state in which a service with this health is shown: of a degraded one its kind."""
    return kind.value if kind is not None and health is Health.DEGRADED else health.value


class HealthWords(NamedTuple):
    """Every word that stands for one health where the plain value of `Health` does not."""

    label: str
    """Heading and badge of the status page."""
    phrase: str
    """Predicate of a sentence whose subject is the service: `is ...`."""
    vx11: str
    """`status` of a module in VX11 7.0's own responses."""
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
    """The result of one probe of one endpoint. A probe returns this and never raises."""

    upstream: Endpoint
    health: Health
    """UP, DEGRADED or DOWN; UNKNOWN only where the gateway itself could not send the probe."""
    reason: str
    """In words, for people: `answered 200 in 4 ms`, `connection refused`."""
    checked_at: datetime
    endpoint: str | None = None
    """The health path that responded, or the last one tried."""
    code: int | None = None
    """HTTP status, None where there is no response."""
    latency_ms: int | None = None
    snippet: str | None = None
    """The first characters of the body, untrusted text, at most 200."""
    kind: DegradedKind | None = None
    """SLOW where nothing else is wrong."""
    took: float = 0.0
    """Seconds from the start of the probe to its result."""
    clock: DateReading | None = None
    """What the response says about the clock of the endpoint."""
    certificate: Certificate | None = None
    """The certificate of the endpoint; None where there was no handshake, or it was not accepted."""
    gauges: tuple[tuple[str, float], ...] = ()
    """The numbers of the response that have a bound, by the name of their signal."""


class SeenCertificate(NamedTuple):
    """The certificate that the last successful handshake with an endpoint showed."""

    endpoint: Endpoint
    certificate: Certificate
    seen_at: datetime


class ProbeDetails(NamedTuple):
    """What the last probe of a service found, beside its health, as the leader of several machines stored it."""

    checked_at: datetime
    code: int | None
    latency_ms: int | None
    endpoint: str | None
    snippet: str | None


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint at one moment. Probes and requests are counted separately."""

    upstream: Endpoint
    health: Health
    breaker: BreakerView
    probes: Counts = NOTHING
    traffic: Counts = NOTHING


@dataclass(frozen=True, slots=True)
class ServiceView:
    """One service at one moment. The page, the API, the metrics and the table show this."""

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
    """The service whose failure explains this one's; always a service that this one depends on."""
    maintenance: str | None = None
    """The reason of the maintenance, with its code and values where it has them; None where there is none."""
    kind: DegradedKind | None = None
    """Why it is degraded; None where it is not, and for any other reason."""
    is_restored: bool = False
    """Whether this is the state from before a restart, which no probe has confirmed since."""
    cause: Reason | None = field(default=None, compare=False)
    """`reason` with its code and values; None where it has none."""
    breaker: BreakerView = field(init=False, repr=False, compare=False)
    """The least open breaker of the endpoints: the service is unavailable when all are open. Closed where there is none."""
    is_cut_off: bool = field(init=False, repr=False, compare=False)
    """Whether an open breaker refuses the requests of a service that nothing else keeps from them."""
    state: str = field(init=False, repr=False, compare=False)
    """The name of the state that is shown: `state_name` of its health, and `failing` where it is cut off."""

    def __post_init__(self) -> None:
        # Pages and metrics read these several times of each of a thousand services.
        breaker = self.upstreams[0].breaker if len(self.upstreams) == 1 else _least_open(self.upstreams)
        is_cut_off = breaker.state is BreakerState.OPEN and self.health in (Health.UP, Health.DEGRADED, Health.UNKNOWN)
        set_value = object.__setattr__
        set_value(self, "breaker", breaker)
        set_value(self, "is_cut_off", is_cut_off)
        set_value(self, "state", DegradedKind.FAILING.value if is_cut_off else state_name(self.health, self.kind))

    @property
    def probes(self) -> Counts:
        """The probes of all its endpoints since the start."""
        return sum((view.probes for view in self.upstreams), NOTHING)

    @property
    def traffic(self) -> Counts:
        """The proxied requests of all its endpoints since the start."""
        return sum((view.traffic for view in self.upstreams), NOTHING)

    @property
    def why(self) -> str:
        """`reason`, with its code and values where it has them."""
        return self.reason if self.cause is None else self.cause

    @property
    def full_reason(self) -> str:
        """The reason, and the root cause where there is one."""
        return self.reason if self.root is None else f"{self.reason}; it depends on {self.root}, which is down"


_HOW_OPEN = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}
_NO_BREAKER = BreakerView(BreakerState.CLOSED, 0)


def _least_open(endpoints: Sequence[EndpointView]) -> BreakerView:
    return min((one.breaker for one in endpoints), key=lambda one: _HOW_OPEN[one.state], default=_NO_BREAKER)


class Transition(msgspec.Struct, frozen=True):
    """The health of one service has changed, or only its root cause or kind: then `before` equals `after`."""

    service: str
    before: Health
    after: Health
    reason: str
    """Why the health is `after` now, in words."""
    at: datetime
    root: str | None = None
    """The service whose failure explains this one's; None where there is no other root, or the service is healthy."""
    kind: DegradedKind | None = None
    """Why it is degraded; None where it is not, and for any other reason."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """A change of the state of a service or of one of its endpoints, as it is stored."""

    service: str
    endpoint: str
    """`host:port`, empty for the service itself."""
    before: Health
    after: Health
    reason: str
    at: datetime
    kind: DegradedKind | None = None
    cause: Reason | None = field(default=None, compare=False)
    """`reason` with its code and values; None where an earlier version stored its text only."""

    @property
    def why(self) -> str:
        """`reason`, with its code and values where it has them."""
        return self.reason if self.cause is None else self.cause


class LastHeartbeat(msgspec.Struct, frozen=True):
    """The last heartbeat of a service, as it is stored."""

    service: str
    at: datetime
    body: bytes | None
    """None where none was received yet: then `at` is since when the first one is awaited."""
