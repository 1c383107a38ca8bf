"""The proxied path, from a request that the server has judged to the end of its record.

1. Judge the request, find its route, check its token (`server/dispatcher.py`, for native requests too).
2. Refuse what must not be forwarded.
3. Render the upstream's request head.
4. Choose an endpoint whose circuit breaker lets the request through.
5. Forward, or tunnel; repeat only what is safe to repeat.
6. Report the outcome to the breaker, and finish the record.

`proxied_request.py` has 2 and 3. `fast_path.py` has 4 to 6 without a task, for requests that need not wait;
`retries.py` has them in a task, for all others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from aiohttp import web

from tentaculo.config.schema import Config
from tentaculo.model.endpoint import Endpoint
from tentaculo.net.inbound_request import InboundRequest, Request
from tentaculo.net.response_bytes import SentResponse
from tentaculo.proxy.fast_path import FastPath, WholeRequest
from tentaculo.proxy.proxied_request import JudgedRequest, ProxiedRequest, finish_with
from tentaculo.proxy.retries import forward_with_retries, request_body
from tentaculo.proxy.state import ProxyDependencies, ProxyState
from tentaculo.upstream.circuit_breaker import CircuitBreakers
from tentaculo.upstream.load_balancer import EndpointState, LoadBalancer
from tentaculo.upstream.pool import Pool


class Proxy:
    """Forwards whatever a route takes."""

    def __init__(self, config: Config, breakers: CircuitBreakers, needs: ProxyDependencies) -> None:
        """`breakers` has the circuit breaker of each configured endpoint."""
        self._balancers = {
            service.name: LoadBalancer(
                [
                    EndpointState(
                        Pool(upstream, config.limits, turns=needs.turns), breakers.of(upstream), config.limits.in_flight
                    )
                    for upstream in service.upstreams
                ],
                config.limits.queue,
            )
            for service in config.services.values()
            if service.enabled
        }
        self._endpoints = {
            state.pool.upstream: state for balancer in self._balancers.values() for state in balancer.endpoints
        }
        self._shared = ProxyState(config, needs, self._balancers)
        self.traffic = self._shared.traffic
        self.find = self._shared.plans.find
        """`Router.find`, without a call in between: it is part of every request."""

    def __repr__(self) -> str:
        return f"<Proxy: {len(self._shared.plans)} routes, {self.traffic.in_flight} in flight>"

    def note_probe(self, upstream: Endpoint, *, is_well: bool) -> None:
        """What a probe found: it informs the choice among several addresses of a service, and no more."""
        if (state := self._endpoints.get(upstream)) is not None:
            state.outliers.note_probe(is_well=is_well)

    def stop_accepting(self) -> None:
        """From now on each response closes its connection. Tunnels and event streams are closed."""
        self._shared.drain()

    def end_exchanges(self) -> None:
        """End every exchange. A client that has had no response yet gets a 503 (`stopping`)."""
        self._shared.stop()

    async def close(self) -> None:
        """End what is left, and close idle connections."""
        self.stop_accepting()
        self.end_exchanges()
        await self._shared.tasks.close()
        for state in self._endpoints.values():
            state.pool.close()

    def takes_asterisk(self, inbound: InboundRequest) -> bool:
        """Whether a route takes `OPTIONS *`."""
        return self._shared.plans.takes_asterisk(inbound)

    async def handle(self, request: web.BaseRequest, judged: JudgedRequest) -> web.StreamResponse:
        """Forward in the task of aiohttp's server. The response has been sent when this returns."""
        visit = ProxiedRequest(self._shared, cast(Request, request), judged.inbound, judged.record)
        self.traffic.begin()
        try:
            return await finish_with(visit, _serve(visit, judged))
        finally:
            visit.finish()

    def serve(self, request: WholeRequest, done: Callable[[bool], None], judged: JudgedRequest | None) -> FastPath:
        """Forward without a task, as far as that goes, a request whose body has arrived whole if it has one.

        `judged` is None for a request that repeats the last one of its connection. `done` is called when the response
        has been sent, perhaps before this returns, with whether the client's connection stays open. When the client
        closes it before, call `client_closed` of what is returned here.
        """
        express = FastPath(self._shared, request, done, judged)
        express.start(request, judged)
        return express


async def _serve(visit: ProxiedRequest, judged: JudgedRequest) -> SentResponse:
    sent = visit.prepare(judged)
    return await forward_with_retries(visit, request_body(visit)) if sent is None else sent
