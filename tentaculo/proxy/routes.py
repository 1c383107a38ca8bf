"""From host and raw path to a route: the longest prefix by whole path segments. Pure."""

from __future__ import annotations

from typing import NamedTuple

from tentaculo.config.schema import Config, Route, Service

_Table = dict[str, tuple[str, Route, int]]


class Match(NamedTuple):
    """A route that takes a path, and the path the upstream is to see."""

    service: str
    route: Route
    path: str
    position: int
    """The route's position among all of the configuration's, in order."""


class RouteTable:
    """All routes of a configuration.

    A look-up costs one dictionary access per path segment, however many routes there are. A route with a host is
    preferred to one without, whatever their lengths; `/switch` never takes `/switchboard`.
    """

    def __init__(self, config: Config) -> None:
        self._hosts: dict[str, _Table] = {}
        self._any: _Table = {}
        self.routes: list[tuple[Service, Route]] = []
        """All routes in the configuration's order."""
        for service in config.services.values():
            for route in service.routes:
                self._add(service, route)

    def __repr__(self) -> str:
        return f"<RouteTable: {len(self.routes)} routes, {len(self._hosts)} hosts>"

    def _add(self, service: Service, route: Route) -> None:
        table = self._any if route.host is None else self._hosts.setdefault(route.host.lower(), {})
        table[route.prefix] = (service.name, route, len(self.routes))
        self.routes.append((service, route))

    def match(self, host: str, path: str) -> Match | None:
        """The route for a raw `path` (escapes untouched) at `host` (without port), or None."""
        found = None
        if self._hosts and (table := self._hosts.get(host.lower())) is not None:
            found = _longest(table, path)
        if found is None:
            found = _longest(self._any, path)
            if found is None:
                return None
        service, route, index = found
        return Match(service, route, upstream_path(route, path), index)


def upstream_path(route: Route, path: str) -> str:
    """The path that the upstream is to see for a `path` that `route` takes."""
    if path == "*":
        return path
    return (route.replacement + path[len(route.prefix.rstrip("/")) :]) or "/"


def public_path(route: Route, path: str) -> str:
    """The way back: the path a client must use for an upstream's own `path`, unchanged where no client could."""
    inside, outside = route.replacement, route.prefix.rstrip("/")
    if path == inside or path.startswith(inside + "/"):
        return outside + path[len(inside) :]
    return path


def _longest(table: _Table, path: str) -> tuple[str, Route, int] | None:
    prefix = path
    while prefix:
        found = table.get(prefix)
        if found is not None:
            return found
        prefix = prefix[: prefix.rfind("/")] if "/" in prefix else ""
    return table.get("/")
