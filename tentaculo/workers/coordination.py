"""The other workers, as one of them sees them. The first one leads.

what the leader's probes find, and what is in maintenance → the boards of the others
its incidents, and what maintenance is planned → the pages of the others
whom their requests make them suspect, and heartbeats that came to them → the leader's watch
what their requests met → the leader's history
"""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Protocol, TypeVar

import structlog

from tentaculo.gateway.health_service import HealthService
from tentaculo.model.endpoint import Endpoint
from tentaculo.model.health import Health, ProbeResult, ServiceView, Transition
from tentaculo.model.history import Tally
from tentaculo.model.incident import MaintenanceWindow
from tentaculo.tasks import TaskGroup
from tentaculo.telemetry.history import TakeTallies
from tentaculo.workers.channel import ALL, LONGEST, PING, PONG, READY, STOP, STOP_NOW, WorkerChannel
from tentaculo.workers.messages import (
    Asked,
    Beaten,
    Listed,
    Maintained,
    Met,
    Probed,
    ShownIncident,
    Suspected,
    shortened,
)

log = structlog.get_logger(__name__)

T = TypeVar("T")

LEADER = 1
"""The worker that probes, alerts and writes history and the table. Its successor is the leader in its place."""
REPORT_EVERY = 2.0
"""Seconds after which the leader hears what the requests of another worker met."""
LIST_EVERY = 1.0
"""Seconds between looks at whether the leader's page shows anything new beside the services."""
_SUSPICION_GAP = 1.0
"""Seconds between two suspicions of one address that the leader hears of; it probes no more often than that."""
_RESULTS = 20
_REASONS = 50
_TALLIES = 10
"""How many go into one message, which is to stay well below what a line takes."""


class SharesIncidents(Protocol):
    """What the leader knows of incidents and maintenance, in memory."""

    def shown(self) -> Sequence[ShownIncident]:
        """The incidents on the page, with their notes."""
        ...

    def planned(self) -> Sequence[MaintenanceWindow]:
        """The maintenance that holds or is to come."""
        ...


