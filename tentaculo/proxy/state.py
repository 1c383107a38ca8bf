"""What all requests at the proxy share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from tentaculo.config.rotation import RotationSettings
from tentaculo.model.failure import Failure, Problem, UpstreamError
from tentaculo.net.inbound_request import InboundRequest, Request
from tentaculo.net.response_bytes import SentResponse
from tentaculo.net.turns import TurnScheduler
from tentaculo.proxy.tunnel import Tunnel
from tentaculo.tasks import TaskGroup
from tentaculo.telemetry.request_log import RequestLog, RequestRecord
from tentaculo.upstream.connection import UpstreamConnection


class Responses(Protocol):
    """Writes the responses that the gateway makes itself; the server implements it."""

    def refuse(
        self, problem: Problem, request: Request, inbound: InboundRequest, record: RequestRecord, *, keep_alive: bool
    ) -> SentResponse:
        """Send `problem` and note it in `record`."""
        ...

    def send(
        self,
        status: int,
        headers: Mapping[str, str],
        request: Request,
        inbound: InboundRequest,
        record: RequestRecord,
        *,
        keep_alive: bool,
        body: bytes = b"",
    ) -> SentResponse:
        """Send a response that is no refusal and note it in `record`."""
        ...


class Chooser(Protocol):
    """Learns which target to choose; `insight.rotation.Rotation` implements it."""

    def choose(
        self, allowed: Sequence[int], uniform: Callable[[], float], normal: Callable[[float, float], float]
    ) -> int:
        """One target of `allowed`."""
        ...

    def probability(self, target: int, allowed: Sequence[int]) -> float:
        """With which probability `choose` gives `target`."""
        ...

    def learn(self, target: int, reward: float) -> None:
        """Take the reward of a request into account."""
        ...

    def state(self) -> list[tuple[float, float]]:
        """What was learned of each target: discounted requests, and the sum of their rewards."""
        ...

    @property
    def faded(self) -> float:
        """What a request from before the first one counts for now, from 0 to 1."""
        ...

    def restore(self, target: int, count: float, total: float) -> None:
        """Continue with what was learned of a target before. Raises ValueError for what cannot have been learned."""
        ...


class Rewards(Protocol):
    """What a request is worth; `insight.rotation.RewardRule` implements it."""

    def reward(self, *, is_success: bool, seconds: float, cost: float | None) -> float:
        """From 0 to 1."""
        ...


Learning = Callable[[RotationSettings], tuple[Chooser, Rewards]]


class ProxyDependencies(msgspec.Struct, frozen=True):
    """What the proxy asks of the rest of the gateway."""

    responses: Responses
    requests: RequestLog
    why_off: Callable[[str], str]
    """Why a service is off, in words."""
    why_open: Callable[[str], dict[str, object]]
    """For a service whose breakers are open: members for the problem, such as since when and why."""
    turns: TurnScheduler
    """Shares the turns of the event loop among all connections."""
    learning: Learning
    """Makes what a group of targets learns with."""
    name: str
    """This gateway in Via and Proxy-Status; unique, since a request that carries it has come in a circle."""


class PendingWait:
    """A wait of a request that has no connection yet, for room or for one, so that it can be ended from outside."""

    __slots__ = ("error", "limit", "service")

    def __init__(self, service: str) -> None:
        self.service = service
        self.limit = asyncio.timeout(None)
        """Surrounds the wait."""
        self.error: UpstreamError | None = None
        """Why it was ended."""

    def __repr__(self) -> str:
        return f"<PendingWait for {self.service}>"

    def end(self, error: UpstreamError) -> None:
        """End the wait with a `TimeoutError` of `limit`. A second call does nothing."""
        if self.error is None:
            self.error = error
            self.limit.reschedule(asyncio.get_running_loop().time())


class ProxyState:
    """What the proxy asks of the gateway, its counts, and the exchanges under way."""

    __slots__ = (
        "is_draining",
        "name",
        "needs",
        "pending",
        "requests",
        "streams",
        "tasks",
        "traffic",
        "tunnels",
        "under_way",
    )

    def __init__(self, needs: ProxyDependencies) -> None:
        self.needs = needs
        self.name = needs.name.encode()
        self.tasks = TaskGroup("proxy")
        self.requests = needs.requests
        self.traffic = needs.requests.stats
        self.is_draining = False
        self.tunnels: dict[Tunnel, str] = {}
        """Each with the service that it leads to."""
        self.streams: set[UpstreamConnection] = set()
        """Connections that carry an event stream."""
        self.under_way: dict[UpstreamConnection, str] = {}
        """Connections that carry any exchange but a tunnel, each with the service that it leads to."""
        self.pending: set[PendingWait] = set()
        """The waits of requests that have no connection yet."""

    def __repr__(self) -> str:
        return f"<ProxyState: {self.traffic.in_flight} in flight>"

    def stop(self) -> None:
        """End every exchange. A client that has had no response yet gets a 503 (`stopping`)."""
        error = UpstreamError(Failure.STOPPING, "the gateway is stopping")
        for wait in self.pending:
            wait.end(error)
        for connection in list(self.under_way):
            connection.fail(error)

    def end_services(self, names: Collection[str]) -> None:
        """End every exchange and every tunnel with these services, which were removed from the configuration."""
        error = UpstreamError(Failure.SERVICE_OFF, "the service was removed from the configuration")
        for wait in self.pending:
            if wait.service in names:
                wait.end(error)
        for tunnel in [tunnel for tunnel, name in self.tunnels.items() if name in names]:
            tunnel.close()
        for connection in [connection for connection, name in self.under_way.items() if name in names]:
            connection.fail(error)

    def end_streams(self) -> None:
        """End tunnels and event streams."""
        for tunnel in list(self.tunnels):
            tunnel.close()
        for connection in list(self.streams):
            connection.fail(UpstreamError(Failure.STOPPING, "the gateway is stopping"))
