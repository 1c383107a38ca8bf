"""The interface of a gateway to the other workers on its port."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from tentaculo.events.clock_offsets import ClockOffsets
from tentaculo.gateway.health_service import HealthService
from tentaculo.gateway.incident_repository import IncidentRepository
from tentaculo.gateway.reloading import HandedReloads
from tentaculo.model.incident import Incident, MaintenanceWindow, Note
from tentaculo.security.sign_in import AttemptLimit
from tentaculo.telemetry.history import TakeTallies


class Coordination(Protocol):
    """The other workers as one worker sees them. One of all is the leader, which probes and alerts for all."""

    number: int
    """Number of this worker, from 1."""
    workers: int
    """How many there are when all of them serve."""
    name: str
    """The name of the gateway in `Via`, the same for all workers."""

    has_predecessor: bool
    """Whether the leader waits until it may lead."""

    @property
    def reloads(self) -> HandedReloads:
        """What the supervisor has all workers reload."""

    @property
    def is_leader(self) -> bool:
        """Whether this worker is the leader."""

    def listen(
        self, *, on_stop: Callable[[], None], on_stop_now: Callable[[], None], on_retire: Callable[[], None]
    ) -> None:
        """Receive messages from now on, in the running event loop. `on_retire` is called when a successor has taken over."""

    async def wait_to_lead(self) -> None:
        """Until no predecessor probes and alerts."""

    def report_lead_released(self) -> None:
        """Report that this worker probes and alerts no more."""

    def report_ready(self) -> None:
        """Report that this worker accepts requests."""

    def share_listeners(self, *, adopt: Callable[[int], None], release: Callable[[int], None]) -> None:
        """Call `adopt` with the number of a worker whose connections this one is to accept too, `release` at the end."""

    def share_events(self, on_events: Callable[[], None]) -> None:
        """Call `on_events` when another worker has stored events."""

    def report_events(self) -> None:
        """Report to the other workers that the log of events has more."""

    def share_clocks(self, offsets: ClockOffsets) -> None:
        """Exchange with the other workers what events state of the clocks of their sources."""

    def share_sign_ins(self, limit: AttemptLimit) -> None:
        """Exchange failed attempts to sign in with the other workers, so that all of them have one count."""

    def share_limits(self, divide: Callable[[int], None]) -> None:
        """Call `divide` with how many workers serve now, whenever that changes."""

    def report_stopping(self) -> None:
        """Report that this worker accepts no more connections."""

    def close(self) -> None:
        """Stop receiving and sending messages."""

    def sharing(
        self, health_service: HealthService, incident_repository: IncidentRepository, drain: TakeTallies
    ) -> AbstractAsyncContextManager[TakeTallies]:
        """Share health while the context is open. On the leader it gives the tallies of all workers."""

    def shown(self) -> Sequence[tuple[Incident, Sequence[Note]]]:
        """The leader's incidents, with their notes."""

    def planned(self) -> Sequence[MaintenanceWindow]:
        """The open and planned maintenance windows."""

    def not_listed(self) -> int:
        """How many open incidents `shown` leaves out."""
