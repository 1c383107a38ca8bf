"""The route table: from the host and the raw path of a request to its route, native or proxied.

Which routes a host has:

- The gateway's own names (`[server] hosts`, IP addresses, `localhost`; without `hosts` also each name that no route
  claims): the native routes, then the routes of that name, then `/<service>/health`, then the routes without a host.
- A name that only routes claim: the routes of that name. Everything else is 404 there.
- Any other name, which exists only where `hosts` is set: `/<service>/health` and the routes without a host.

Within these the longest prefix wins, by whole path segments: `/switch` never takes `/switchboard`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

from tentaculo.config.routes import RouteSettings
from tentaculo.config.schema import Config
from tentaculo.config.services import ServiceSettings, grouped_by_endpoint
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.history import RouteKey
from tentaculo.net.http1 import is_address
from tentaculo.net.inbound_request import InboundRequest
from tentaculo.net.request_headers import outer_prefix
from tentaculo.server.loose_paths import loosest, read_loosely
from tentaculo.server.route_entries import Redirect, Route

T = TypeVar("T")

_SEGMENT = re.compile(r"\{(\w+)\}")


class PathTable(Generic[T]):
    """What each path leads to: whole paths, whole paths with changing segments, and prefixes."""

    __slots__ = ("_exact", "_found", "_longest", "_patterns")

    def __init__(self) -> None:
        self._exact: dict[str, T] = {}
        self._patterns: list[tuple[re.Pattern[str], T]] = []
        self._found: dict[str, T] = {}
        self._longest = 0

    def add(self, path: str, found: T, *, is_exact: bool, fold: Callable[[str], str] = str) -> None:
        """Add what a prefix, or a whole path if it `is_exact`, leads to; the first one of a path stays.

        `fold` was applied to `path` and to what it is matched with.
        """
        if not is_exact:
            prefix = path.rstrip("/") or "/"
            self._found.setdefault(prefix, found)
            self._longest = max(self._longest, len(prefix))
        elif "{" in path:
            pattern = "".join(
                "[^/]+" if number % 2 else re.escape(fold(part)) for number, part in enumerate(_SEGMENT.split(path))
            )
            self._patterns.append((re.compile(pattern), found))
        else:
            self._exact.setdefault(path, found)

    def find(self, path: str) -> T | None:
        """The route of the whole path, else of the longest prefix of whole segments."""
        if path in self._exact:
            return self._exact[path]
        for pattern, found in self._patterns:
            if pattern.fullmatch(path) is not None:
                return found
        # However long a path is, only the start of it can be a prefix.
        prefix = path[: self._longest + 1]
        if prefix != path:
            prefix = prefix[: prefix.rfind("/")]
        while prefix:
            if prefix in self._found:
                return self._found[prefix]
            cut = prefix.rfind("/")
            prefix = prefix[:cut] if cut > 0 else ""
        return self._found.get("/")


class Match(msgspec.Struct, frozen=True, eq=False):
    """A proxied route that takes a path."""

    service: str
    route: RouteSettings
    position: int
    """The route's position among all of the configuration's, in order."""
    is_guarded: bool
    """Whether a path needs the careful look: the route is open, and another one to an endpoint of it is not."""
    needs_token: bool
    inside: str
    """What stands in place of the prefix upstream."""
    cut: int
    """Characters that it replaces."""
    keeps_path: bool
    """Whether the upstream sees the path as it came."""
    unfinished: str | None
    """The path that is redirected since it lacks the `/` at which the prefix ends, which the upstream would not see."""

    @classmethod
    def of(cls, service: str, route: RouteSettings, position: int = 0, *, is_guarded: bool = False) -> Match:
        """From a route of the configuration."""
        outside, inside = route.base, route.replacement
        unfinished = outside if outside != inside and route.prefix != outside else None
        needs_token = route.auth != "none"
        keeps_path = outside == inside and not route.exact
        return cls(
            *(service, route, position, is_guarded, needs_token, inside, len(outside), keeps_path, unfinished or None)
        )

    def upstream_path(self, path: str) -> str:
        """The path that the upstream is to see for a `path` that the route takes."""
        if self.route.exact:
            return fill(self.inside, self.route.prefix, path) or "/"
        return path if path == "*" else (self.inside + path[self.cut :]) or "/"


def fill(template: str, pattern: str, path: str) -> str:
    """`template` with each `{name}` replaced by the segment of `path` at which `pattern` has it."""
    values = {
        name[1]: value
        for written, value in zip(pattern.split("/"), path.split("/"), strict=False)
        if (name := _SEGMENT.fullmatch(written)) is not None
    }
    return _SEGMENT.sub(lambda name: values.get(name[1], name[0]), template)


class _HostRoutes:
    """The proxied routes of one host, or those without a host."""

    __slots__ = ("loose", "paths")

    def __init__(self) -> None:
        self.paths = PathTable[Match]()
        self.loose = PathTable[Match]()
        """The routes to endpoints that have open and guarded ones, as a server reads paths that reads them loosely."""


class _Zone(msgspec.Struct, frozen=True, eq=False):
    """Which routes the requests for a host name may reach."""

    is_own: bool
    """Whether the native routes are there."""
    named: _HostRoutes | None
    """The routes that claim the name."""
    is_shared: bool
    """Whether `/<service>/health` and the routes without a host are there."""


class ProxiedRoutes:
    """The proxied routes of a configuration: which of them takes a path at a host. Pure.

    A look-up costs one dictionary access per path segment, however many routes there are.
    """

    def __init__(self, config: Config) -> None:
        self.routes: list[tuple[ServiceSettings, RouteSettings]] = []
        """All routes in the configuration's order."""
        self.hosts: dict[str, _HostRoutes] = {}
        self.anywhere = _HostRoutes()
        groups = grouped_by_endpoint([*config.services.values()])
        self._half_open = {
            name: frozenset(one.name for one in group)
            for name, group in groups.items()
            if len({route.auth for one in group for route in one.routes}) > 1
        }
        """By service with an endpoint that has open and guarded routes: the services that have an endpoint of it."""
        self._views: dict[tuple[str, str | None], PathTable[Match]] = {}
        """By service and host of an open route: the paths as the service sees them, and the route that leads there."""
        self._target_views: dict[int, list[tuple[Match, PathTable[Match]]]] = {}
        """The same for the targets of an open route with a group, by its position: how each target sees the route, and
        what the paths there need."""
        self._has_guarded = {name for name, group in groups.items() if any(map(_needs_token, _routes_of(group)))}
        """The services with an endpoint to which a guarded route leads."""
        matches = {
            service.name: [(service, self._add(service, route)) for route in service.routes]
            for service in config.services.values()
        }

        def reaching(name: str) -> list[tuple[ServiceSettings, Match]]:
            return [pair for one in groups[name] for pair in matches[one.name]]

        for position, (service, route) in enumerate(self.routes):
            if route.auth == "none" and (targets := self._guarded_targets(service, route)):
                others = [(config.services[seen.service], seen) for seen in targets]
                self._target_views[position] = [
                    (seen, _view(other, seen.route, [*reaching(other.name), (other, seen)])) for other, seen in others
                ]
        views: dict[tuple[frozenset[str], str | None, str | None], PathTable[Match]] = {}
        for name, names in self._half_open.items():
            service, reached = config.services[name], reaching(name)
            for route in {route.host: route for route in service.routes if route.auth == "none"}.values():
                key = names, service.host, service.seen_host(route)
                view = views[key] if key in views else views.setdefault(key, _view(service, route, reached))
                self._views[name, route.host] = view

    def __repr__(self) -> str:
        return f"<ProxiedRoutes: {len(self.routes)}, {len(self.hosts)} hosts>"

    def _add(self, service: ServiceSettings, route: RouteSettings) -> Match:
        is_half_open = service.name in self._half_open
        is_guarded = route.auth == "none" and (is_half_open or bool(self._guarded_targets(service, route)))
        found = Match.of(service.name, route, len(self.routes), is_guarded=is_guarded)
        table = self.anywhere if route.host is None else self.hosts.setdefault(route.host, _HostRoutes())
        table.paths.add(route.prefix, found, is_exact=route.exact)
        if is_half_open:
            table.loose.add(loosest(route.prefix), found, is_exact=route.exact, fold=read_loosely)
        self.routes.append((service, route))
        return found

    def _guarded_targets(self, service: ServiceSettings, route: RouteSettings) -> list[Match]:
        """The targets of a route, as each sees it, that have an endpoint to which a guarded route leads."""
        return [Match.of(name, seen) for name, seen in route.at_targets(service.name) if name in self._has_guarded]

    def match(self, host: str, path: str) -> Match | None:
        """The route for a raw `path` (escapes untouched) at `host` (without port), or None.

        Raises `Problem` (400) for a path that an open route takes as it stands, while a server that reads paths more
        loosely would see one that needs a token at the same endpoint: `/%61dmin`, `//admin`, `/admin;x`, `/ADMIN`.
        """
        named = self.hosts.get(host.lower().removesuffix("."))
        return self.match_in(named, path, is_shared=named is None)

    def match_in(self, named: _HostRoutes | None, path: str, *, is_shared: bool) -> Match | None:
        """As `match`, in the routes `named` of a host, then, where `is_shared`, in those without a host."""
        found = table = None
        if named is not None and (found := named.paths.find(path)) is not None:
            table = named
        elif is_shared and (found := self.anywhere.paths.find(path)) is not None:
            table = self.anywhere
        if found is not None and table is not None and found.is_guarded:
            loose_path = loosest(path)
            loose = table.loose.find(loose_path)
            is_guarded = (
                loose is not None and loose.needs_token and loose.service in self._half_open.get(found.service, ())
            )
            if is_guarded or "/../" in f"{loose_path}/":
                raise Problem(Failure.BAD_TARGET, "The path can be read as another one, which needs a token.")
        return found

    def takes(self, path: str, hosts: Collection[str]) -> bool:
        """Whether a route takes `path` at any of the gateway's own host names: one without a host, or of `hosts`."""
        tables = (self.anywhere, *(self.hosts[host] for host in hosts if host in self.hosts))
        return any(table.paths.find(path) is not None for table in tables)

    def needs_token(self, match: Match, upstream_path: str) -> bool:
        """Whether a request needs a token: by its route, or by the route to the same endpoint whose upstream path it is.

        What counts is the path that the endpoint sees: an open route must not lead around a guarded one.
        """
        if not match.is_guarded or (views := self._views.get((match.service, match.route.host))) is None:
            return match.needs_token
        view = views.find(loosest(upstream_path))
        return view is not None and view.needs_token

    def target_needs_token(self, match: Match, path: str) -> bool:
        """Whether a request for `path` needs a token because of what one of the targets of an open route sees.

        Which target it goes to is chosen later, by the client too.
        """
        for seen, views in self._target_views.get(match.position, ()):
            view = views.find(loosest(seen.upstream_path(path)))
            if view is not None and view.needs_token:
                return True
        return False

    def health_needs_token(self, service: str, path: str, upstream_path: str, *, otherwise: bool) -> bool:
        """Whether `/<service>/health` needs a token: as the service's route that would take `path` without it.

        `otherwise` is for a service without such a route.
        """
        match = self.anywhere.paths.find(path)
        return otherwise if match is None or match.service != service else self.needs_token(match, upstream_path)


