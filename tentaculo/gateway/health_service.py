"""Wires the health of all services: scheduler → prober → board → store and history. The proxy reads it here."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence, Set
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import NamedTuple, Protocol

import structlog

from tentaculo.config.comparison import Changes
from tentaculo.config.schema import Config
from tentaculo.gateway.own_events import log_transition
from tentaculo.gateway.state_repository import ServiceRows, StateRepository
from tentaculo.gateway.traffic_evaluation import TrafficEvaluation
from tentaculo.gateway.turn_queue import TurnQueue
from tentaculo.health.board import Board, ProbeUpdate
from tentaculo.health.heartbeat_monitor import HeartbeatMonitor
from tentaculo.health.probe_scheduler import ProbeScheduler
from tentaculo.health.prober import Prober
from tentaculo.health.steady_clock import Correct, PauseDetector, SteadyClock, time_since_boot
from tentaculo.model.clock import DateReading
from tentaculo.model.health import Endpoint, Health, ProbeDetails, ProbeResult, ServiceView, StateChange, Transition
from tentaculo.model.reason import because
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.history import Retention
from tentaculo.tasks import TaskGroup
from tentaculo.telemetry.history import HistoryCollector, TakeTallies
from tentaculo.upstream.circuit_breaker import CircuitBreaker, CircuitBreakers

log = structlog.get_logger(__name__)

Listener = Callable[[Transition, ServiceView], None]


class Leader(Protocol):
    """Another process that probes and records for this one."""

    def probe_now(self, upstream: Endpoint) -> None:
        """Ask it to probe an endpoint now. Never blocks."""

    def beat(self, service: str, body: bytes) -> None:
        """Pass it the heartbeat of a service. Never blocks."""


class PreparedHealth(NamedTuple):
    """What the health of a configuration needs."""

    breakers: Mapping[Endpoint, CircuitBreaker]
    use: Callable[[], None]
    """Puts it in place. Never raises."""


class HealthService:
    """The health of all services, and everything that keeps it current."""

    def __init__(self, config: Config, store: StoreClient, clock: SteadyClock | None = None) -> None:
        clock = clock or SteadyClock()
        now = self._now = clock.now
        self._config = config
        self._store = store
        self.breakers = CircuitBreakers(
            config, time.monotonic, now, lambda upstream, is_success: self._traffic.note_request(upstream, is_success)
        )
        self.board = Board(config, now=now, breaker_view=self.breakers.view, traffic_view=self.breakers.traffic)
        self.heartbeats = HeartbeatMonitor(config, clock=time_since_boot, on_change=self.probe_now)
        self._pauses = PauseDetector()
        self._pauses.on_pause.append(self.heartbeats.note_pause)
        self._prober: Prober | None = None
        self._scheduler: ProbeScheduler | None = None
        self._leader: Leader | None = None
        self.is_following = False
        """Whether another machine is the leader."""
        self._is_in_charge = True
        self._traffic = TrafficEvaluation(
            self.board,
            self.breakers,
            probe_now=self.probe_endpoint_now,
            window=lambda upstream: self._config.services[upstream.service].breaker.window,
            note=self._note_changed,
        )
        self._rows = ServiceRows(self.board, store.record_services)
        self._steps = TurnQueue()
        self.history = HistoryCollector(
            record=store.record_history,
            roll_up=lambda now, may_delete: store.roll_up_history(
                now, Retention.by(self._config.history) if may_delete else None
            ),
            pace=self._pace,
            now=time.time,
            clock=time.monotonic,
        )
        self.states = StateRepository(
            store, self.board, self.heartbeats, keep=timedelta(days=config.incidents.keep), clock=clock
        )
        self.on_transition: list[Listener] = [log_transition]
        """Called with each transition and the service's current view, in the event loop, so they must not block.

        Not called in a follower, nor while another machine is the leader: that one calls its own listeners.
        """
        self.on_probe: list[Callable[[ProbeResult], None]] = []
        """Called with each probe result, in the event loop; in a follower too."""
        self.on_date: list[Callable[[Endpoint, DateReading], None]] = []
        """Called with what the response to a probe says about the clock of its endpoint; in a follower too."""
        self.on_reasons: list[Callable[[], None]] = []
        """Called when a service is in maintenance or slow or is so no more, but not in a follower of this machine."""
        self.on_changes: list[Callable[[Sequence[StateChange]], None]] = []
        """Called with the changes of state that another machine has found."""
        self.on_details: list[Callable[[Mapping[str, ProbeDetails]], None]] = []
        """Called with what the last probes of another machine found, by service."""
        self.details: Mapping[str, ProbeDetails] = {}
        """The last of them."""
        self.on_endpoint: list[Callable[[Endpoint, Health], None]] = []
        """Called with the health of an endpoint that a probe, here or at another machine, has found."""
        self.followed: dict[tuple[str, str], StateChange] = {}
        """The last change of each service and endpoint, while another machine is the leader."""

    def __repr__(self) -> str:
        return f"<HealthService: {self.board!r}>"

    def prepare(self, config: Config, changes: Changes) -> PreparedHealth:
        """Make what a configuration needs beside what there is. Changes nothing, and may run in a thread."""
        breakers, board = self.breakers.prepare(config), self.board.prepare(config)
        notes = [partial(self._note_switched, name) for name in board.touched]
        steps = {one: one.prepare(config) for one in self._parts()}
        probes = [
            partial(self.probe_endpoint_now, upstream)
            for name in changes.changed
            if self._config.services[name].probed_by != config.services[name].probed_by
            for upstream in config.services[name].upstreams
        ]

        def use() -> None:
            removed, self._config = [self._config.services[name] for name in changes.removed], config
            self.breakers.use(breakers)
            board.use()
            for one in self._parts():
                # Those of a machine that has begun to lead meanwhile are not prepared yet.
                (steps.get(one) or one.prepare(config))()
            self.states.keep_for(timedelta(days=config.incidents.keep))
            self._forget(frozenset(changes.removed))
            self._steps.extend(notes)
            if self._scheduler is not None and self._decides and self._is_in_charge:
                # No probe writes the rows of those that are off, or removed.
                self._rows.write((*changes.added, *changes.changed))
                self._steps.extend([partial(self._rows.end, one, self._now()) for one in removed])
            for name in changes.added if self._is_in_charge else ():
                self.history.note_health(name, self.board.health(name))
            self._steps.extend(probes)

        return PreparedHealth(breakers.breakers, use)

    def _parts(self) -> list[Prober | ProbeScheduler | HeartbeatMonitor]:
        return [one for one in (self._prober, self._scheduler, self.heartbeats) if one is not None]

    def _note_switched(self, service: str) -> None:
        for transition in self.board.note_change(service):
            self._report_transition(transition, 0.0)

    def _forget(self, services: Set[str]) -> None:
        """Forget what is known of services that were removed, and of endpoints that are gone."""
        self._traffic.forget()
        self._rows.forget(services)
        self.history.forget_endpoints(self.board.has)
        if services:
            self.history.forget_services(services)
            self.states.forget_services(services)
            self.followed = {key: change for key, change in self.followed.items() if key[0] not in services}

    @asynccontextmanager
    async def probing(self) -> AsyncIterator[None]:
        """Probe every service while the context is open."""
        prober = self._prober = Prober(
            self._config, last_heartbeat=self.heartbeats.last, pauses=self._pauses, now=self._now
        )
        self._scheduler = ProbeScheduler(self._config, prober, self.board, on_update=self._apply)
        tasks = TaskGroup("health service")
        tasks.start(self._scheduler.run(), "probe scheduler")
        self._pauses.start()
        self.heartbeats.start()
        # No probe writes these rows.
        services = self._config.services.values()
        self._rows.write(one.name for one in services if not one.enabled or one.probe.kind == "none")
        try:
            yield
        finally:
            self.heartbeats.stop()
            self._pauses.stop()
            self._traffic.stop()
            self._scheduler = self._prober = None
            await tasks.close()
            self._steps.finish()
            if self.is_following:
                self._rows.forget()
            self._rows.finish()

    @asynccontextmanager
    async def recording(self, take_tallies: TakeTallies) -> AsyncIterator[None]:
        """Record history while the context is open. `take_tallies` returns the request counts since its last call."""
        self.history.drain_from(take_tallies)
        tasks = TaskGroup("history")
        tasks.start(self.history.run(), "minutes")
        try:
            yield
        finally:
            await tasks.close()
            self.history.flush()

    @asynccontextmanager
    async def keeping_states(self) -> AsyncIterator[None]:
        """Record states while the context is open, and begin with those from before a restart."""
        await self.states.open()
        if self._is_in_charge:
            self._note_all_health()
        tasks = TaskGroup("states")
        tasks.start(self.states.run(), "states")
        try:
            yield
        finally:
            await tasks.close()
            if not self.is_following:
                with suppress(StoreUnavailable):
                    await self.states.save()

    def follow_fleet(self) -> None:
        """Another machine is the leader from now on. Its changes come in through `accept_changes`."""
        self.is_following = True
        self.states.reset()
        self.set_in_charge(False)

    def lead_fleet(self) -> None:
        """This machine probes from now on."""
        self.is_following = False

    def set_in_charge(self, is_in_charge: bool) -> None:
        """Whether this machine records history of health and the services' rows, or only probes for itself."""
        if is_in_charge and not self._is_in_charge:
            self._note_all_health()
        elif self._is_in_charge and not is_in_charge:
            self.history.forget_health()
        self._is_in_charge = is_in_charge

    def accept_changes(self, changes: Sequence[StateChange]) -> None:
        """Take over changes of state that the leader of all machines has found."""
        if not changes:
            return
        self.followed.update({(change.service, change.endpoint): change for change in changes})
        for upstream, health in self.board.follow(changes):
            self.breakers.of(upstream).note_probe(is_failing=health is Health.DOWN, is_healthy=health.is_healthy)
            for note in self.on_endpoint:
                note(upstream, health)
        for listener in self.on_changes:
            listener(changes)

    def accept_details(self, details: Mapping[str, ProbeDetails]) -> None:
        """Show what the last probes of another machine found, by service."""
        new = {name: one for name, one in details.items() if self.details.get(name) != one}
        self.details = details
        self.board.note_details(new)
        for listener in self.on_details if new else ():
            listener(new)

    @property
    def _decides(self) -> bool:
        """Whether changes that are found here are those that count."""
        return self._leader is None and not self.is_following

    def _note_all_health(self) -> None:
        for view in self.board.snapshot():
            self.history.note_health(view.name, view.health)

    def correct(self, moment: Correct) -> None:
        """Correct every moment after the system clock was set."""
        self.breakers.correct(moment)
        self.board.correct(moment)
        if self._decides:
            self.states.correct(moment)

    def follow(self, leader: Leader) -> None:
        """Let another process probe, record and notify. Its results come in through `accept_result`."""
        self._leader = leader

    def accept_result(self, result: ProbeResult) -> None:
        """Record a probe result of the leader as if this process had probed.

        The leader may probe an endpoint by a configuration that this process does not serve yet, or no longer.
        """
        if not self.board.has(result.upstream):
            return
        self._apply(self.board.accept_result(result))

    def beat(self, service: str, body: bytes) -> bool:
        """Record the heartbeat of a service; `body` is JSON or empty. False where none is expected of it: it is off."""
        if not self.heartbeats.expects(service):
            return False
        (self._leader or self.heartbeats).beat(service, body)
        if self._leader is None:
            self.states.note_heartbeat(service, body)
        return True

    def set_maintenance(self, service: str, reason: str | None) -> None:
        """Start maintenance of a service with its reason, or end it with None. Raises KeyError for an unknown name."""
        self._note_reason(self.board.set_maintenance(service, reason))

    def set_slow(self, service: str, reason: str | None) -> None:
        """The requests of a service are slow for `reason`, or not any more with None. Raises KeyError as above."""
        self._note_reason(self.board.set_slow(service, reason))

    def _note_reason(self, transitions: Sequence[Transition]) -> None:
        self._note_changed(transitions)
        if self._leader is None:
            for listener in self.on_reasons:
                listener()

    def probe_now(self, service: str) -> None:
        """Probe all endpoints of a service now, wherever probes run. Raises KeyError for an unknown name."""
        for upstream in self._config.services[service].upstreams:
            self.probe_endpoint_now(upstream)

    def probe_endpoint_now(self, upstream: Endpoint) -> None:
        """Probe one configured endpoint now."""
        if (prober := self._leader or self._scheduler) is not None:
            prober.probe_now(upstream)

    def is_watched(self, name: str) -> bool:
        """Whether a service is neither off nor in maintenance."""
        return self.board.health(name) not in (Health.OFF, Health.MAINTENANCE)

    def why_off(self, name: str) -> str:
        """The reason why a service is off; for the last requests of one that was removed, that."""
        if name not in self._config.services:
            return str(because("removed"))
        return self.board.service(name).reason

    def why_open(self, name: str) -> dict[str, object]:
        """For a service whose breakers are open: the reason, since when, the last failure, and when it was last healthy."""
        if name not in self._config.services:
            return {"reason": str(because("removed"))}
        view = self.board.service(name)
        breaker = view.breaker
        known = {
            "reason": breaker.reason,
            "since": breaker.opened_at,
            "last_failure": breaker.last_failure,
            "last_seen_well": view.last_seen_well,
        }
        return {key: value for key, value in known.items() if value}

    def _pace(self, service: str) -> float:
        """Least seconds between two scheduled probes of one endpoint, with 20 % tolerance."""
        probe = self._config.services[service].probe
        return 0.8 * probe.interval * (1 - probe.jitter)

    def _note_changed(self, transitions: Iterable[Transition]) -> None:
        for transition in transitions:
            self._note_transition(transition)
            self._write_now(transition.service)

    def _apply(self, update: ProbeUpdate) -> None:
        result = update.result
        self.breakers.of(result.upstream).note_probe(is_failing=update.is_failing, is_healthy=result.health.is_healthy)
        if self._decides:
            for parent in update.probe_now:
                self.probe_now(parent)
            if update.view is not None:
                self.states.note(update.view, result.checked_at)
            if self._is_in_charge:
                self._rows.write_soon(result.upstream.service)
                self.history.note_probe(result, update.health)
        for listener in self.on_probe:
            listener(result)
        if result.clock is not None:
            for note_date in self.on_date:
                note_date(result.upstream, result.clock)
        for note in self.on_endpoint:
            note(result.upstream, result.health)
        for transition in update.transitions:
            is_cause = transition.service == result.upstream.service
            is_outage = Health.DOWN in (transition.before, transition.after)
            self._note_transition(transition, ago=update.ago if is_cause and is_outage else 0.0)

    def _write_now(self, *services: str) -> None:
        """Write changes that no probe made at once: the next probe may be far away."""
        if self._decides and self._is_in_charge:
            self._rows.write(services)

    def _note_transition(self, transition: Transition, ago: float = 0.0) -> None:
        """Report a transition, which happened `ago` seconds before now: soon, in the order in which they happened."""
        if self._decides:
            self._steps.add(partial(self._report_transition, transition, ago))

    def _report_transition(self, transition: Transition, ago: float) -> None:
        if not self._decides or transition.service not in self._config.services:
            return
        if self._is_in_charge:
            self.history.note_health(transition.service, transition.after, ago)
        view = self.board.service(transition.service)
        self.states.note(view, transition.at)
        for listener in self.on_transition:
            try:
                listener(transition, view)
            except Exception:  # the other listeners must still be called
                log.exception("health listener failed", service=transition.service)
