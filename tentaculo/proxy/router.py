"""From host and raw path to a route: the longest prefix by whole path segments. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import unquote

from tentaculo.config.schema import Config
from tentaculo.config.services import RouteSettings, ServiceSettings
from tentaculo.model.failure import Failure, Problem
from tentaculo.net.inbound_request import InboundRequest
from tentaculo.proxy.route import CompiledRoute
from tentaculo.upstream.load_balancer import LoadBalancer

_PARAMETERS = re.compile(r";[^/]*")
_EMPTY_SEGMENTS = re.compile(r"[/\\]+(?:\.(?:[/\\]+|$))*")
"""Slashes, with the segments between them that lead nowhere: empty ones and `.`."""


class Match(NamedTuple):
    """A route that takes a path."""

    service: str
    route: RouteSettings
    position: int
    """The route's position among all of the configuration's, in order."""
    is_guarded: bool
    """Whether a path needs the careful look: the route is open, and another of its service is not."""
    inside: str
    """What stands in place of the prefix upstream."""
    cut: int
    """Characters that it replaces."""

    @classmethod
    def of(cls, service: str, route: RouteSettings, position: int = 0, *, is_guarded: bool = False) -> Match:
        """From a route of the configuration."""
        return cls(service, route, position, is_guarded, route.replacement, len(route.prefix.rstrip("/")))

    def upstream_path(self, path: str) -> str:
        """The path that the upstream is to see for a `path` that the route takes."""
        return path if path == "*" else (self.inside + path[self.cut :]) or "/"


class _Prefixes:
    """What each prefix leads to."""

    __slots__ = ("_found", "_longest")

    def __init__(self) -> None:
        self._found: dict[str, Match] = {}
        self._longest = 0

    def add(self, prefix: str, found: Match) -> None:
        self._found[prefix] = found
        self._longest = max(self._longest, len(prefix))

    def find(self, path: str) -> Match | None:
        """What the longest prefix of whole segments leads to."""
        prefix = path
        if len(path) > self._longest:
            # However long a path is, only the start of it can be a prefix.
            prefix = path[: max(path.rfind("/", 0, self._longest + 1), 0)]
        while prefix:
            if (found := self._found.get(prefix)) is not None:
                return found
            prefix = prefix[: max(prefix.rfind("/"), 0)]
        return self._found.get("/")


class RouteTable:
    """All routes of a configuration.

    A look-up costs one dictionary access per path segment, however many routes there are. A route with a host is
    preferred to one without, whatever their lengths; `/switch` never takes `/switchboard`.
    """

    def __init__(self, config: Config) -> None:
        self._hosts: dict[str, _Prefixes] = {}
        self._any = _Prefixes()
        self.routes: list[tuple[ServiceSettings, RouteSettings]] = []
        """All routes in the configuration's order."""
        self._half_open = frozenset(
            service.name for service in config.services.values() if len({route.auth for route in service.routes}) > 1
        )
        self._loose_hosts: dict[str, _Prefixes] = {}
        self._loose_any = _Prefixes()
        for service in config.services.values():
            for route in service.routes:
                self._add(service, route)

    def __repr__(self) -> str:
        return f"<RouteTable: {len(self.routes)} routes, {len(self._hosts)} hosts>"

    @property
    def knows_hosts(self) -> bool:
        """Whether any route asks for a host."""
        return bool(self._hosts)

    def _add(self, service: ServiceSettings, route: RouteSettings) -> None:
        is_guarded = route.auth == "none" and service.name in self._half_open
        found = Match.of(service.name, route, len(self.routes), is_guarded=is_guarded)
        if route.host is None:
            exact, loose = self._any, self._loose_any
        else:
            exact = self._hosts.setdefault(route.host, _Prefixes())
            loose = self._loose_hosts.setdefault(route.host, _Prefixes())
        exact.add(route.prefix, found)
        if service.name in self._half_open:
            loose.add(_read_loosely(route.prefix), found)
        self.routes.append((service, route))

    def match(self, host: str, path: str) -> Match | None:
        """The route for a raw `path` (escapes untouched) at `host` (without port), or None.

        Raises `Problem` (400) for a path that an open route takes as it stands, while a server that reads paths more
        loosely would see one behind the same service's token: `/%61dmin`, `//admin`, `/admin;x`, `/ADMIN`.
        """
        if self._hosts:
            host = host.lower().removesuffix(".")
            found = _find(self._hosts, self._any, host, path)
        else:
            found = self._any.find(path)
        if found is not None and found.is_guarded:
            loose = _find(self._loose_hosts, self._loose_any, host, _read_loosely(path))
            if loose is not None and loose.service == found.service and loose.route.auth != "none":
                raise Problem(Failure.BAD_TARGET, "The path can be read as another one, which needs a token.")
        return found


def _find(hosts: dict[str, _Prefixes], anywhere: _Prefixes, host: str, path: str) -> Match | None:
    found = None
    if hosts and (table := hosts.get(host)) is not None:
        found = table.find(path)
    return anywhere.find(path) if found is None else found


def _read_loosely(path: str) -> str:
    """A path as the least strict servers read it: unescaped, without parameters, empty and `.` segments, case folded."""
    return _EMPTY_SEGMENTS.sub("/", _PARAMETERS.sub("", unquote(path, "latin-1"))).lower()


class Router:
    """From a request to its compiled route. `GET|HEAD /<service>/health` is routed to the service's own health path."""

    def __init__(
        self, config: Config, balancers: Mapping[str, LoadBalancer], health_path: Callable[[str], str]
    ) -> None:
        """`balancers` are those of the services that are on; `health_path` gives a service's present health path."""
        self._table = RouteTable(config)
        self._routes = [
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
        return f"<Router: {len(self)} routes>"

    def __len__(self) -> int:
        return len(self._routes)

    def takes_asterisk(self, inbound: InboundRequest) -> bool:
        """Whether a route takes every path, and so `OPTIONS *`."""
        return self._table.match(inbound.host_name, "*") is not None

    def find(self, inbound: InboundRequest) -> tuple[CompiledRoute, str]:
        """The route of a request, and the target that the upstream is to see.

        Raises `Problem`: 404 where no route takes it, 400 for a path that could be read as another one.
        """
        path, query = inbound.target.path, inbound.target.query
        if path.endswith("/health") and inbound.method in ("GET", "HEAD") and (name := self._health_names.get(path)):
            return self._health[name], self._health_path(name) + query
        match = self._table.match(inbound.host_name if self._table.knows_hosts else "", path)
        if match is None:
            raise Problem(Failure.NOT_FOUND)
        return self._routes[match.position], match.upstream_path(path) + query
