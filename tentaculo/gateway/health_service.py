"""Wires the health of all services: scheduler → prober → board → store and history. The proxy reads it here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Protocol

import structlog

from tentaculo.config.schema import Config
from tentaculo.gateway.state_repository import StateRepository
from tentaculo.health.board import Board, ProbeUpdate
from tentaculo.health.probe_log import ProbeLog
from tentaculo.health.probe_scheduler import HeartbeatMonitor, ProbeScheduler
from tentaculo.health.prober import Prober
from tentaculo.health.steady_clock import Correct, PauseDetector, SteadyClock, time_since_boot
from tentaculo.model.health import Endpoint, Health, ProbeDetails, ProbeResult, ServiceView, StateChange, Transition
from tentaculo.model.history import DAY, HOUR
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.history import Retention
from tentaculo.tasks import TaskGroup
from tentaculo.telemetry.history import HistoryCollector, TakeTallies
from tentaculo.upstream.circuit_breaker import CircuitBreakers

log = structlog.get_logger(__name__)

_WRITING_GAP = 0.5
"""Seconds during which changed rows are collected before one write. One write per probe would cost as much as the probe."""
_EVALUATION_GAP = 0.1
"""Least seconds between two evaluations of one endpoint's requests."""


Listener = Callable[[Transition, ServiceView], None]


class Leader(Protocol):
    """Another process that probes and records for this one."""

    def probe_now(self, upstream: Endpoint) -> None:
        """Ask it to probe an endpoint now. Never blocks."""

    def beat(self, service: str, body: bytes) -> None:
        """Pass it the heartbeat of a service. Never blocks."""


