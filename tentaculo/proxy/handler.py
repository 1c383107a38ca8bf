"""The proxied path, from a request that the server has judged to the end of its record.

1. Judge the request, find its route, check its token (`server/dispatcher.py`, for native requests too).
2. Refuse what must not be forwarded.
3. Render the upstream's request head.
4. Choose an endpoint whose circuit breaker lets the request through, and take a connection.
5. Send the request.
6. Relay the response, or open a tunnel; repeat only what is safe to repeat.
7. Report the outcome to the breaker, and finish the record.

`proxied_request.py` has 2, 3 and 6, `exchange.py` 4 to 7; `DrivenExchange` here waits for what they need.

`Proxy.serve` drives in the callbacks of the two sockets, and in a task only while something else than bytes from
the upstream has to be waited for. `DrivenExchange.run` drives in a task of aiohttp's server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from aiohttp import web

from tentaculo.config.schema import Config
from tentaculo.model.failure import Failure, UpstreamError
from tentaculo.model.health import ConcurrencyView, Endpoint
from tentaculo.net.inbound_request import Request
from tentaculo.net.response_bytes import SentResponse
from tentaculo.proxy.attempts import attempt_failed
from tentaculo.proxy.exchange import Exchange
from tentaculo.proxy.generation import ProxyGeneration
from tentaculo.proxy.proxied_request import JudgedRequest, PreparedRequest, Wait
from tentaculo.proxy.route import CompiledRoute
from tentaculo.proxy.state import PendingWait, ProxyDependencies, ProxyState
from tentaculo.upstream.circuit_breaker import CircuitBreaker, CircuitBreakers
from tentaculo.upstream.outlier_detection import OutlierDetectors

if TYPE_CHECKING:
    from tentaculo.proxy.target_group import TargetGroup

# Read on every proxied request: a global is a good deal cheaper than an attribute of an enum class.
_UPSTREAM = Wait.UPSTREAM

T = TypeVar("T")


class DrivenExchange(Exchange):
    """One request. Call `begin` or `run` once; `client_closed` when the client closes its connection after `begin`."""

    __slots__ = ()

    async def run(self, judged: JudgedRequest) -> SentResponse:
        """Take the steps in the caller's task, which is cancelled if the client closes its connection."""
        self._is_driven = True
        wait = self.begin(judged)
        if wait is not None:
            await self._drive(wait)
        return self._response

    def client_closed(self) -> None:
        """End the exchange: the client has closed its connection."""
        self._lose_client()
        # A cancelled task holds this exchange by the frames of its error.
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def lose_token(self) -> None:
        """End a tunnel or an event stream: the token that opened it is no longer accepted for it."""
        failure, detail = Failure.FORBIDDEN, f"the token {self.admitted.caller.name} is no longer accepted for it"
        if self._tunnel is not None:
            self.record.error, self.record.detail = failure.error, detail
            self._tunnel.close()
        elif self._connection is not None:
            self._connection.fail(UpstreamError(failure, detail))

    def start_task(self, wait: Wait) -> None:
        """Wait for `wait` in a task, which takes the next steps."""
        self._is_driven = True
        self._task = self.shared.tasks.start(self._drive(wait), "exchange")

    async def _drive(self, wait: Wait | None) -> None:
        """Wait and take the next steps, until the exchange is over or callbacks can continue it."""
        try:
            while wait is not None:
                error: UpstreamError | None = None
                try:
                    await self._wait(wait)
                except UpstreamError as failed:
                    error = failed.copy()
                except Exception as other:  # noqa: BLE001 - logged there
                    self._end_with(other)
                    return
                wait = self.advance(error)
                if wait is _UPSTREAM and self._done is not None:
                    self._is_driven = False
                    return
        except asyncio.CancelledError:
            self._lose_client()
            raise
        finally:
            self._task = None

    async def _wait(self, wait: Wait) -> None:
        """Wait for one thing. Raises `UpstreamError` for the upstream, `ConnectionError` for the client."""
        if wait is _UPSTREAM:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        elif wait is Wait.CLIENT:
            await self.request.protocol.wait_writable()
            if self._connection is not None:
                self._connection.resume()
        elif wait is Wait.CONNECTION:
            assert self._lease is not None
            began = perf_counter()
            try:
                plan = self.admitted.plan
                connection = await self._until_ended(self._lease.endpoint.pool.connect(plan.connect), plan)
            finally:
                self.record.connect_seconds += perf_counter() - began
            self._send(connection)
        elif wait is Wait.ROOM:
            plan = self.admitted.plan
            assert plan.balancer is not None
            began = perf_counter()
            # One that was woken too late for the room waits again, but no longer for that.
            waited = self.record.queue_seconds
            room = plan.balancer.wait_for_room(plan.connect - waited, is_first=not waited)
            try:
                self._has_turn = await self._until_ended(room, plan)
            finally:
                self.record.queue_seconds += perf_counter() - began
        else:
            assert self._tunnel is not None
            await self._tunnel.wait()

    async def _until_ended(self, work: Awaitable[T], plan: CompiledRoute) -> T:
        """The result of `work`, before which the request has no connection. Raises `Problem` where it is ended meanwhile."""
        wait, pending = PendingWait(plan.service.name), self.shared.pending
        pending.add(wait)
        try:
            async with wait.limit:
                return await work
        except TimeoutError:
            if wait.error is None:
                raise
            raise attempt_failed(wait.service, wait.error) from None
        finally:
            pending.discard(wait)

    def _on_progress(self) -> None:
        """More of the response has arrived, or the exchange has failed."""
        if self._is_driven:
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)
            return
        wait = self.advance()
        if wait is not None and wait is not _UPSTREAM:
            self.start_task(wait)