class RouteTable:
    """All routes of the gateway."""

    def __init__(
        self,
        config: Config,
        native: Callable[[str], Route | None],
        proxied: Sequence[Route],
        health: Mapping[str, Route],
        health_path: Callable[[str], str],
    ) -> None:
        """`native` finds the native route of a path; `proxied` has an entry for each route of the configuration, in order.

        `health` has the entry of `/<service>/health` of each service by name, and `health_path` gives a service's
        present health path.
        """
        self._routes = ProxiedRoutes(config)
        self._native = native
        self._proxied = proxied
        self._health = health
        self._health_path = health_path
        self._health_names = {
            f"/{name}/health": service.name
            for service in config.services.values()
            for name in (service.name, *service.aliases)
        }
        own = frozenset(config.server.hosts)
        # A client of HTTP/1.0 may name no host.
        always = {"localhost", ""}
        self._zones = {
            name: self._make_zone(name, name in own | always) for name in self._routes.hosts.keys() | own | always
        }
        self._own = _Zone(True, None, True)
        self._other = _Zone(not own, None, True)
        self._is_by_host = bool(self._routes.hosts) or bool(own)

    def __repr__(self) -> str:
        return f"<RouteTable: {len(self._proxied)} proxied routes, {len(self._zones)} host names>"

    def find(self, inbound: InboundRequest) -> tuple[Route, str, bool]:
        """The route of a request, the target that the upstream is to see, and whether the request needs a token.

        Raises `Problem`: 404 where no route takes it, 400 for a path that could be read as another one.
        """
        path, query = inbound.target.path, inbound.target.query
        zone = self._zone(inbound.host_name) if self._is_by_host else self._own
        if zone.is_own and (route := self._native(path)) is not None:
            return route, "", route.needs_token
        routes = self._routes
        match = None
        if zone.named is not None:
            match = routes.match_in(zone.named, path, is_shared=False)
        if match is None and zone.is_shared:
            if path[-7:] == "/health" and inbound.method in ("GET", "HEAD"):
                name = self._health_names.get(path)
                if name is not None:
                    return self._find_health(name, path, query)
            match = routes.anywhere.paths.find(path)
            if match is not None and match.is_guarded:
                match = routes.match_in(None, path, is_shared=True)
        if match is None:
            raise Problem(Failure.NOT_FOUND)
        if path == match.unfinished and inbound.method != "OPTIONS" and inbound.fields.upgrade is None:
            redirect = Redirect(match.needs_token, RouteKey(match.service, match.route.label), match.route.host)
            outer = _to_ascii(outer_prefix(inbound.forwarded_by_trusted or {}))
            return redirect, f"{outer}{path}/{_to_ascii(query)}", match.needs_token
        upstream_path = path if match.keeps_path else match.upstream_path(path)
        needs_token = match.needs_token
        if match.is_guarded:
            # Destination and If of WebDAV name paths of their own, which may be those of a guarded route.
            needs_token = (
                inbound.fields.has_addresses
                or routes.needs_token(match, upstream_path)
                or routes.target_needs_token(match, path)
            )
        return self._proxied[match.position], upstream_path + query, needs_token

    def _find_health(self, name: str, path: str, query: str) -> tuple[Route, str, bool]:
        route, health_path = self._health[name], self._health_path(name)
        upstream_path = health_path.partition("?")[0]
        needs_token = self._routes.health_needs_token(name, path, upstream_path, otherwise=route.needs_token)
        more = query.replace("?", "&", 1) if "?" in health_path else query
        return route, health_path + more, needs_token

    def takes_asterisk(self, inbound: InboundRequest) -> bool:
        """Whether a route takes every path of the request's host, and so `OPTIONS *`."""
        zone = self._zone(inbound.host_name)
        return self._routes.match_in(zone.named, "*", is_shared=zone.is_shared) is not None

    def _make_zone(self, name: str, is_listed: bool) -> _Zone:
        is_own = is_listed or is_address(name)
        return _Zone(is_own, self._routes.hosts.get(name), is_shared=is_own)

    def _zone(self, host: str) -> _Zone:
        name = host.lower().removesuffix(".")
        zone = self._zones.get(name)
        if zone is not None:
            return zone
        return self._own if self._other.is_own or is_address(name) else self._other


