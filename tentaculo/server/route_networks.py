"""From which networks clients may use each route: its `allow` and `deny`.

Routes that lead to the same endpoint are looked at together. Where one of them is for some networks only, no wider route
leads around it, however loosely the endpoint may read a path: what counts beside the route itself is the most specific one
to the path that the endpoint sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from tentaculo.config.routes import RouteSettings
from tentaculo.config.schema import Config
from tentaculo.config.services import ServiceSettings, grouped_by_endpoint
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.history import RouteKey
from tentaculo.net.inbound_request import InboundRequest
from tentaculo.security.client_networks import Address, NetworkRules, parse_client_address
from tentaculo.server.loose_paths import loosest, read_loosely
from tentaculo.server.route_table import Match, PathTable

_Seen = PathTable[tuple[NetworkRules, ...]]
"""For each path that an endpoint sees, the rules of the routes that lead to it: one of them must let a client through."""


class _Guard:
    """The rules of one route, and those of all routes to its endpoints."""

    __slots__ = ("all", "any", "seen", "targets")

    def __init__(
        self,
        any_of: Sequence[NetworkRules],
        seen: _Seen | None,
        all_of: Sequence[NetworkRules],
        targets: Sequence[tuple[Match, _Guard]] = (),
    ) -> None:
        self.any = tuple(any_of)
        """A client must be let through by one of them."""
        self.seen = seen
        self.all = tuple(all_of)
        """Those of the other routes."""
        self.targets = tuple(targets)
        """How each target of its group sees the route, and the rules there. Which one a request goes to is chosen later."""

    def permits(self, address: Address | None, inbound: InboundRequest, target: str) -> bool:
        return self._permits(address, inbound, target) and all(
            guard._permits(address, inbound, match.upstream_path(inbound.target.path)) for match, guard in self.targets
        )

    def _permits(self, address: Address | None, inbound: InboundRequest, target: str) -> bool:
        if self.any and not any(rules.permits(address) for rules in self.any):
            return False
        if self.seen is None or all(rules.permits(address) for rules in self.all):
            return True
        if inbound.fields.has_addresses:
            # Destination and If of WebDAV name paths of their own, which may be those of another route.
            return False
        path = loosest(target.partition("?")[0])
        if "/../" in f"{path}/":
            return False
        found = self.seen.find(path)
        return found is None or any(rules.permits(address) for rules in found)


class RouteNetworks:
    """The networks of all routes of one configuration. False where none has any rule."""

    def __init__(self, config: Config, on_refused: Callable[[RouteKey], None] = lambda _: None) -> None:
        """`on_refused` is called with the route of each refused request; both names are empty for the own paths."""
        self._on_refused = on_refused
        self._own = NetworkRules(config.server.allow or (), config.server.deny)
        rules = {
            (service.name, route.label): NetworkRules(route.allow or (), route.deny)
            for service in config.services.values()
            for route in service.routes
        }
        self._guards: Mapping[RouteKey, _Guard] = {}
        if any(rules.values()):
            self._guards = dict(_guards(config, rules))

    def __repr__(self) -> str:
        return f"<RouteNetworks: {len(self._guards)} routes, own paths {self._own!r}>"

    def __bool__(self) -> bool:
        return bool(self._own) or bool(self._guards)

    def check(self, key: RouteKey | None, inbound: InboundRequest, address: str, target: str) -> None:
        """Raise `Problem` (403) where the client's `address` may not use a route.

        `key` is None for the gateway's own paths, and `target` is what the endpoint is to see.
        """
        client = parse_client_address(address)
        if key is None:
            is_permitted = self._own.permits(client)
        else:
            guard = self._guards.get(key)
            is_permitted = guard is None or guard.permits(client, inbound, target)
        if not is_permitted:
            self._on_refused(key or RouteKey("", ""))
            raise Problem(Failure.NETWORK_DENIED)


def _guards(config: Config, rules: Mapping[tuple[str, str], NetworkRules]) -> Iterator[tuple[RouteKey, _Guard]]:
    groups = grouped_by_endpoint([*config.services.values()])
    # Services with the same endpoints have the same group, which may be large.
    routes_of = {
        id(group): [(one, route, rules[one.name, route.label]) for one in group for route in one.routes]
        for group in {id(group): group for group in groups.values()}.values()
    }
    reached = {name: routes_of[id(group)] for name, group in groups.items()}
    others = {name: [found for _, _, found in routes if found] for name, routes in reached.items()}
    for service in config.services.values():
        name = service.name
        for route in service.routes:
            own = rules[name, route.label]
            seen = _seen(service, route, reached[name]) if others[name] else None
            targets = [
                (
                    Match.of(target, there),
                    _Guard([], _seen(other, there, [*reached[target], (other, there, own)]), others[target]),
                )
                for target, there in route.at_targets(name)
                if others[target] and (other := config.services[target])
            ]
            if own or seen is not None or targets:
                yield RouteKey(name, route.label), _Guard([own] if own else [], seen, others[name], targets)
        own_rules = [rules[name, route.label] for route in service.routes]
        if others[name]:
            # Who may use no route of the service is not told its health either.
            health = RouteSettings(prefix=f"/{name}/health")
            seen = _seen(service, health, reached[name])
            yield RouteKey(name, health.label), _Guard(own_rules if all(own_rules) else [], seen, others[name])


def _seen(
    service: ServiceSettings,
    route: RouteSettings,
    reached: Iterable[tuple[ServiceSettings, RouteSettings, NetworkRules]],
) -> _Seen:
    """The rules of each path at the endpoints of `service`, in requests of its `route`.

    Routes of which another host is seen there do not count: the service may then separate the two.
    """
    found: dict[tuple[str, bool], list[NetworkRules]] = {}
    for one, other, rules in reached:
        if service.sees_as(route, one, other):
            path = loosest(other.replacement or "/")
            found.setdefault((path, other.exact), []).append(rules)
    seen = _Seen()
    for (path, is_exact), some in found.items():
        seen.add(path, tuple(some), is_exact=is_exact, fold=read_loosely)
    return seen