class HealthService:
    """The health of all services, and everything that keeps it current."""

    def __init__(self, config: Config, store: StoreClient, clock: SteadyClock | None = None) -> None:
        clock = clock or SteadyClock()
        now = self._now = clock.now
        self._config = config
        self._store = store
        self.breakers = CircuitBreakers(config, time.monotonic, now, self._note_request)
        self.board = Board(config, now=now, breaker_view=self.breakers.view, traffic_view=self.breakers.traffic)
        self.heartbeats = HeartbeatMonitor(config, clock=time_since_boot, on_change=self.probe_now)
        self._pauses = PauseDetector()
        self._pauses.on_pause.append(self.heartbeats.note_pause)
        self._scheduler: ProbeScheduler | None = None
        self._leader: Leader | None = None
        self._is_following = False
        self._is_in_charge = True
        self._evaluated: dict[Endpoint, float] = {}
        self._reevaluations: dict[Endpoint, asyncio.TimerHandle] = {}
        self._contradicted_since: dict[Endpoint, float] = {}
        self._unwritten: set[str] = set()
        self._writing: asyncio.TimerHandle | None = None
        kept = Retention(
            config.history.hours_of_minutes * HOUR,
            config.history.days_of_hours * DAY,
            config.history.years_of_days * 365 * DAY,
        )
        self.history = HistoryCollector(
            record=store.record_history,
            roll_up=lambda now, may_delete: store.roll_up_history(now, kept if may_delete else None),
            pace=self._pace,
            now=time.time,
            clock=time.monotonic,
        )
        self.states = StateRepository(
            store, self.board, self.heartbeats, keep=timedelta(days=config.incidents.keep), clock=clock
        )
        self.on_transition: list[Listener] = [_log_transition]
        """Called with each transition and the service's current view, in the event loop, so they must not block.

        Not called in a follower, nor while another machine is the leader: that one calls its own listeners.
        """
        self.probe_log = ProbeLog(config.services)
        self.on_probe: list[Callable[[ProbeResult], None]] = [self.probe_log.add]
        """Called with each probe result, in the event loop; in a follower too."""
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

    @asynccontextmanager
    async def probing(self) -> AsyncIterator[None]:
        """Probe every service while the context is open."""
        prober = Prober(self._config, last_heartbeat=self.heartbeats.last, pauses=self._pauses, now=self._now)
        self._scheduler = ProbeScheduler(self._config, prober, self.board, on_update=self._apply)
        tasks = TaskGroup("health service")
        tasks.start(self._scheduler.run(), "probe scheduler")
        self._pauses.start()
        self.heartbeats.start()
        # No probe writes these rows.
        services = self._config.services.values()
        self._unwritten.update(one.name for one in services if not one.enabled or one.probe.kind == "none")
        self._write()
        try:
            yield
        finally:
            self.heartbeats.stop()
            self._pauses.stop()
            for timer in self._reevaluations.values():
                timer.cancel()
            self._reevaluations.clear()
            self._scheduler = None
            await tasks.close()
            if self._is_following:
                self._unwritten.clear()
            self._write()

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
            if not self._is_following:
                with suppress(StoreUnavailable):
                    await self.states.save()

    def follow_fleet(self) -> None:
        """Another machine is the leader from now on. Its changes come in through `accept_changes`."""
        self._is_following = True
        self.states.reset()
        self.set_in_charge(False)

    def lead_fleet(self) -> None:
        """This machine probes from now on."""
        self._is_following = False

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
    def is_following(self) -> bool:
        """Whether another machine is the leader."""
        return self._is_following

    @property
    def _decides(self) -> bool:
        """Whether changes that are found here are those that count."""
        return self._leader is None and not self._is_following

    def _note_all_health(self) -> None:
        for view in self.board.snapshot():
            self.history.note_health(view.name, view.health)

    def correct(self, moment: Correct) -> None:
        """Correct every moment after the system clock was set."""
        self.breakers.correct(moment)
        self.board.correct(moment)
        self.probe_log.correct(moment)
        if self._decides:
            self.states.correct(moment)

    def follow(self, leader: Leader) -> None:
        """Let another process probe, record and notify. Its results come in through `accept_result`."""
        self._leader = leader

    def accept_result(self, result: ProbeResult) -> None:
        """Record a probe result of the leader as if this process had probed."""
        self._apply(self.board.accept_result(result))

    def beat(self, service: str, body: bytes) -> None:
        """Record the heartbeat of a service; `body` is JSON or empty. Raises KeyError for a service without heartbeats."""
        (self._leader or self.heartbeats).beat(service, body)
        if self._leader is None:
            self.states.note_heartbeat(service, body)

    def set_maintenance(self, service: str, reason: str | None) -> None:
        """Start maintenance of a service with its reason, or end it with None. Raises KeyError for an unknown name."""
        self._note_reason(self.board.set_maintenance(service, reason))

    def set_slow(self, service: str, reason: str | None) -> None:
        """The requests of a service are slow for `reason`, or not any more with None. Raises KeyError as above."""
        self._note_reason(self.board.set_slow(service, reason))

    def _note_reason(self, transitions: Sequence[Transition]) -> None:
        for transition in transitions:
            self._note_transition(transition)
            self._write_now(transition.service)
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
        return self.board.service(name).health not in (Health.OFF, Health.MAINTENANCE)

    def why_off(self, name: str) -> str:
        """The reason why a service is off."""
        return self.board.service(name).reason

    def why_open(self, name: str) -> dict[str, object]:
        """For a service whose breakers are open: the reason, since when, the last failure, and when it was last healthy."""
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

    def _note_request(self, upstream: Endpoint, is_success: bool) -> None:
        """Probe an endpoint now, and evaluate its requests, where the outcome of one contradicts its health.

        The evaluation runs at most every `_EVALUATION_GAP` seconds. It always runs where the breaker has opened, since
        no other request may follow that could start it.
        """
        if not self.board.is_contradicted(upstream, is_success=is_success):
            return
        self.probe_endpoint_now(upstream)
        moment = time.monotonic()
        if self.breakers.of(upstream).is_closed and moment < self._evaluated.get(upstream, 0.0) + _EVALUATION_GAP:
            return
        self._evaluated[upstream] = moment
        self._evaluate_traffic(upstream)

    def _evaluate_traffic(self, upstream: Endpoint) -> None:
        for transition in self.board.evaluate_traffic(upstream):
            self._note_transition(transition)
            self._write_now(transition.service)
        if self.board.is_by_traffic_only(upstream) and upstream not in self._reevaluations:
            # No probe shows when its requests have stopped failing, and there may be no more of them.
            self._reevaluations[upstream] = asyncio.get_running_loop().call_later(
                self._config.services[upstream.service].breaker.window, self._reevaluate, upstream
            )

    def _reevaluate(self, upstream: Endpoint) -> None:
        del self._reevaluations[upstream]
        self._evaluate_traffic(upstream)

    def _apply(self, update: ProbeUpdate) -> None:
        result = update.result
        self.breakers.of(result.upstream).note_probe(is_failing=update.is_failing, is_healthy=result.health.is_healthy)
        if self._decides:
            for parent in update.probe_now:
                self.probe_now(parent)
            self.states.note(update.view, result.checked_at)
            if self._is_in_charge:
                self._write_soon(update.view.name)
                self.history.note_probe(result, update.view.health)
        for listener in self.on_probe:
            listener(result)
        for note in self.on_endpoint:
            note(result.upstream, result.health)
        ago = self._contradicted_for(update)
        for transition in update.transitions:
            is_cause = transition.service == result.upstream.service
            is_outage = Health.DOWN in (transition.before, transition.after)
            self._note_transition(transition, ago=ago if is_cause and is_outage else 0.0)

    def _contradicted_for(self, update: ProbeUpdate) -> float:
        """Seconds since the first of the probes in a row that led to the state was sent.

        A service that does not respond has been down since then, however long its probes take to time out and however
        many of them it takes to confirm that.
        """
        moment = time.monotonic()
        upstream = update.result.upstream
        since = self._contradicted_since.setdefault(upstream, moment - update.result.took)
        if update.is_settled:
            del self._contradicted_since[upstream]
        return moment - since

    def _write_soon(self, service: str) -> None:
        self._unwritten.add(service)
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(_WRITING_GAP, self._write)

    def _write_now(self, service: str) -> None:
        """Write a change that no probe made at once: the next probe may be far away."""
        if self._decides and self._is_in_charge:
            self._unwritten.add(service)
            self._write()

    def _write(self) -> None:
        """Write the rows of all services that were probed or have changed."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        if self._unwritten:
            self._store.record_services([self.board.service(name) for name in self._unwritten])
            self._unwritten.clear()

    def _note_transition(self, transition: Transition, ago: float = 0.0) -> None:
        """Report a transition, which happened `ago` seconds before now."""
        if not self._decides:
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


def _log_transition(transition: Transition, _: ServiceView) -> None:
    level = log.warning if transition.after is Health.DOWN else log.info
    level(
        "health changed",
        service=transition.service,
        health=transition.after.value,
        was=transition.before.value,
        reason=transition.reason,
        root=transition.root,
    )
