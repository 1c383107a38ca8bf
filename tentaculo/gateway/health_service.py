"""The fleet's health, joined: watch → probe → board → recorder; history; and what the proxy asks of all that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from tentaculo.config.schema import Config
from tentaculo.health.board import Board
from tentaculo.health.heartbeat_monitor import HeartbeatMonitor
from tentaculo.health.probe_scheduler import ProbeScheduler
from tentaculo.health.prober import Prober
from tentaculo.model.clock import utc_now
from tentaculo.model.endpoint import Endpoint
from tentaculo.model.health import Health, ProbeResult, ServiceView, Transition
from tentaculo.model.history import DAY, HOUR
from tentaculo.store.client import StoreClient
from tentaculo.store.history_rollup import Retention
from tentaculo.tasks import TaskGroup
from tentaculo.telemetry.history import HistoryCollector, TakeTallies
from tentaculo.upstream.circuit_breaker import CircuitBreakers

log = structlog.get_logger(__name__)

_WRITING_GAP = 0.5
"""Seconds in which the rows of services are gathered that were probed: a row at a time would cost as much as probing."""
_WEIGHING_GAP = 0.1
"""Seconds between two looks at what requests met at an address, where many speak against what is believed of it."""


Listener = Callable[[Transition, ServiceView], None]


class Leader(Protocol):
    """Another process that probes for this one, and keeps what is met."""

    def suspect(self, upstream: Endpoint) -> None:
        """Have it probe an address now. Never waits."""

    def beat(self, service: str, said: bytes) -> None:
        """Have it hear that a service has called. Never waits."""


class HealthService:
    """What is believed of the services, and who keeps it up to date."""

    def __init__(self, config: Config, recorder: StoreClient) -> None:
        self._config = config
        self._recorder = recorder
        self.breakers = CircuitBreakers(config, time.monotonic, utc_now, self._note_request)
        self.board = Board(config, now=utc_now, breaker_view=self.breakers.view, traffic_view=self.breakers.traffic)
        self.heartbeats = HeartbeatMonitor(config, clock=time.monotonic, on_news=self.suspect)
        self._watch: ProbeScheduler | None = None
        self._leader: Leader | None = None
        self._weighed: dict[Endpoint, float] = {}
        self._unwritten: set[str] = set()
        self._writing: asyncio.TimerHandle | None = None
        kept = Retention(
            config.history.hours_of_minutes * HOUR,
            config.history.days_of_hours * DAY,
            config.history.years_of_days * 365 * DAY,
        )
        self.history = HistoryCollector(
            record=recorder.record_history,
            tend=lambda now, may_delete: recorder.tend_history(now, kept if may_delete else None),
            pace=self._pace,
            now=time.time,
            clock=time.monotonic,
        )
        self.on_transition: list[Listener] = [_log_transition]
        """Who hears of each change, with the service as it is then: in the event loop, so they must not wait.

        Only where this process probes: whoever else does tells of it as well.
        """
        self.on_probe: list[Callable[[ProbeResult], None]] = []
        """Who hears of each probe, likewise."""

    def __repr__(self) -> str:
        return f"<Fleet: {self.board!r}>"

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Probe every service from entering to leaving."""
        async with Prober(self._config, last_heartbeat=self.heartbeats.last) as prober:
            self._watch = ProbeScheduler(
                self._config, prober, self.board, on_result=self._note_result, on_transition=self._note_transition
            )
            tasks = TaskGroup("fleet")
            tasks.start(self._watch.run(), "watch")
            self.heartbeats.start()
            try:
                yield
            finally:
                self.heartbeats.stop()
                self._watch = None
                await tasks.close()
                self._write()

    @asynccontextmanager
    async def remembered(self, drain: TakeTallies) -> AsyncIterator[None]:
        """Keep what is met from entering to leaving; `drain` gives what requests met since its last call."""
        self.history.drain_from(drain)
        tasks = TaskGroup("history")
        tasks.start(self.history.run(), "minutes")
        try:
            yield
        finally:
            await tasks.close()
            self.history.flush()

    def follow(self, leader: Leader) -> None:
        """Leave it to another process to probe, to keep what is met and to tell of it; `take` believes what it found."""
        self._leader = leader

    def take(self, result: ProbeResult) -> None:
        """Believe a probe of the leader's as one of this process's own."""
        changed = self.board.record_probe(result)
        self._note_result(result)
        for transition in changed:
            self._note_transition(transition)

    def beat(self, service: str, said: bytes) -> None:
        """A service has called, and said `said`, JSON or nothing. KeyError for one that is not to call."""
        (self._leader or self.heartbeats).beat(service, said)

    def set_maintenance(self, service: str, reason: str | None) -> None:
        """Put a service into maintenance, `reason` in words, or take it out with None. KeyError for an unknown name."""
        for transition in self.board.set_maintenance(service, reason):
            self._note_transition(transition)
            self._write_now(service)

    def suspect(self, service: str) -> None:
        """Have a service probed now: somebody has a reason to. KeyError for an unknown name."""
        for upstream in self._config.services[service].upstreams:
            self.suspect_address(upstream)

    def suspect_address(self, upstream: Endpoint) -> None:
        """Have one configured address probed now."""
        if (prober := self._leader or self._watch) is not None:
            prober.suspect(upstream)

    def why_off(self, name: str) -> str:
        """Why a service is off, in words."""
        return self.board.service(name).reason

    def why_open(self, name: str) -> dict[str, object]:
        """For a service whose breakers are open: why, since when, and when it was last well."""
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
        """The seconds that lie at least between two probes of an address that nobody suspects, and some grace."""
        probe = self._config.services[service].probe
        return 0.8 * probe.interval * (1 - probe.jitter)

    def _note_request(self, upstream: Endpoint, is_well: bool) -> None:
        """Where a request speaks against what is believed, its address is asked now, and what requests met weighed anew.

        The latter at most every `_WEIGHING_GAP` seconds, but always where the breaker has opened: it may be the last
        request to tell of it.
        """
        if not self.board.is_contradicted(upstream, is_well=is_well):
            return
        self.suspect_address(upstream)
        moment = time.monotonic()
        if self.breakers.of(upstream).is_closed and moment < self._weighed.get(upstream, 0.0) + _WEIGHING_GAP:
            return
        self._weighed[upstream] = moment
        for transition in self.board.record_traffic(upstream):
            self._note_transition(transition)
            self._write_now(transition.service)

    def _note_result(self, result: ProbeResult) -> None:
        upstream = result.upstream
        is_doubted, is_well = self.board.is_doubted(upstream), result.health.is_healthy
        self.breakers.of(upstream).doubt(is_doubted=is_doubted, is_well=is_well)
        if self._leader is None:
            self._keep(result)
        for listener in self.on_probe:
            listener(result)

    def _keep(self, result: ProbeResult) -> None:
        upstream = result.upstream
        if result.health is Health.DOWN and not self.board.is_settled(upstream):
            # It may be a parent's failure: that is soon known, so that only the root makes a noise.
            for parent in self.board.parents(upstream.service):
                self.suspect(parent)
        self._write_soon(upstream.service)
        self.history.note_probe(result, self.board.health(upstream.service))

    def _write_soon(self, service: str) -> None:
        self._unwritten.add(service)
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(_WRITING_GAP, self._write)

    def _write_now(self, service: str) -> None:
        """What no probe changed may be long in being probed."""
        if self._leader is None:
            self._unwritten.add(service)
            self._write()

    def _write(self) -> None:
        """Bring the rows up to date of what has been probed, or has changed."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        if self._unwritten:
            self._recorder.record_services([self.board.service(name) for name in self._unwritten])
            self._unwritten.clear()

    def _note_transition(self, transition: Transition) -> None:
        if self._leader is not None:
            return
        view = self.board.service(transition.service)
        for listener in self.on_transition:
            try:
                listener(transition, view)
            except Exception:  # one listener's fault must not keep the news from the others
                log.exception("a listener failed", service=transition.service)


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