class WholeRequest(Request, Protocol):
    """A request whose body has arrived whole if it has one. The same object may come again for the same bytes."""

    remembered: Any
    """For the proxy to keep what it decided about it."""


class Proxy:
    """Forwards whatever a route takes."""

    def __init__(self, config: Config, breakers: CircuitBreakers, needs: ProxyDependencies) -> None:
        """`breakers` has the circuit breaker of each configured endpoint."""
        self._shared = ProxyState(needs)
        self.traffic = self._shared.traffic
        self._rotated: type[DrivenExchange] = DrivenExchange
        self._hedged: type[DrivenExchange] = DrivenExchange
        self._generation = self._build(config, breakers.breakers, None)
        self._load_kinds(self._generation)
        self._generation.replace(None)
        self.outliers = OutlierDetectors()
        """Probes inform the choice among the endpoints of a service here."""
        self.outliers.use(self._generation.outliers)

    def _build(
        self, config: Config, breakers: Mapping[Endpoint, CircuitBreaker], before: ProxyGeneration | None
    ) -> ProxyGeneration:
        needs = self._shared.needs
        return ProxyGeneration(
            config, breakers, turns=needs.turns, learning=needs.learning, make_room=self._make_room, before=before
        )

    def prepare(self, config: Config, breakers: Mapping[Endpoint, CircuitBreaker]) -> ProxyGeneration:
        """What a configuration needs, beside what is served, with the `breakers` of its endpoints. Changes nothing.

        May run in a thread.
        """
        prepared = self._build(config, breakers, self._generation)
        self._load_kinds(prepared)
        return prepared

    def use(self, prepared: ProxyGeneration) -> None:
        """Put what was prepared in place. Requests in flight continue."""
        before, self._generation = self._generation, prepared
        prepared.replace(before)
        self.outliers.use(prepared.outliers)

    def end_services(self, names: Collection[str]) -> None:
        """End the requests in flight, event streams and tunnels of services that were removed.

        A client that has had no response yet gets a 503 (`service_off`).
        """
        self._shared.end_services(frozenset(names))

    def _load_kinds(self, generation: ProxyGeneration) -> None:
        # Only a gateway with such routes pays for them.
        if generation.groups and self._rotated is DrivenExchange:
            from tentaculo.proxy.rotated_exchange import RotatedExchange

            self._rotated = RotatedExchange
        if self._hedged is DrivenExchange and any(route.hedges for route in generation.routes):
            from tentaculo.proxy.hedging import HedgedExchange

            self._hedged = HedgedExchange

    @property
    def routes(self) -> Sequence[CompiledRoute]:
        """An entry of the route table for each route, in the configuration's order."""
        return self._generation.routes

    @property
    def health_routes(self) -> Mapping[str, CompiledRoute]:
        """The entry for `/<service>/health`, by the service's name."""
        return self._generation.health_routes

    @property
    def groups(self) -> Sequence[TargetGroup]:
        """The groups of targets, in the order of their routes."""
        return self._generation.groups

    def _make_room(self) -> bool:
        return self._generation.shrink()

    def hedges(self) -> list[tuple[str, int, int]]:
        """Of each service with hedged routes: its name, the requests that were hedged, those that the second won."""
        return [(name, one.hedges, one.hedges_won) for name, one in self._generation.hedged()]

    def __repr__(self) -> str:
        return f"<Proxy: {len(self.routes)} routes, {self.traffic.in_flight} in flight>"

    def concurrency(self, service: str) -> ConcurrencyView | None:
        """How the requests of `service` in flight are limited; None where they are not."""
        balancer = self._generation.balancers.get(service)
        limit = balancer.concurrency if balancer is not None else None
        return limit.view(perf_counter()) if limit is not None else None

    def stop_accepting(self) -> None:
        """From now on each response closes its connection."""
        self._shared.is_draining = True

    def end_streams(self) -> None:
        """End tunnels and event streams."""
        self._shared.end_streams()

    def end_exchanges(self) -> None:
        """End every exchange. A client that has had no response yet gets a 503 (`stopping`)."""
        self._shared.stop()

    async def close(self) -> None:
        """End what is left, and close idle connections."""
        self.stop_accepting()
        self.end_streams()
        self.end_exchanges()
        await self._shared.tasks.close()
        for state in self._generation.states.values():
            state.pool.close()

    async def handle(self, request: web.BaseRequest, judged: JudgedRequest) -> web.StreamResponse:
        """Forward in the task of aiohttp's server. The response has been sent when this returns."""
        kind = self._kind_of(judged.route)
        return await kind(self._shared, cast(Request, request), judged.inbound, judged.record).run(judged)

    def _kind_of(self, route: CompiledRoute) -> type[DrivenExchange]:
        if route.group is not None:
            return self._rotated
        return self._hedged if route.hedges else DrivenExchange

    def serve(
        self, request: WholeRequest, done: Callable[[bool], None], judged: JudgedRequest | None
    ) -> DrivenExchange:
        """Forward without a task, as far as that goes, a request whose body has arrived whole if it has one.

        `judged` is None for a request that repeats the last one of its connection. `done` is called when the response
        has been sent, perhaps before this returns, with whether the client's connection stays open. When the client
        closes it before, call `client_closed` of what is returned here.
        """
        shared = self._shared
        if judged is not None:
            kind = self._kind_of(judged.route)
            exchange = kind(shared, request, judged.inbound, judged.record, done)
        else:
            known: PreparedRequest = request.remembered
            inbound, plan = known.inbound, known.plan
            record = shared.requests.begin(
                inbound.method,
                inbound.path,
                inbound.client.address,
                inbound.forwarded_by_trusted,
                plan.service_name,
                plan.key,
                known.caller.name,
            )
            kind = self._hedged if plan.hedges else DrivenExchange
            exchange = kind(shared, request, inbound, record, done)
            exchange.admitted, exchange.is_admitted = known, True
        wait = exchange.begin(judged)
        if wait is not None and wait is not _UPSTREAM:
            exchange.start_task(wait)
        if judged is not None and exchange.is_admitted and exchange.admitted.plan.is_static:
            request.remembered = exchange.admitted
        return exchange