def _routes_of(services: Iterable[ServiceSettings]) -> Iterator[RouteSettings]:
    return (route for service in services for route in service.routes)


def _needs_token(route: RouteSettings) -> bool:
    return route.auth != "none"


def _view(
    service: ServiceSettings, route: RouteSettings, reached: Sequence[tuple[ServiceSettings, Match]]
) -> PathTable[Match]:
    """What each path needs at the endpoints of `service`, in requests of its open `route`.

    `reached` are the routes to these endpoints, with their services. Where an open and a guarded one reach the same
    paths, the guarded one decides. It does not where another host is seen there: the service may then separate the two.
    """
    guarded = [match for one, match in reached if match.needs_token and service.sees_as(route, one, match.route)]
    opened = [match for _, match in reached if not match.needs_token]
    paths = PathTable[Match]()
    for match in (*guarded, *opened, *(match for _, match in reached)):  # the first one stays
        paths.add(loosest(match.route.replacement or "/"), match, is_exact=match.route.exact, fold=read_loosely)
    return paths


def _to_ascii(text: str) -> str:
    """Part of a target as a Location may have it: bytes outside ASCII percent-encoded, all others as they are."""
    return "".join(chr(b) if 32 < b < 127 else f"%{b:02X}" for b in text.encode("utf-8", "surrogateescape"))
