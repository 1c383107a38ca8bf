"""What a gateway needs of the other workers that share its port, where there are any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from tentaculo.gateway.health_service import HealthService
from tentaculo.gateway.incident_repository import IncidentRepository
from tentaculo.model.incident import Incident, MaintenanceWindow, Note
from tentaculo.telemetry.history import TakeTallies


class Coordination(Protocol):
    """One worker's view of the others: one of them is the leader, which probes and alerts for all."""

    number: int
    """Of this worker, from 1."""
    workers: int
    """How many there are."""
    name: str
    """The name that all share, as `Via` has it."""

    @property
    def is_leader(self) -> bool:
        """Whether this worker is the leader."""

    def listen(self, *, on_stop: Callable[[], None], on_stop_now: Callable[[], None]) -> None:
        """Receive messages from now on, in the running loop."""

    def report_ready(self) -> None:
        """Report that this worker takes requests."""

    def share_listeners(self, *, adopt: Callable[[int], None], release: Callable[[int], None]) -> None:
        """Call `adopt` with the number of a worker whose connections this one is to accept too, `release` at the end."""

    def report_stopping(self) -> None:
        """Report that this worker accepts no more connections."""

    def close(self) -> None:
        """Receive and send nothing more."""

    def sharing(
        self, health_service: HealthService, incident_repository: IncidentRepository, drain: TakeTallies
    ) -> AbstractAsyncContextManager[TakeTallies]:
        """Share health while the context is open; gives the tallies of all workers where this one leads."""

    def shown(self) -> Sequence[tuple[Incident, Sequence[Note]]]:
        """The leader's incidents, with their notes."""

    def planned(self) -> Sequence[MaintenanceWindow]:
        """The maintenance windows that are open or to come."""

    def untold(self) -> int:
        """How many open incidents `shown` leaves out."""
