"""What the proxy makes of one configuration: endpoints, load balancers, compiled routes and groups of targets.

A reload builds the next generation beside the one that is served, from the parts of it that stay equal: connections,
requests in flight, learned limits and latencies are kept by identity. Building changes nothing of what is served;
`replace` puts the rest in place, in one turn of the event loop. Requests in flight keep the routes and endpoints that
they began with.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import structlog

from tentaculo.config.schema import Config
from tentaculo.config.services import ServiceSettings
from tentaculo.model.health import Endpoint
from tentaculo.model.history import RouteKey
from tentaculo.net.turns import TurnScheduler
from tentaculo.proxy.route import CompiledRoute
from tentaculo.proxy.state import Learning
from tentaculo.upstream.circuit_breaker import CircuitBreaker
from tentaculo.upstream.concurrency_limit import ConcurrencyLimit, LearnedLimit
from tentaculo.upstream.load_balancer import EndpointState, LoadBalancer
from tentaculo.upstream.outlier_detection import OutlierDetector
from tentaculo.upstream.pool import Pool

if TYPE_CHECKING:
    from tentaculo.proxy.target_group import TargetGroup

log = structlog.get_logger(__name__)


class ProxyGeneration:
    """The routes of one configuration, and what they lead to."""

    def __init__(
        self,
        config: Config,
        breakers: Mapping[Endpoint, CircuitBreaker],
        *,
        turns: TurnScheduler,
        learning: Learning,
        make_room: Callable[[], bool],
        before: ProxyGeneration | None = None,
    ) -> None:
        """`breakers` has the circuit breaker of each configured endpoint; `before` is the generation that is served.

        `make_room` closes idle connections of the gateway when descriptors run out, and returns whether there were any.
        """
        self._config = config
        self._turns = turns
        self._make_room = make_room
        self._before = before
        self.tls: ssl.SSLContext | None = before.tls if before is not None else None
        services = config.services
        self.states: dict[Endpoint, EndpointState] = {}
        """Each endpoint of the services that are on."""
        self.balancers: dict[str, LoadBalancer] = {}
        self._made: list[tuple[LoadBalancer, LoadBalancer | None, ServiceSettings]] = []
        """Each new load balancer, the one whose work it continues, and its service."""
        for service in services.values():
            if service.enabled:
                self.balancers[service.name] = self._balancer(service, breakers)
        self.outliers: Mapping[Endpoint, OutlierDetector] = {
            upstream: state.outliers for upstream, state in self.states.items()
        }
        """The outlier detector of each of them."""
        self._compiled: dict[str, tuple[list[CompiledRoute], CompiledRoute]] = {
            service.name: self._compile(service) for service in services.values()
        }
        self.routes: list[CompiledRoute] = [route for routes, _ in self._compiled.values() for route in routes]
        """An entry of the route table for each route, in the configuration's order."""
        self.health_routes: dict[str, CompiledRoute] = {name: health for name, (_, health) in self._compiled.items()}
        """The entry for `/<service>/health`, by the service's name."""
        self.groups: list[TargetGroup] = []
        """The groups of targets, in the order of their routes."""
        self.endings: list[Callable[[], None]] = [] if before is None else self._end(before)
        """What ends what it replaces, once it is served. Each takes some microseconds."""
        self._pending_groups: list[tuple[CompiledRoute, TargetGroup]] = []
        if any(route.route.rotation is not None for route in self.routes):
            self._make_groups(learning)
        self._before = None

    def __repr__(self) -> str:
        return f"<ProxyGeneration: {len(self.routes)} routes, {len(self.states)} endpoints>"

    @property
    def services(self) -> Mapping[str, ServiceSettings]:
        """The services of its configuration."""
        return self._config.services

    def _balancer(self, service: ServiceSettings, breakers: Mapping[Endpoint, CircuitBreaker]) -> LoadBalancer:
        """That of the generation before where it would be the same."""
        limits, before = self._config.limits, self._before
        shares = service.shares
        endpoints, known = service.upstreams, before.balancers.get(service.name) if before is not None else None
        old = before.services[service.name] if before is not None and known is not None else None
        states = [self._state(service, at, breakers, weight) for at, weight in zip(endpoints, shares, strict=True)]
        self.states.update(zip(endpoints, states, strict=True))
        if known is not None and old is not None and before is not None:
            is_same = (
                known.endpoints == tuple(states)
                and (old.shares, old.policy, old.concurrency) == (shares, service.policy, service.concurrency)
                and before._config.limits.queue == limits.queue
            )
            if is_same:
                return known
        # With another number the same limit continues: what is in flight counts.
        keeps_limit = old is not None and (
            old.concurrency == service.concurrency or {type(old.concurrency), type(service.concurrency)} == {int}
        )
        made = LoadBalancer(
            states,
            limits.queue,
            in_turn=service.policy == "round_robin",
            concurrency=known.concurrency if known is not None and keeps_limit else _concurrency_limit(service),
            # Endpoints that are served must not change before the swap.
            is_joined=before is None or before.states.keys().isdisjoint(endpoints),
        )
        self._made.append((made, known, service))
        return made

    def _state(
        self, service: ServiceSettings, upstream: Endpoint, breakers: Mapping[Endpoint, CircuitBreaker], weight: int
    ) -> EndpointState:
        """That of the generation before where its connections would be the same."""
        limits = self._config.limits
        known = self._before.states.get(upstream) if self._before is not None else None
        if known is not None:
            has, server_name = known.pool.limits, service.name_for_tls or upstream.host.partition("%")[0]
            is_same = (has.headers, has.pool, has.resolve) == (limits.headers, limits.pool, limits.resolve)
            if is_same and known.pool.server_name == server_name:
                return known
        if upstream.tls and self.tls is None:
            # Loading the trust store takes 30 ms and some memory: once for all endpoints.
            self.tls = ssl.create_default_context()
        pool = Pool(
            upstream,
            limits,
            tls=self.tls,
            server_name=service.name_for_tls,
            turns=self._turns,
            make_room=self._make_room,
        )
        return EndpointState(pool, breakers[upstream], limits.in_flight, weight=weight)

    def _compile(self, service: ServiceSettings) -> tuple[list[CompiledRoute], CompiledRoute]:
        """The routes of a service and that of its health path; those of the generation before where they are the same."""
        limits, before, balancer = self._config.limits, self._before, self.balancers.get(service.name)
        known = before._compiled.get(service.name) if before is not None else None
        if known is not None and before is not None:
            is_same = before.services[service.name] == service and before._config.limits == limits
            if is_same and before.balancers.get(service.name) is balancer:
                return known
        routes = [CompiledRoute(service, route, limits, balancer) for route in service.routes]
        deadlines = {route.key: route for route in known[0]} if known is not None else {}
        for route in routes:
            old = deadlines.get(route.key)
            if old is not None and old.deadline is not None and route.deadline is not None:
                is_same = (old.route.slow or old.service.slow) == (route.route.slow or service.slow)
                if is_same and old.deadline.limit is route.deadline.limit:
                    route.deadline = old.deadline  # with what it has learned
        return routes, CompiledRoute.for_health(service, limits, balancer)

    def _make_groups(self, learning: Learning) -> None:
        # Only a gateway with groups pays for them.
        from tentaculo.proxy.target_group import TargetGroup

        before = self._before
        known = _by_route(before)
        for route in self.routes:
            if route.route.rotation is None:
                continue
            old = known.get(route.key)
            if old is not None and old.route is route.identity and self._has_same_targets(old):
                self.groups.append(old)
                continue
            group = TargetGroup(route, self.services, self.balancers, learning)
            self.groups.append(group)
            self._pending_groups.append((route, group))

    def _has_same_targets(self, group: TargetGroup) -> bool:
        before = self._before
        return before is not None and all(
            self.services[name] == before.services.get(name)
            and self.balancers.get(name) is before.balancers.get(name)
            and self._config.limits == before._config.limits
            for name in {target.plan.service.name for target in group.targets}
        )

    def _end(self, before: ProxyGeneration) -> list[Callable[[], None]]:
        known = self._compiled
        ends: list[Callable[[], None]] = [
            partial(_retire, state) for at, state in before.states.items() if self.states.get(at) is not state
        ]
        # To free a thousand of them takes some milliseconds: not all in one turn of the event loop.
        ends += [partial(_drop, one) for name, one in before._compiled.items() if known.get(name) is not one]
        return ends

    def replace(self, before: ProxyGeneration | None) -> None:
        """Put this generation in place of the one it was built upon."""
        limit = self._config.limits.in_flight
        has_other_limit = before is not None and before._config.limits.in_flight != limit
        for state in self.states.values() if has_other_limit else ():
            state.limit = limit
        for balancer, old, service in self._made:
            if not balancer.is_joined:
                for state, weight in zip(balancer.endpoints, service.shares, strict=True):
                    state.weight = weight
                balancer.join()
            if balancer.concurrency is not None and isinstance(service.concurrency, int):
                balancer.concurrency.limit = service.concurrency
            if old is not None:
                balancer.continue_from(old)
                balancer.wake_if_room()
        for balancer in self.balancers.values() if has_other_limit else ():
            balancer.wake_if_room()
        learned = _by_route(before)
        for route, group in self._pending_groups:
            route.group = group
            if (earlier := learned.get(route.key)) is not None:
                group.continue_from(earlier)
        # They would keep the generation before in memory.
        self._made.clear()
        self._pending_groups.clear()

    def shrink(self) -> bool:
        """Close half of the idle connections to every endpoint. Returns whether there were any."""
        return sum([state.pool.shrink() for state in self.states.values()]) > 0

    def hedged(self) -> Iterator[tuple[str, LoadBalancer]]:
        """The services with hedged routes, each with its load balancer."""
        for name in dict.fromkeys(plan.service.name for plan in self.routes if plan.hedges):
            yield name, self.balancers[name]


def _by_route(before: ProxyGeneration | None) -> Mapping[RouteKey | None, TargetGroup]:
    return {group.key: group for group in before.groups} if before is not None else {}


def _concurrency_limit(service: ServiceSettings) -> ConcurrencyLimit | None:
    """The limit of the requests of `service` in flight; None where it is off."""
    if service.concurrency == "off":
        return None
    note = partial(_note_shed, service.name)
    return LearnedLimit(note) if service.concurrency == "auto" else ConcurrencyLimit(service.concurrency, note)


def _note_shed(service: str, limit: ConcurrencyLimit, refused: int) -> None:
    log.warning(
        "requests over the concurrency limit", service=service, limit=int(limit.limit), why=limit.why, refused=refused
    )


def _retire(state: EndpointState) -> None:
    state.pool.retire()


def _drop(_: object) -> None:
    """Nothing refers to it any more once this was called."""
