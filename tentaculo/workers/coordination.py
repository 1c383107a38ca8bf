"""The shared state of the workers on one port. Worker 1 is the leader, the others are followers.

leader → followers: probe results, earlier ones for the page, changes of state of another machine, maintenance and slowness, incidents,
    planned windows
followers → leader: suspected endpoints, heartbeats, tallies of their requests
each → all others: that there are more events, what events state of the clocks of their sources, and failed attempts to
    sign in
"""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog

from tentaculo.events.clock_offsets import ClockOffsets
from tentaculo.gateway.health_service import HealthService
from tentaculo.gateway.reloading import ReloadReport, start_report
from tentaculo.model.health import Endpoint, ProbeDetails, StateChange
from tentaculo.model.history import RouteKey, Tally
from tentaculo.model.incident import MaintenanceWindow
from tentaculo.model.text import utc_now
from tentaculo.security.sign_in import AttemptLimit
from tentaculo.tasks import TaskGroup
from tentaculo.telemetry.history import TakeTallies
from tentaculo.workers.channel import (
    ADOPT,
    ALL,
    EVENTS,
    LEAD,
    LEAD_RELEASED,
    LEADER,
    LONGEST,
    PING,
    PONG,
    READY,
    RELEASE,
    RELOADS,
    RETIRE,
    SERVING,
    STOP,
    STOP_NOW,
    STOPPING,
    FailedSignIn,
    FoundDetails,
    Heartbeat,
    LoggedProbes,
    PageIncidents,
    ProbeRequest,
    ProbeResults,
    Reasons,
    ReceivedOffsets,
    RequestTallies,
    SharesIncidents,
    ShownIncident,
    StateChanges,
    StatedTimes,
    StateRequest,
    WorkerChannel,
    batches,
    shortened,
)
from tentaculo.workers.generations import WorkerReloads
from tentaculo.workers.leader_state import LeaderState

log = structlog.get_logger(__name__)

T = TypeVar("T")


REPORT_EVERY = 2.0
"""Seconds between two reports of a follower's request tallies to the leader."""
LIST_EVERY = 1.0
"""Seconds between two checks for new incidents and windows on the leader."""
REPORT_EVENTS_AFTER = 0.005
"""Seconds in which events that are stored need one report only."""
_SUSPICION_GAP = 1.0
"""Least seconds between two reports of one suspected endpoint. The leader probes it at most that often."""
_RESULTS = 20
_REASONS = 50
_TALLIES = 10
_SOURCES = 50
"""Items in one message, which mostly stays well below the channel's limit."""


def _ignore(_number: int) -> None:
    """Used while nobody has asked: before the listening sockets are open there is nothing to adopt."""


