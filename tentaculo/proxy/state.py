"""What all requests at the proxy share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tentaculo.config.schema import Config
from tentaculo.model.endpoint import Endpoint
from tentaculo.model.failure import Failure
from tentaculo.net.response_bytes import Render
from tentaculo.proxy.access_control import AccessControl
from tentaculo.proxy.plans import Router
from tentaculo.proxy.tunnel import Tunnel
from tentaculo.security.cors import CorsPolicy
from tentaculo.security.tokens import Tokens
from tentaculo.security.trusted_proxies import trusted_proxy_matcher
from tentaculo.tasks import TaskGroup
from tentaculo.telemetry.request_ids import RequestIds
from tentaculo.telemetry.request_record import LogRecord
from tentaculo.telemetry.traffic import RequestStats
from tentaculo.upstream.connection import UpstreamConnection
from tentaculo.upstream.errors import UpstreamError
from tentaculo.upstream.load_balancer import Breaker, LoadBalancer


@dataclass(frozen=True, slots=True)
class ProxyDependencies:
    """What the proxy asks of the rest of the gateway."""

    tokens: Tokens
    cors: CorsPolicy
    breaker: Callable[[Endpoint], Breaker]
    health_path: Callable[[str], str]
    """The path at which a service, by name, last answered a probe well, else the first it declares."""
    why_off: Callable[[str], str]
    """Why a service is off, in words."""
    why_open: Callable[[str], dict[str, object]]
    """For a service whose breakers are open: members for the problem, such as since when and why."""
    render: Render
    log: LogRecord | None
    name: str
    """This gateway in Via and Proxy-Status; unique, since a request that carries it has come in a circle."""


class ProxyState:
    """Routes, rules and counts, and what is under way."""

    __slots__ = (
        "gate",
        "ids",
        "is_draining",
        "is_trusted",
        "max_head",
        "name",
        "needs",
        "plans",
        "streams",
        "tasks",
        "traffic",
        "tunnels",
        "under_way",
    )

    def __init__(self, config: Config, needs: ProxyDependencies, balancers: Mapping[str, LoadBalancer]) -> None:
        """`balancers` are those of the services that are on."""
        self.needs = needs
        self.name = needs.name.encode()
        self.plans = Router(config, balancers, needs.health_path)
        self.gate = AccessControl(needs.tokens, needs.cors, needs.why_off, self.name)
        self.is_trusted = trusted_proxy_matcher(config.server.trusted_proxies)
        self.max_head = config.limits.headers
        self.ids = RequestIds()
        self.tasks = TaskGroup("proxy")
        self.traffic = RequestStats()
        self.is_draining = False
        self.tunnels: set[Tunnel] = set()
        self.streams: set[UpstreamConnection] = set()
        """Connections that carry an event stream."""
        self.under_way: set[UpstreamConnection] = set()
        """Connections that carry any exchange but a tunnel."""

    def __repr__(self) -> str:
        return f"<Shared: {self.plans!r}, {self.traffic.in_flight} in flight>"

    def stop(self) -> None:
        """End every exchange: who has had no answer yet is told that the gateway stops."""
        for connection in list(self.under_way):
            connection.fail(UpstreamError(Failure.STOPPING, "the gateway is stopping"))

    def drain(self) -> None:
        """End tunnels and event streams; every other answer closes its connection from now on."""
        self.is_draining = True
        for tunnel in list(self.tunnels):
            tunnel.close()
        for connection in list(self.streams):
            connection.fail(UpstreamError(Failure.STOPPING, "the gateway is stopping"))
