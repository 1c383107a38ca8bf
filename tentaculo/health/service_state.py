"""What the board knows of each service: its state and that of its endpoints, and its last probes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from tentaculo.config.services import ServiceSettings
from tentaculo.health.state_rules import NOT_PROBED, UNPROBED, ConsecutiveThreshold, Finding, aggregate
from tentaculo.model.health import (
    BreakerView,
    DegradedKind,
    Endpoint,
    EndpointView,
    Health,
    ProbeDetails,
    ProbeResult,
    SeenCertificate,
    ServiceView,
    StateChange,
    TrafficView,
)
from tentaculo.model.reason import Reason, because, stated


@dataclass(slots=True)
class EndpointState:
    """The state of one endpoint."""

    threshold: ConsecutiveThreshold
    finding: Finding | None = None
    is_restored: bool = False
    """Whether the health is from before a restart and no probe has confirmed it."""
    unsettled_since: float | None = None
    """When the first of the latest probes in a row that contradict the state was sent; None where the last one agrees."""

    def time_unsettled(self, moment: float, took: float, *, is_settled: bool) -> float:
        """Seconds since the first of the probes in a row that led to the state was sent.

        The latest of them ended at `moment`, and took `took` seconds.
        """
        since = moment - took if self.unsettled_since is None else self.unsettled_since
        self.unsettled_since = None if is_settled else since
        return moment - since


@dataclass(slots=True)
class ServiceState:
    """The state of one service."""

    service: ServiceSettings
    address: str
    """Its first URL, without a slash at the end."""
    endpoints: dict[Endpoint, EndpointState]
    found: Finding
    """The result of probes and requests, also while the service is in maintenance."""
    since: datetime
    maintenance: str | None = None
    slow: str | None = None
    """Why its requests are slow; None where they are not."""
    explained_by: str | None = None
    healthy_path: str | None = None
    last_healthy: datetime | None = None
    details: ProbeDetails | None = None
    """What a probe of another gateway found, for as long as there is none here."""
    is_new: bool = True
    """Whether a health of it or of an endpoint may be another one since its last `ProbeUpdate`."""
    published: tuple[Health, str | None, DegradedKind | None] = field(init=False)
    """Health, root and kind in the last transition."""

    def __post_init__(self) -> None:
        self.published = self.shown

    def prepare(self, other: ServiceState) -> Callable[[], None]:
        """What takes over the settings of `other`, which is new, and those of its endpoints that this one does not have.

        Changes nothing, and may run in a thread. Only the result changes which endpoints there are.
        """
        before, service = self.service, other.service
        # It was switched on or off, or is probed from now on, or no longer: nothing that is known holds.
        is_fresh = not (before.enabled and service.enabled) or self.is_probed is not other.is_probed
        thresholds = None if before.probe.thresholds == service.probe.thresholds else service.probe.thresholds
        endpoints = (
            other.endpoints if is_fresh else {at: self.endpoints.get(at, one) for at, one in other.endpoints.items()}
        )
        has_other_endpoints = endpoints.keys() != self.endpoints.keys()
        found = other.found if is_fresh or self.endpoints.keys().isdisjoint(endpoints) else None
        address = other.address
        del other  # and with it what is not used, before the swap

        def use() -> None:
            nonlocal endpoints
            self.service, self.address, self.is_new = service, address, True
            if is_fresh:
                self.slow = None
                self.maintenance = self.maintenance if service.enabled else None
            elif thresholds is not None:
                for endpoint in self.endpoints.values():
                    endpoint.threshold.follow(*thresholds)
            if is_fresh or has_other_endpoints:
                # What is replaced is freed with this function, in a later turn of the event loop.
                self.endpoints, endpoints = endpoints, self.endpoints
                self.found = found or self.aggregate()
            if self.healthy_path not in service.health:
                self.healthy_path = None

        return use

    @property
    def is_probed(self) -> bool:
        """Whether the gateway probes it."""
        return self.service.probe.kind != "none"

    @property
    def health(self) -> Health:
        """Its health as it is shown."""
        return Health.MAINTENANCE if self.maintenance is not None else self.found.health

    @property
    def shown(self) -> tuple[Health, str | None, DegradedKind | None]:
        """Health, root and kind."""
        if self.maintenance is not None:
            return Health.MAINTENANCE, None, None
        return self.found.health, self.explained_by, self.found.kind

    @property
    def reason(self) -> str:
        """Why it has this health."""
        return self.found.reason if self.maintenance is None else self.maintenance

    @property
    def root(self) -> str | None:
        """The root cause; none in maintenance."""
        return self.explained_by if self.maintenance is None else None

    @property
    def kind(self) -> DegradedKind | None:
        """Why it is degraded."""
        return self.found.kind if self.maintenance is None else None

    def aggregate(self) -> Finding:
        """What the endpoints make of the service. Slow requests count where nothing else is wrong."""
        found = aggregate([one.finding for one in self.endpoints.values()])
        if self.slow is not None and found.health is Health.UP:
            return Finding(Health.DEGRADED, self.slow, True, DegradedKind.SLOW)
        return found

    def restore_slow(self, change: StateChange | None) -> None:
        """Take over from the last change whether requests are slow. Where a probe was slow its endpoint is degraded."""
        self.slow = None
        if change is not None and not change.endpoint and change.kind is DegradedKind.SLOW:
            self.slow = change.why if self.aggregate().health is Health.UP else None

    @property
    def results(self) -> list[ProbeResult]:
        """The latest probe of each endpoint that was probed."""
        return [one.threshold.last for one in self.endpoints.values() if one.threshold.last is not None]

    def health_of(self, upstream: Endpoint) -> Health:
        """The health of one endpoint."""
        if not self.service.enabled:
            return Health.OFF
        finding = self.endpoints[upstream].finding
        return Health.UNKNOWN if finding is None else finding.health

    def view(
        self, breaker_view: Callable[[Endpoint], BreakerView], traffic_view: Callable[[Endpoint], TrafficView]
    ) -> ServiceView:
        """The service as it is now, with the breaker of each endpoint and the counts of its requests."""
        service, results, reason = self.service, self.results, self.reason
        shown = representative(results) or self.details
        upstreams = tuple(
            [
                EndpointView(
                    upstream,
                    self.health_of(upstream),
                    breaker_view(upstream),
                    endpoint.threshold.counts,
                    traffic_view(upstream).total,
                )
                for upstream, endpoint in self.endpoints.items()
            ]
        )
        first = upstreams[0].upstream
        return ServiceView(
            name=service.name,
            port=first.port,
            health=self.health,
            reason=str(reason),
            since=self.since,
            upstreams=upstreams,
            aliases=service.aliases,
            host=first.host,
            health_url=self.address + (self.healthy_path or service.health[0]),
            checked_at=max([one.checked_at for one in results], default=shown and shown.checked_at),
            code=shown.code if shown else None,
            latency_ms=shown.latency_ms if shown else None,
            endpoint=shown.endpoint if shown else None,
            snippet=shown.snippet if shown else None,
            last_seen_well=self.last_healthy,
            root=self.root,
            maintenance=self.maintenance,
            kind=self.kind,
            is_restored=self.maintenance is None and any(one.is_restored for one in self.endpoints.values()),
            cause=reason if isinstance(reason, Reason) else None,
        )


def representative(results: Sequence[ProbeResult]) -> ProbeResult | None:
    """The result whose details represent a service: the latest of a healthy endpoint, else the latest."""
    if len(results) < 2:
        return results[0] if results else None
    return max(results, key=lambda result: (result.health.is_healthy, result.checked_at))


def initial_state(service: ServiceSettings, start: datetime) -> ServiceState:
    """The state of a service of which nothing is known yet, since `start`."""
    unprobed = UNPROBED if service.probe.kind == "none" else None
    return ServiceState(
        service,
        service.addresses[0].rstrip("/"),
        {
            upstream: EndpointState(ConsecutiveThreshold(*service.probe.thresholds), unprobed)
            for upstream in service.upstreams
        },
        (unprobed or NOT_PROBED) if service.enabled else Finding(Health.OFF, why_off(service)),
        start,
    )


def why_off(service: ServiceSettings) -> Reason:
    """Why a service is off, with its end where it is off for a time."""
    reason = stated(service.off_reason, "off_on_purpose")
    if service.override is None:
        return reason
    return because("off_until", stated=reason, time=service.override.until.astimezone(UTC).isoformat())


_MOST = 10
"""Probes of one service that are kept."""
_MOST_IN_ALL = 1000
"""Probes of all services that are kept, but for two of each. One takes about a kilobyte."""


class ProbeLog:
    """What the last probes found. A service that is not in the configuration has none."""

    def __init__(self, services: Iterable[str]) -> None:
        self._probes: dict[str, deque[ProbeResult]] = {}
        self._certificates: dict[Endpoint, SeenCertificate] = {}
        self.use(services, lambda _: True)

    def use(self, services: Iterable[str], has: Callable[[Endpoint], bool]) -> None:
        """Keep the probes of these services, and the certificates of the endpoints that `has` is True of."""
        names, before = tuple(services), self._probes
        if names != tuple(before):
            most = max(2, min(_MOST, _MOST_IN_ALL // max(1, len(names))))
            self._probes = {}
            for name in names:
                kept = before.get(name)
                self._probes[name] = (
                    kept if kept is not None and kept.maxlen == most else deque(kept or (), maxlen=most)
                )
        self._certificates = {endpoint: seen for endpoint, seen in self._certificates.items() if has(endpoint)}

    def __repr__(self) -> str:
        return f"<ProbeLog: {sum(map(len, self._probes.values()))} probes, {len(self._certificates)} certificates>"

    def add(self, result: ProbeResult) -> None:
        """Keep a result and its certificate. One without a certificate leaves the endpoint's last one as it is."""
        if result.certificate is not None:
            upstream = result.upstream
            self._certificates[upstream] = SeenCertificate(upstream, result.certificate, result.checked_at)
        if result.certificate is not None or result.clock is not None:
            result = replace(result, certificate=None, clock=None)
        self._probes[result.upstream.service].append(result)

    def probes(self, service: str) -> tuple[ProbeResult, ...]:
        """The last probes of a service, the latest first. They have no certificates."""
        return tuple(reversed(self._probes[service]))

    def certificates(self, service: str) -> tuple[SeenCertificate, ...]:
        """The last certificate of each endpoint of a service that has shown one."""
        return tuple(seen for seen in self._certificates.values() if seen.endpoint.service == service)

    def content(self) -> tuple[list[ProbeResult], list[SeenCertificate]]:
        """Everything, for another process."""
        return [probe for probes in self._probes.values() for probe in probes], list(self._certificates.values())

    def restore(self, probes: Iterable[ProbeResult], certificates: Iterable[SeenCertificate]) -> None:
        """Add what another process has kept, which may be here in part, and older or newer than what is here.

        During a reload its configuration may have services that this one does not have; they are left out.
        """
        for probe in probes:
            kept = self._probes.get(probe.upstream.service)
            if kept is not None and probe not in kept:
                ordered = sorted((*kept, probe), key=lambda one: one.checked_at)
                kept.clear()
                kept.extend(ordered)
        for seen in certificates:
            known = self._certificates.get(seen.endpoint)
            is_newer = known is None or known.seen_at < seen.seen_at
            if is_newer and seen.endpoint.service in self._probes:
                self._certificates[seen.endpoint] = seen

    def correct(self, moment: Callable[[datetime], datetime]) -> None:
        """Correct every moment after the system clock was set. What a certificate says stays as it is."""
        for kept in self._probes.values():
            corrected = [replace(one, checked_at=moment(one.checked_at)) for one in kept]
            kept.clear()
            kept.extend(corrected)
        for endpoint, seen in self._certificates.items():
            self._certificates[endpoint] = seen._replace(seen_at=moment(seen.seen_at))
