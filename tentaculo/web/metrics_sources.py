"""What the metrics of the gateway are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from tentaculo.model.early_warning import WarningCounts
from tentaculo.model.history import RouteKey
from tentaculo.model.request_phases import PhaseCounts


class Load(NamedTuple):
    """What the gateway is serving at this moment."""

    connections: int
    """Client connections."""
    in_flight: int
    """Proxied requests, tunnels and event streams included."""
    tasks: int
    """The event loop's tasks: one for each connection, and a fixed few."""


_NO_WARNINGS = WarningCounts()


class AlertStats(NamedTuple):
    """Open incidents, alerts by channel, and early warnings."""

    open_incidents: int
    alerts: Mapping[str, tuple[int, int, int]]
    """By channel: messages delivered, failed after every attempt, and dropped (queue full, or channel closed by its receiver)."""
    warnings: WarningCounts = _NO_WARNINGS


class LeaseView(NamedTuple):
    """The lease of several machines, as one of them sees it."""

    instance: str
    """This machine."""
    is_held: bool
    """Whether it holds the lease."""
    epoch: int
    """How often the lease has been taken; 0 where this machine does not hold it."""


class ReloadView(NamedTuple):
    """The configuration that is served, and the last attempt to reload it."""

    generation: int
    """1 is the configuration of the start; each reload that is accepted adds 1."""
    is_successful: bool
    """Whether the last reload was accepted; True before there was any."""
    at: float
    """When the configuration was last read, accepted or not, in seconds since 1970."""


class Traffic(Protocol):
    """The proxied requests so far."""

    def __call__(self) -> Iterable[tuple[str, str, int, float]]:
        """Per service and status class: `(service, "2xx", requests, seconds in all)`; both only ever grow."""


PhasesOfRoutes = Callable[[], Iterable[tuple[RouteKey, Sequence[PhaseCounts]]]]
"""Gives each route and its phases so far, in the order of `Phases`."""
HedgesOfServices = Callable[[], Iterable[tuple[str, int, int]]]
"""Gives each service with hedged routes: its name, the requests that were hedged, and those that the second endpoint won."""

LimitedRequests = Callable[[], Mapping[tuple[str, str, str, str], int]]
"""Gives the requests that were refused by service and route, both empty for the gateway's own paths, by what refused them,
and by who is counted apart there."""


RequestsOfCallers = Callable[[], Mapping[str, int]]
"""Gives the requests so far of each caller, by the name of its token."""
