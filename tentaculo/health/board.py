"""The board: the state of each service, since when, and why. Pure; the clocks are passed in.

probe result → threshold of its endpoint → combined with its requests → aggregated over the endpoints
    → maintenance, root cause → transitions
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from tentaculo.config.schema import Config
from tentaculo.health.service_state import ProbeLog, ServiceState, initial_state
from tentaculo.health.state_rules import (
    NOT_PROBED,
    UNPROBED,
    Dependencies,
    Finding,
    combine,
)
from tentaculo.model.health import (
    BreakerState,
    BreakerView,
    Endpoint,
    Health,
    ProbeDetails,
    ProbeResult,
    ServiceView,
    StateChange,
    TrafficView,
    Transition,
)
from tentaculo.model.reason import because

_PROBED = (Health.UP, Health.DEGRADED, Health.DOWN)
"""The states that probes find."""
_URGENT_FOR = timedelta(minutes=1)
"""How long an endpoint is probed more often after its breaker has opened."""


def _no_breaker(_: Endpoint) -> BreakerView:
    return BreakerView(BreakerState.CLOSED, 0)


def _no_traffic(_: Endpoint) -> TrafficView:
    return TrafficView()


class ProbeUpdate(msgspec.Struct, frozen=True):
    """Everything that follows from one probe result. `Board.accept_result` returns it."""

    result: ProbeResult
    transitions: tuple[Transition, ...]
    """Changes of this service, then of the services that depend on it; empty where nothing changed."""
    health: Health
    """The health of the service of the probed endpoint, with the result included."""
    view: ServiceView | None
    """That service, where a health of it or of its endpoints may be new since its last update; else None."""
    is_failing: bool
    """Whether the endpoint is down by its thresholds, or by this result alone."""
    ago: float
    """Seconds since the first of the probes in a row that led to the state was sent.

    A service that does not respond has been down since then, however long its probes take to time out and however many
    of them it takes to confirm that.
    """
    probe_soon: bool
    """Whether the endpoint is to be probed again after `probe.recheck` seconds instead of a whole interval."""
    probe_now: tuple[str, ...]
    """Services to probe at once: the parents of a service whose failure is not confirmed yet.

    One of them may be the cause. The sooner that is known, the fewer services raise an incident of their own.
    """


class PreparedBoard(NamedTuple):
    """What the states of a configuration need."""

    use: Callable[[], None]
    """Puts it in place."""
    touched: tuple[str, ...]
    """Services that may have another health then, or another root cause: `Board.note_change` finds out."""


class Board:
    """The state of each service of the configuration.

    `now` returns the time in UTC, and `clock` seconds of a monotonic clock. `breaker_view` returns the breaker of an
    endpoint, and `traffic_view` the counts of its requests. Requests and probes are counted separately. The board changes
    no breaker; where requests and probes disagree, the reason says so.
    """

    def __init__(
        self,
        config: Config,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        breaker_view: Callable[[Endpoint], BreakerView] = _no_breaker,
        traffic_view: Callable[[Endpoint], TrafficView] = _no_traffic,
    ) -> None:
        self._now = now
        self._clock = clock
        self._breaker_view = breaker_view
        self._traffic_view = traffic_view
        self._dependencies = Dependencies(config)
        start = now()
        self._entries = {name: initial_state(service, start) for name, service in config.services.items()}
        self.probe_log = ProbeLog(self._entries)
        """The last probes of each service, also of one that is off."""

    def prepare(self, config: Config) -> PreparedBoard:
        """Make what a configuration needs beside what there is. Changes nothing, and may run in a thread.

        What is known of a service and of each endpoint that stays is kept.
        """
        dependencies, start = Dependencies(config), self._now()
        entries, touched, follows = dict[str, ServiceState](), list[str](), list[Callable[[], None]]()
        for name, service in config.services.items():
            known = self._entries.get(name)
            if known is None:
                entries[name] = initial_state(service, start)
                continue
            entries[name] = known
            if known.service != service:
                follows.append(known.prepare(initial_state(service, start)))
                touched.append(name)
        explains = bool(self._dependencies or dependencies)

        def use() -> None:
            self._dependencies, self._entries = dependencies, entries
            for follow in follows:
                follow()
            self.probe_log.use(entries, self.has)
            if explains:
                self._explain()

        # Where no service explains another one, only those that changed can have another health.
        return PreparedBoard(use, tuple(entries) if explains else tuple(touched))

    def note_change(self, service: str) -> tuple[Transition, ...]:
        """What a configuration that was put in place has changed of a service, and nobody has noted yet."""
        entry = self._entries.get(service)
        return () if entry is None else self._note_published((entry,), self._now())

    def has(self, upstream: Endpoint) -> bool:
        """Whether an endpoint is configured."""
        entry = self._entries.get(upstream.service)
        return entry is not None and upstream in entry.endpoints

    def __repr__(self) -> str:
        healthy = sum(entry.health.is_healthy for entry in self._entries.values())
        return f"<Board: {healthy} of {len(self._entries)} services healthy>"

    def accept_result(self, result: ProbeResult) -> ProbeUpdate:
        """Record one probe result and return everything that follows from it.

        A service that is off stays off and ignores the result. Raises KeyError for an endpoint that is not configured.
        """
        entry, upstream = self._entries[result.upstream.service], result.upstream
        endpoint = entry.endpoints[upstream]
        threshold, breaker = endpoint.threshold, self._breaker_view(upstream)
        self.probe_log.add(result)
        transitions: tuple[Transition, ...] = ()
        is_settled = threshold.is_settled
        if entry.service.enabled:
            before = threshold.health
            threshold.add(result)
            is_settled = threshold.is_settled
            if endpoint.is_restored and (is_settled or threshold.health is not before):
                endpoint.is_restored, entry.is_new = False, True
            if result.health.is_healthy:
                entry.last_healthy = result.checked_at
                entry.healthy_path = result.endpoint or entry.healthy_path
            transitions = self._evaluate(entry, upstream, breaker, result.checked_at)
        is_down = result.health is Health.DOWN
        is_new, entry.is_new = entry.is_new, False
        return ProbeUpdate(
            result,
            transitions,
            entry.health,
            self._view(entry) if is_new else None,
            is_failing=entry.service.enabled and (is_down or threshold.health is Health.DOWN),
            ago=endpoint.time_unsettled(self._clock(), result.took, is_settled=is_settled),
            probe_soon=not is_settled or self._has_just_opened(breaker),
            probe_now=self.parents(entry.service.name) if is_down and not is_settled else (),
        )

    def restore(self, changes: Iterable[StateChange], now: datetime) -> None:
        """Continue with the states from before a restart: each holds until the probes of this process confirm another.

        `changes` has the last change of each service and endpoint. An endpoint that was probed already keeps its state.
        """
        last = {(change.service, change.endpoint): change for change in changes}
        for name, entry in self._entries.items():
            entry.is_new = True
            for upstream, endpoint in entry.endpoints.items():
                change = last.get((name, upstream.authority))
                if (
                    change is not None
                    and change.after in _PROBED
                    and endpoint.finding is None
                    and entry.service.enabled
                ):
                    endpoint.threshold.restore(change.after, change.kind, change.why)
                    before = because("before_restart", what=change.why)
                    endpoint.finding = Finding(change.after, before, kind=change.kind)
                    endpoint.is_restored = True
            if any(endpoint.is_restored for endpoint in entry.endpoints.values()):
                entry.restore_slow(last.get((name, "")))
                entry.found = entry.aggregate()
        roots = self._dependencies.roots({name: one.found.health for name, one in self._entries.items()})
        for name, entry in self._entries.items():
            entry.explained_by = roots.get(name)
            entry.published = entry.shown
            change = last.get((name, ""))
            if change is not None and change.after is entry.health:
                entry.since = min(change.at, now, entry.since)

    def follow(self, changes: Iterable[StateChange]) -> list[tuple[Endpoint, Health]]:
        """Take over changes that another gateway has found; returns the endpoints whose health is known now.

        They are in the order in which they were stored. The last one of a service has its present reason.
        """
        known, latest, since = list[tuple[Endpoint, Health]](), dict[str, StateChange](), dict[str, StateChange]()
        for change in changes:
            entry = self._entries.get(change.service)
            if entry is None or not entry.service.enabled or change.after not in _PROBED:
                continue
            entry.is_new = True
            for upstream, endpoint in entry.endpoints.items():
                if change.endpoint == upstream.authority:
                    endpoint.threshold.assume(change.after, change.kind, change.why)
                    endpoint.finding = Finding(change.after, change.why, kind=change.kind)
                    # Incidents wait until a probe of this gateway has confirmed it.
                    endpoint.is_restored = entry.is_probed
                    known.append((upstream, change.after))
            latest[change.service] = change
            if not change.endpoint:
                since[change.service] = change
            if change.after.is_healthy:
                entry.last_healthy = change.at
        for name, change in latest.items():
            entry = self._entries[name]
            if name in since:
                entry.restore_slow(since[name])
            entry.found = entry.aggregate()._replace(reason=change.why)
            self._publish(entry, change.at, has_new_health=True)
            if (began := since.get(name)) is not None and began.after is entry.health:
                entry.since = began.at
        return known

    def note_details(self, details: Mapping[str, ProbeDetails]) -> None:
        """Show what the last probes of another gateway found, by service."""
        for name in details.keys() & self._entries.keys():
            self._entries[name].details = details[name]

    def correct(self, moment: Callable[[datetime], datetime]) -> None:
        """Correct every moment after the system clock was set."""
        self.probe_log.correct(moment)
        for entry in self._entries.values():
            entry.since = moment(entry.since)
            entry.last_healthy = entry.last_healthy and moment(entry.last_healthy)
            for endpoint in entry.endpoints.values():
                endpoint.threshold.correct(moment)

    def evaluate_traffic(self, upstream: Endpoint) -> tuple[Transition, ...]:
        """Evaluate the requests of one endpoint without waiting for its next probe. Returns what changed."""
        entry = self._entries[upstream.service]
        if not entry.service.enabled or entry.endpoints[upstream].finding is None:
            return ()
        return self._evaluate(entry, upstream, self._breaker_view(upstream), self._now())

    def set_maintenance(self, service: str, reason: str | None) -> tuple[Transition, ...]:
        """Start maintenance of a service with its `reason`, or end it with None. Returns what changed.

        Probes and the breaker continue, so that the service has its current health when maintenance ends. A service
        that is off stays off. Raises KeyError for an unknown name.
        """
        entry = self._entries[service]
        if not entry.service.enabled:
            return ()
        entry.maintenance = reason
        return self._publish(entry, self._now(), has_new_health=False)

    def set_slow(self, service: str, reason: str | None) -> tuple[Transition, ...]:
        """The requests of a service are slow for `reason`, or not any more with None. Returns what changed.

        Raises KeyError for an unknown name.
        """
        entry = self._entries[service]
        entry.slow = reason
        if not entry.service.enabled:
            return ()
        before, entry.found = entry.found, entry.aggregate()
        return self._publish(entry, self._now(), has_new_health=entry.found.health is not before.health)

    @property
    def slow(self) -> dict[str, str]:
        """The services whose requests are slow, with the reason."""
        return {name: entry.slow for name, entry in self._entries.items() if entry.slow is not None}

    def reasons(self) -> dict[str, tuple[str | None, str | None]]:
        """Why each service is in maintenance, and why its requests are slow; None where it is not."""
        return {name: (entry.maintenance, entry.slow) for name, entry in self._entries.items()}

    def service(self, name: str) -> ServiceView:
        """One service by its canonical name. Raises KeyError for any other."""
        return self._view(self._entries[name])

    def health(self, name: str) -> Health:
        """The health of one service, as `service` has it, at a hundredth of the cost. Raises KeyError for any other name."""
        return self._entries[name].health

    def snapshot(self) -> tuple[ServiceView, ...]:
        """Every service in the order of the configuration, including those that are off."""
        return tuple(self._view(entry) for entry in self._entries.values())

    def results(self) -> Iterator[ProbeResult]:
        """The latest probe of each endpoint that has been probed."""
        return (result for entry in self._entries.values() for result in entry.results)

    def is_by_traffic_only(self, upstream: Endpoint) -> bool:
        """Whether failed requests alone decide the health of an endpoint, which no probe will correct."""
        entry = self._entries[upstream.service]
        finding = entry.endpoints[upstream].finding
        return not entry.is_probed and finding is not None and finding.by_traffic

    def is_contradicted(self, upstream: Endpoint, *, is_success: bool) -> bool:
        """Whether the outcome of one request contradicts the current health of its endpoint."""
        finding = self._entries[upstream.service].endpoints[upstream].finding
        if finding is None:
            return False
        if is_success:
            return finding.health is Health.DOWN or finding.by_traffic
        return finding.health is Health.UP

    def parents(self, service: str) -> tuple[str, ...]:
        """The services that a service depends on directly."""
        return self._dependencies.parents(service)

    def health_path(self, service: str) -> str:
        """The health path of the last healthy probe, else the first configured one. Raises KeyError for an unknown name."""
        entry = self._entries[service]
        return entry.healthy_path or entry.service.health[0]

    def _has_just_opened(self, breaker: BreakerView) -> bool:
        """Whether an endpoint's breaker opened within the last minute.

        Requests wait for the endpoint to recover. After that minute the usual interval is enough: services that are
        down for long would otherwise be probed ten times as often.
        """
        opened = breaker.opened_at
        return opened is not None and self._now() - opened < _URGENT_FOR

    def _evaluate(
        self, entry: ServiceState, upstream: Endpoint, breaker: BreakerView, at: datetime
    ) -> tuple[Transition, ...]:
        endpoint = entry.endpoints[upstream]
        earlier = endpoint.finding or NOT_PROBED
        endpoint.finding = combine(
            endpoint.threshold.finding if entry.is_probed else UNPROBED,
            self._traffic_view(upstream),
            breaker,
            entry.service.breaker,
            earlier,
        )
        if endpoint.finding.health is not earlier.health:
            entry.is_new = True
        before, entry.found = entry.found, entry.aggregate()
        return self._publish(entry, at, has_new_health=entry.found.health is not before.health)

    def _publish(self, entry: ServiceState, at: datetime, *, has_new_health: bool) -> tuple[Transition, ...]:
        """What has changed: for `entry`, and if its health is new, for the services that depend on it."""
        touched: Iterable[ServiceState] = (entry,)
        if self._dependencies and has_new_health:
            self._explain()
            # The service that changed comes first: a listener sees the root before the services it explains.
            touched = (entry, *(one for one in self._entries.values() if one is not entry))
        return self._note_published(touched, at)

    def _explain(self) -> None:
        """Find the root cause of each service."""
        roots = self._dependencies.roots({name: one.found.health for name, one in self._entries.items()})
        for name, one in self._entries.items():
            one.explained_by = roots.get(name)

    def _note_published(self, touched: Iterable[ServiceState], at: datetime) -> tuple[Transition, ...]:
        changed = []
        for one in touched:
            before, now = one.published, one.shown
            if now != before:
                one.published = now
                if now[0] is not before[0]:
                    one.since, one.is_new = at, True
                health, root, kind = now
                changed.append(Transition(one.service.name, before[0], health, str(one.reason), at, root, kind))
        return tuple(changed)

    def _view(self, entry: ServiceState) -> ServiceView:
        return entry.view(self._breaker_view, self._traffic_view)