class WorkerCoordination:
    """One worker's channel to the other workers."""

    def __init__(
        self,
        number: int,
        workers: int,
        name: str,
        sock: socket.socket,
        last_reload: ReloadReport | None = None,
        *,
        has_predecessor: bool = False,
    ) -> None:
        """`number` counts from 1; `name` is the gateway's, the same for all; `sock` is connected to the supervisor.

        `last_reload` is the one before this worker was started, if there was any. `has_predecessor` is whether worker 1
        waits for an order to lead.
        """
        self.number = number
        self.workers = workers
        self.name = name
        self._sock = sock
        self._channel: WorkerChannel | None = None
        self.reloads = WorkerReloads(last_reload or start_report(utc_now()), lambda: self._channel)
        self._adopt: Callable[[int], None] = _ignore
        self._release: Callable[[int], None] = _ignore
        self._on_events: Callable[[], None] = lambda: None
        self._on_serving: Callable[[int], None] = _ignore
        self._offsets: ClockOffsets | None = None
        self._sign_ins: AttemptLimit | None = None
        self._will_report = False
        self._health_service: HealthService | None = None
        self._received_tallies: dict[RouteKey, Tally] = {}
        self._listed = PageIncidents((), ())
        self.has_predecessor = has_predecessor
        self._may_lead = asyncio.Event()
        self._will_send_reasons = False
        self._suspected: dict[Endpoint, float] = {}
        self._leader_state = LeaderState()

    def __repr__(self) -> str:
        return f"<WorkerCoordination of worker {self.number}, {self.workers} in all>"

    @property
    def is_leader(self) -> bool:
        """Whether this worker is the leader."""
        return self.number == LEADER

    def listen(
        self, *, on_stop: Callable[[], None], on_stop_now: Callable[[], None], on_retire: Callable[[], None]
    ) -> None:
        """Receive messages from now on, in the running loop. `on_stop` is also called when the supervisor is gone."""

        def receive(message: bytes) -> None:
            if message == STOP:
                on_stop()
            elif message == STOP_NOW:
                on_stop_now()
            elif message == RETIRE:
                on_retire()
            elif message == LEAD:
                self._may_lead.set()
            elif message == PING:
                channel.send(PONG)
            elif message == EVENTS:
                self._on_events()
            elif message.startswith(ADOPT):
                self._adopt(message[-1])
            elif message.startswith(RELEASE):
                self._release(message[-1])
            elif message.startswith(SERVING):
                self._on_serving(message[-1])
            elif message.startswith(RELOADS):
                self.reloads.receive(message, None)
            elif self._health_service is not None:
                self._take(self._health_service, message)

        def end() -> None:
            log.error("supervisor gone")
            on_stop()

        channel = self._channel = WorkerChannel(
            self._sock, on_message=receive, on_end=end, on_file=self.reloads.receive
        )

    async def wait_to_lead(self) -> None:
        """Until the supervisor orders to lead."""
        await self._may_lead.wait()

    def report_lead_released(self) -> None:
        """Report to the supervisor that this worker probes and alerts no more."""
        if self._channel is not None and self.is_leader:
            self._channel.order(LEAD_RELEASED)

    def close(self) -> None:
        """Stop receiving and sending."""
        if self._channel is not None:
            self._channel.close()

    def report_ready(self) -> None:
        """Report to the supervisor that this worker accepts requests."""
        if self._channel is not None:
            self._channel.send(READY)

    @asynccontextmanager
    async def sharing(
        self, health_service: HealthService, incident_repository: SharesIncidents, drain: TakeTallies
    ) -> AsyncIterator[TakeTallies]:
        """Share health while the context is open.

        `drain` takes the request tallies of this worker. The context gives a function that takes those of all workers,
        for the leader's history. Followers send theirs to the leader every `REPORT_EVERY` seconds.
        """
        self._health_service = health_service
        tasks = TaskGroup("coordination")
        if self.is_leader:
            health_service.on_probe.append(lambda result: self._send(ProbeResults([result])))
            health_service.on_reasons.append(self._note_reasons)
            health_service.on_changes.append(self._send_changes)
            health_service.on_details.append(self._send_details)
            self._send_reasons()
            tasks.start(self._list(incident_repository), "list")
        else:
            health_service.follow(self)
            self.reloads.on_swap = lambda: self._leader_state.take_early(health_service)
            self._send(StateRequest(self.number), LEADER)
            tasks.start(self._report(drain), "report")
        if self._offsets is not None:
            tasks.start(self._send_stated(self._offsets), "clocks")
        try:
            yield lambda: self._take_all_tallies(drain)
        finally:
            self._health_service = None
            await tasks.close()
            if not self.is_leader:
                self._send_tallies(drain)

    def share_listeners(self, *, adopt: Callable[[int], None], release: Callable[[int], None]) -> None:
        """Call `adopt` with the number of a worker whose connections this one is to accept too, `release` at the end."""
        self._adopt, self._release = adopt, release

    def share_events(self, on_events: Callable[[], None]) -> None:
        """Call `on_events` when another worker has stored events."""
        self._on_events = on_events

    def share_clocks(self, offsets: ClockOffsets) -> None:
        """Exchange with the other workers what events state of the clocks of their sources, while health is shared."""
        self._offsets = offsets

    def share_limits(self, divide: Callable[[int], None]) -> None:
        """Call `divide` with how many workers serve now, whenever that changes."""
        self._on_serving = divide

    def share_sign_ins(self, limit: AttemptLimit) -> None:
        """Exchange failed attempts to sign in with the other workers, so that all of them have one count."""
        self._sign_ins = limit
        limit.report = lambda network: self._send(FailedSignIn(network))

    async def _send_stated(self, offsets: ClockOffsets) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY)
            self._send_batches(lambda some: StatedTimes(dict(some)), offsets.take_stated().items(), _SOURCES)
            self._send_batches(lambda some: ReceivedOffsets(dict(some)), offsets.take_received().items(), _RESULTS)

    def report_events(self) -> None:
        """Report to the other workers, soon, that the log of events has more."""
        if not self._will_report:
            self._will_report = True
            asyncio.get_running_loop().call_later(REPORT_EVENTS_AFTER, self._send_events)

    def _send_events(self) -> None:
        self._will_report = False
        if self._channel is not None:
            self._channel.send(EVENTS)

    def report_stopping(self) -> None:
        """Report that this worker accepts no more connections."""
        if self._channel is not None:
            self._channel.order(STOPPING)

    def shown(self) -> Sequence[ShownIncident]:
        """The leader's incidents, as last received."""
        return self._listed.incidents

    def planned(self) -> Sequence[MaintenanceWindow]:
        """The open and planned maintenance windows, as last received."""
        return self._listed.windows

    def not_listed(self) -> int:
        """How many open incidents `shown` leaves out."""
        return self._listed.not_listed

    # -- from a follower to the leader --------------------------------------------------------------------------

    def probe_now(self, upstream: Endpoint) -> None:
        """Have the leader probe an endpoint now."""
        moment = asyncio.get_running_loop().time()
        if moment >= self._suspected.get(upstream, float("-inf")) + _SUSPICION_GAP:
            self._suspected[upstream] = moment
            self._send(ProbeRequest(upstream), LEADER)

    def beat(self, service: str, body: bytes) -> None:
        """Report a service's heartbeat to the leader."""
        self._send(Heartbeat(service, body), LEADER)

    async def _report(self, drain: TakeTallies) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY)
            self._send_tallies(drain)

    def _send_tallies(self, drain: TakeTallies) -> None:
        self._send_batches(lambda some: RequestTallies(dict(some)), drain().items(), _TALLIES, LEADER)

    # -- from the leader to the followers ----------------------------------------------------------------------

    def _note_reasons(self) -> None:
        # A window of every service is one change for each of them; they are sent together.
        if not self._will_send_reasons:
            self._will_send_reasons = True
            asyncio.get_running_loop().call_soon(self._send_reasons)

    def _send_reasons(self, number: int | None = None) -> None:
        self._will_send_reasons = False
        reasons = {} if self._health_service is None else self._health_service.board.reasons()
        self._send_batches(lambda some: Reasons(dict(some)), reasons.items(), _REASONS, number)

    async def _list(self, incident_repository: SharesIncidents) -> None:
        while True:
            listed = PageIncidents(incident_repository.shown(), incident_repository.planned())
            if listed != self._listed:
                self._listed = listed
                self._send(listed)
            await asyncio.sleep(LIST_EVERY)

    def _send_state(self, health_service: HealthService, number: int) -> None:
        """Send the current state to a worker that has just started."""
        if health_service.is_following:
            self._send_changes(list(health_service.followed.values()), number)
            self._send_details(health_service.details, number)
        self._send_batches(ProbeResults, health_service.board.results(), _RESULTS, number)
        probes, certificates = health_service.board.probe_log.content()
        self._send_batches(lambda some: LoggedProbes(some, ()), probes, _RESULTS, number)
        self._send_batches(lambda some: LoggedProbes((), some), certificates, _RESULTS, number)
        self._send_reasons(number)
        self._send(self._listed, number)

    def _send_changes(self, changes: Sequence[StateChange], number: int | None = None) -> None:
        self._send_batches(StateChanges, changes, _RESULTS, number)

    def _send_details(self, details: Mapping[str, ProbeDetails], number: int | None = None) -> None:
        self._send_batches(lambda some: FoundDetails(dict(some)), details.items(), _RESULTS, number)

    def _take_all_tallies(self, drain: TakeTallies) -> dict[RouteKey, Tally]:
        tallies, self._received_tallies = self._received_tallies, {}
        for route, tally in drain().items():
            tallies.setdefault(route, Tally()).merge(tally)
        return tallies

    # -- received ----------------------------------------------------------------------------------------------

    def _take(self, health_service: HealthService, message: bytes) -> None:
        match pickle.loads(message[1:]):  # noqa: S301 - from a worker of the same supervisor
            case ProbeResults(results):
                for result in results:
                    self._leader_state.take_result(health_service, result)
            case LoggedProbes(results, certificates):
                health_service.board.probe_log.restore(results, certificates)
            case StateChanges(changes):
                health_service.accept_changes(changes)
            case FoundDetails(details):
                health_service.board.note_details(details)
            case Reasons(reasons):
                self._leader_state.take_reasons(health_service, reasons)
            case PageIncidents() as listed:
                self._listed = listed
            case ProbeRequest(upstream):
                health_service.probe_endpoint_now(upstream)
            case Heartbeat(service, body):
                health_service.beat(service, body)
            case RequestTallies(tallies):
                for route, tally in tallies.items():
                    self._received_tallies.setdefault(route, Tally()).merge(tally)
            case StatedTimes(readings) if self._offsets is not None:
                for source, reading in readings.items():
                    self._offsets.note_stated(source, reading)
            case ReceivedOffsets(received) if self._offsets is not None:
                self._offsets.accept_bounds(received)
            case FailedSignIn(network) if self._sign_ins is not None:
                self._sign_ins.count(network)
            case StateRequest(number):
                self._send_state(health_service, number)

    def _send_batches(
        self, make: Callable[[Sequence[T]], object], items: Iterable[T], size: int, number: int | None = None
    ) -> None:
        """Send `items` in messages of up to `size` of them, of fewer where one would be too long."""
        for some in batches(list(items), size):
            text = pickle.dumps(make(some))
            if len(text) < LONGEST or len(some) == 1:
                self._send_text(text, number)
            else:
                self._send_batches(make, some, len(some) // 2, number)

    def _send(self, message: object, number: int | None = None) -> None:
        text = pickle.dumps(message)
        while isinstance(message, PageIncidents) and len(text) >= LONGEST:
            message = shortened(message)
            text = pickle.dumps(message)
        self._send_text(text, number)

    def _send_text(self, text: bytes, number: int | None) -> None:
        if self._channel is not None:
            self._channel.send((ALL if number is None else bytes([number])) + text)