class WorkerCoordination:
    """One worker's line to the others, and what goes over it."""

    def __init__(self, number: int, workers: int, name: str, sock: socket.socket) -> None:
        """`number` counts from 1; `name` is the one that all share; `sock` leads to the supervisor."""
        self.number = number
        self.workers = workers
        self.name = name
        self._sock = sock
        self._line: WorkerChannel | None = None
        self._fleet: HealthService | None = None
        self._met: dict[str, Tally] = {}
        self._listed = Listed((), ())
        self._tells_soon = False
        self._suspected: dict[Endpoint, float] = {}
        self._probed: dict[Endpoint, datetime] = {}

    def __repr__(self) -> str:
        return f"<Colleagues of worker {self.number}, {self.workers} in all>"

    @property
    def leads(self) -> bool:
        """Whether this worker is the leader."""
        return self.number == LEADER

    def listen(self, *, on_stop: Callable[[], None], on_hurry: Callable[[], None]) -> None:
        """Hear the others from now on, in the running loop. Without its supervisor a worker stops."""

        def hear(message: bytes) -> None:
            if message == STOP:
                on_stop()
            elif message == STOP_NOW:
                on_hurry()
            elif message == PING:
                line.send(PONG)
            elif self._fleet is not None:
                self._take(self._fleet, message)

        def end() -> None:
            log.error("the supervisor is gone")
            on_stop()

        line = self._line = WorkerChannel(self._sock, on_message=hear, on_end=end)

    def close(self) -> None:
        """Hear and tell nothing more."""
        if self._line is not None:
            self._line.close()

    def tell_ready(self) -> None:
        """Tell the supervisor that this worker takes requests."""
        if self._line is not None:
            self._line.send(READY)

    @asynccontextmanager
    async def joined(
        self, fleet: HealthService, books: SharesIncidents, drain: TakeTallies
    ) -> AsyncIterator[TakeTallies]:
        """Share health from entering to leaving. `drain` gives what requests met here; gives the same of all workers.

        The leader's history asks for that. The others must not: they tell the leader, every `REPORT_EVERY` seconds.
        """
        self._fleet = fleet
        tasks = TaskGroup("colleagues")
        if self.leads:
            fleet.on_probe.append(lambda result: self._tell(Probed([result])))
            fleet.on_transition.append(self._note_transition)
            self._tell_maintained()
            tasks.start(self._list(books), "list")
        else:
            fleet.follow(self)
            self._tell(Asked(self.number), LEADER)
            tasks.start(self._report(drain), "report")
        try:
            yield lambda: self._all_met(drain)
        finally:
            self._fleet = None
            await tasks.close()
            if not self.leads:
                self._tell_met(drain)

    def shown(self) -> Sequence[ShownIncident]:
        """The leader's incidents, as it last told of them."""
        return self._listed.incidents

    def planned(self) -> Sequence[MaintenanceWindow]:
        """The maintenance that holds or is to come, likewise."""
        return self._listed.windows

    def untold(self) -> int:
        """How many more of them are open."""
        return self._listed.untold

    # -- what a follower tells the leader ----------------------------------------------------------------------

    def suspect(self, upstream: Endpoint) -> None:
        """Have the leader probe an address now."""
        moment = asyncio.get_running_loop().time()
        if moment >= self._suspected.get(upstream, float("-inf")) + _SUSPICION_GAP:
            self._suspected[upstream] = moment
            self._tell(Suspected(upstream), LEADER)

    def beat(self, service: str, said: bytes) -> None:
        """Tell the leader that a service has called."""
        self._tell(Beaten(service, said), LEADER)

    async def _report(self, drain: TakeTallies) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY)
            self._tell_met(drain)

    def _tell_met(self, drain: TakeTallies) -> None:
        for some in _batches(list(drain().items()), _TALLIES):
            self._tell(Met(dict(some)), LEADER)

    # -- what the leader tells the others ----------------------------------------------------------------------

    def _note_transition(self, transition: Transition, _: ServiceView) -> None:
        # A window of every service makes a thousand changes at once, and they are told of together.
        if Health.MAINTENANCE in (transition.before, transition.after) and not self._tells_soon:
            self._tells_soon = True
            asyncio.get_running_loop().call_soon(self._tell_maintained)

    def _tell_maintained(self, number: int | None = None) -> None:
        self._tells_soon = False
        views = () if self._fleet is None else self._fleet.board.snapshot()
        for some in _batches(views, _REASONS):
            self._tell(Maintained({view.name: view.maintenance for view in some}), number)

    async def _list(self, books: SharesIncidents) -> None:
        while True:
            listed = Listed(books.shown(), books.planned())
            if listed != self._listed:
                self._listed = listed
                self._tell(listed)
            await asyncio.sleep(LIST_EVERY)

    def _answer(self, fleet: HealthService, number: int) -> None:
        """Tell a worker that has just begun what is known."""
        for some in _batches(list(fleet.board.results()), _RESULTS):
            self._tell(Probed(some), number)
        self._tell_maintained(number)
        self._tell(self._listed, number)

    def _all_met(self, drain: TakeTallies) -> dict[str, Tally]:
        met, self._met = self._met, {}
        for service, tally in drain().items():
            met.setdefault(service, Tally()).merge(tally)
        return met

    # -- what is heard -----------------------------------------------------------------------------------------

    def _take(self, fleet: HealthService, message: bytes) -> None:
        match pickle.loads(message[1:]):  # noqa: S301 - from a worker of the same supervisor
            case Probed(results):
                for result in results:
                    self._take_result(fleet, result)
            case Maintained(reasons):
                for name, reason in reasons.items():
                    if fleet.board.service(name).maintenance != reason:
                        fleet.set_maintenance(name, reason)
            case Listed() as listed:
                self._listed = listed
            case Suspected(upstream):
                fleet.suspect_address(upstream)
            case Beaten(service, said):
                fleet.beat(service, said)
            case Met(tallies):
                for service, tally in tallies.items():
                    self._met.setdefault(service, Tally()).merge(tally)
            case Asked(number):
                self._answer(fleet, number)

    def _take_result(self, fleet: HealthService, result: ProbeResult) -> None:
        # What the leader answers a new worker may cross what it tells everybody.
        known = self._probed.get(result.upstream)
        if known is None or result.checked_at > known:
            self._probed[result.upstream] = result.checked_at
            fleet.take(result)

    def _tell(self, message: object, number: int | None = None) -> None:
        if self._line is None:
            return
        text = pickle.dumps(message)
        while isinstance(message, Listed) and len(text) >= LONGEST:
            message = shortened(message)
            text = pickle.dumps(message)
        self._line.send((ALL if number is None else bytes([number])) + text)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    yield from (items[start : start + size] for start in range(0, len(items), size))
