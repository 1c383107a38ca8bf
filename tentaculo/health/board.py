"""The board: what the gateway believes of each service, since when and why. Pure; the clock is passed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tentaculo.config.schema import Config
from tentaculo.config.services import Service
from tentaculo.model import (
    BreakerState,
    BreakerView,
    Health,
    ProbeResult,
    ServiceView,
    Transition,
    Upstream,
    UpstreamView,
)

_NOT_PROBED = "not probed yet"


def _no_breaker(_: Upstream) -> BreakerView:
    return BreakerView(BreakerState.CLOSED, 0)


def _addresses(count: int, total: int) -> str:
    return f"{count} of {total} addresses {'is' if count == 1 else 'are'}"


def fuse(results: Sequence[ProbeResult | None]) -> tuple[Health, str]:
    """One health and its reason from the last result of each address of a service, None where there is none yet.

    A service is down when all its addresses are, and degraded when only some are well. While not every address is
    known and none is well, it is unknown: nothing is claimed too early.
    """
    known = [result for result in results if result is not None]
    if not known:
        return Health.UNKNOWN, _NOT_PROBED
    total = len(results)
    if total == 1:
        return known[0].health, known[0].reason
    up, weak, down = (
        [result for result in known if result.health is health] for health in (Health.UP, Health.DEGRADED, Health.DOWN)
    )
    if len(down) == total:
        return Health.DOWN, f"all {total} addresses are down: {down[0].reason}"
    faults = [
        f"{_addresses(len(found), total)} {word}: {found[0].reason}"
        for word, found in (("down", down), ("degraded", weak))
        if found
    ]
    if not up and not weak:
        return Health.UNKNOWN, "; ".join([*faults, "the others are not known yet"])
    if faults:
        return Health.DEGRADED, "; ".join(faults)
    if len(up) < total:
        return Health.UP, f"{_addresses(len(up), total)} up, the others are not known yet"
    return Health.UP, f"all {total} addresses are up"


@dataclass(slots=True)
class _Entry:
    """What is remembered of one service."""

    service: Service
    upstreams: tuple[Upstream, ...]
    found: Health
    """What the probes say, also while the service is in maintenance."""
    why: str
    since: datetime
    maintenance: str | None = None
    results: dict[Upstream, ProbeResult] = field(default_factory=dict)
    good_path: str | None = None
    last_seen_well: datetime | None = None

    @property
    def health(self) -> Health:
        return Health.MAINTENANCE if self.maintenance is not None else self.found

    @property
    def reason(self) -> str:
        return self.why if self.maintenance is None else self.maintenance

    def health_of(self, upstream: Upstream) -> Health:
        if not self.service.enabled:
            return Health.OFF
        result = self.results.get(upstream)
        return Health.UNKNOWN if result is None else result.health

    def shown(self) -> ProbeResult | None:
        """The result whose details stand for the service: the latest of a healthy address, else the latest."""
        return max(
            self.results.values(), key=lambda result: (result.health.is_healthy, result.checked_at), default=None
        )


class Board:
    """What the gateway believes of each service of the configuration.

    `now` gives the present time in UTC; `breaker_view` the breaker of an address, so that a snapshot carries both
    what probes found and what traffic met. Neither changes the other.
    """

    def __init__(
        self,
        config: Config,
        *,
        now: Callable[[], datetime],
        breaker_view: Callable[[Upstream], BreakerView] = _no_breaker,
    ) -> None:
        self._now = now
        self._breaker_view = breaker_view
        start = now()
        self._entries = {
            name: _Entry(
                service,
                tuple(dict.fromkeys(service.upstreams)),
                Health.UNKNOWN if service.enabled else Health.OFF,
                _NOT_PROBED if service.enabled else service.off_reason,
                start,
            )
            for name, service in config.services.items()
        }

    def __repr__(self) -> str:
        well = sum(entry.health.is_healthy for entry in self._entries.values())
        return f"<Board: {well} of {len(self._entries)} services healthy>"

    def record_probe(self, result: ProbeResult) -> tuple[Transition, ...]:
        """Take what a probe found; returns what it changed. A service that is off stays off."""
        entry = self._entries[result.upstream.service]
        if not entry.service.enabled:
            return ()
        entry.results[result.upstream] = result
        if result.health.is_healthy:
            entry.last_seen_well = result.checked_at
            entry.good_path = result.endpoint
        before = entry.health
        entry.found, entry.why = fuse([entry.results.get(upstream) for upstream in entry.upstreams])
        return self._changed(entry, before, result.checked_at)

    def set_maintenance(self, service: str, reason: str | None) -> tuple[Transition, ...]:
        """Put a service into maintenance, `reason` in words, or take it out with None; returns what that changed.

        Probes and the breaker go on meanwhile, so that it comes out as what it is then. One that is off stays off.
        KeyError for an unknown name.
        """
        entry = self._entries[service]
        if not entry.service.enabled:
            return ()
        before, entry.maintenance = entry.health, reason
        return self._changed(entry, before, self._now())

    @staticmethod
    def _changed(entry: _Entry, before: Health, at: datetime) -> tuple[Transition, ...]:
        if entry.health is before:
            return ()
        entry.since = at
        return (Transition(entry.service.name, before, entry.health, entry.reason, at),)

    def service(self, name: str) -> ServiceView:
        """One service by its canonical name; KeyError for any other."""
        return self._view(self._entries[name])

    def snapshot(self) -> tuple[ServiceView, ...]:
        """Every service in the order of the configuration, those that are off included."""
        return tuple(self._view(entry) for entry in self._entries.values())

    def health_path(self, service: str) -> str:
        """The health path that last answered well, else the first configured one; KeyError for an unknown name."""
        entry = self._entries[service]
        return entry.good_path or entry.service.health[0]

    def _view(self, entry: _Entry) -> ServiceView:
        service, shown = entry.service, entry.shown()
        return ServiceView(
            name=service.name,
            port=entry.upstreams[0].port,
            health=entry.health,
            reason=entry.reason,
            since=entry.since,
            upstreams=tuple(
                UpstreamView(upstream, entry.health_of(upstream), self._breaker_view(upstream))
                for upstream in entry.upstreams
            ),
            aliases=service.aliases,
            host=entry.upstreams[0].host,
            health_url=service.addresses[0].rstrip("/") + (entry.good_path or service.health[0]),
            checked_at=max((result.checked_at for result in entry.results.values()), default=None),
            code=shown.code if shown else None,
            latency_ms=shown.latency_ms if shown else None,
            endpoint=shown.endpoint if shown else None,
            snippet=shown.snippet if shown else None,
            last_seen_well=entry.last_seen_well,
            maintenance=entry.maintenance,
        )
