"""From a request to the plan of the route that takes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tentaculo.config.schema import Config
from tentaculo.model.failure import Failure, Problem
from tentaculo.net.inbound_request import InboundRequest
from tentaculo.proxy.route import CompiledRoute
from tentaculo.proxy.router import RouteTable
from tentaculo.upstream.load_balancer import LoadBalancer


class Router:
    """Every route's plan, and `GET|HEAD /<service>/health`, which leads to the service's own health path."""

    def __init__(
        self, config: Config, balancers: Mapping[str, LoadBalancer], health_path: Callable[[str], str]
    ) -> None:
        """`balancers` are those of the services that are on; `health_path` gives a service's present health path."""
        self._table = RouteTable(config)
        self._plans = [
            CompiledRoute(service, route, config.limits, balancers.get(service.name))
            for service, route in self._table.routes
        ]
        self._health_path = health_path
        self._health_names = {
            f"/{name}/health": service.name
            for service in config.services.values()
            for name in (service.name, *service.aliases)
        }
        self._health = {
            service.name: CompiledRoute.for_health(service, config.limits, balancers.get(service.name))
            for service in config.services.values()
        }

    def __repr__(self) -> str:
        return f"<Plans: {len(self)} routes>"

    def __len__(self) -> int:
        return len(self._plans)

    def takes_asterisk(self, inbound: InboundRequest) -> bool:
        """Whether somebody is behind all paths, and so is asked by `OPTIONS *`."""
        return self._table.match(inbound.host_name, "*") is not None

    def find(self, inbound: InboundRequest) -> tuple[CompiledRoute, str]:
        """The plan for a request, and the target that the upstream is to see.

        Raises `Problem`: 404 where no route takes it, 400 for a path that could be read as another one.
        """
        path, query = inbound.target.path, inbound.target.query
        if path.endswith("/health") and inbound.method in ("GET", "HEAD") and (name := self._health_names.get(path)):
            return self._health[name], self._health_path(name) + query
        match = self._table.match(inbound.host_name if self._table.knows_hosts else "", path)
        if match is None:
            raise Problem(Failure.NOT_FOUND)
        return self._plans[match.position], match.upstream_path(path) + query
