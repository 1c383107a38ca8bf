"""The proxied path, from a raw request to a record of how it went.

1. Read the request; refuse what must not be forwarded.
2. Find the route (and answer a listed origin's preflight).
3. Ask for the token, before a byte of the body is read.
4. Choose an address whose breaker lets the request through.
5. Forward, or tunnel; repeat only what is safe to repeat.
6. Report the outcome to the breaker, and write the record.

`visit.py` has 1 to 3; `attempts.py` has 4 to 6 in a task, for everything that must be waited for; `express.py` has them
without one, for the many requests where that is not so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from aiohttp import web

from tentaculo.config.schema import Config
from tentaculo.model.endpoint import Endpoint
from tentaculo.model.failure import Problem
from tentaculo.net.sent_response import SentResponse
from tentaculo.proxy.client_info import ClientInfo
from tentaculo.proxy.downstream import Request
from tentaculo.proxy.fast_path import FastPath, WholeRequest
from tentaculo.proxy.inbound_request import InboundRequest
from tentaculo.proxy.proxied_request import ProxiedRequest, finish_with
from tentaculo.proxy.retries import forward_with_retries, request_body
from tentaculo.proxy.state import ProxyDependencies, ProxyState
from tentaculo.upstream.load_balancer import EndpointState, LoadBalancer
from tentaculo.upstream.pool import Pool


class Proxy:
    """Forwards whatever a route takes."""

    def __init__(self, config: Config, needs: ProxyDependencies) -> None:
        self._balancers = {
            service.name: LoadBalancer(
                [
                    EndpointState(Pool(upstream, config.limits), needs.breaker(upstream), config.limits.in_flight)
                    for upstream in service.upstreams
                ],
                config.limits.queue,
            )
            for service in config.services.values()
            if service.enabled
        }
        self._members = {
            member.pool.upstream: member for balancer in self._balancers.values() for member in balancer.members
        }
        self._shared = ProxyState(config, needs, self._balancers)
        self.traffic = self._shared.traffic

    def __repr__(self) -> str:
        return f"<Proxy: {len(self._shared.plans)} routes, {self.traffic.in_flight} in flight>"

    def note_probe(self, upstream: Endpoint, *, is_well: bool) -> None:
        """What a probe found: it informs the choice among several addresses of a service, and no more."""
        if (member := self._members.get(upstream)) is not None:
            member.standing.note_probe(is_well=is_well)

    def drain(self) -> None:
        """From now on each answer closes its connection; tunnels and event streams, which have no end, end."""
        self._shared.drain()

    def stop(self) -> None:
        """End every exchange: who has had no answer yet is told that the gateway stops (503)."""
        self._shared.stop()

    async def close(self) -> None:
        """End what is left, and close idle connections."""
        self.drain()
        self.stop()
        await self._shared.tasks.close()
        for balancer in self._balancers.values():
            for member in balancer.members:
                member.pool.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Steps 1 to 6 in the task of aiohttp's server. The answer has been sent when this returns."""
        visit = self._visit(request)
        self.traffic.begin()
        try:
            return await finish_with(visit, _serve(visit))
        finally:
            visit.end()

    def serve(self, request: WholeRequest, done: Callable[[bool], None]) -> FastPath:
        """Steps 1 to 6 at once, as far as that goes, for a request whose body has arrived whole if it has one.

        `done` is called when the answer has been sent, perhaps before this returns, with whether the client's
        connection stays open. When the client leaves before that, tell what is returned here.
        """
        express = FastPath(self._shared, request, done)
        express.start(request)
        return express

    def _visit(self, request: web.BaseRequest) -> ProxiedRequest:
        arrived = cast(Request, request)
        return ProxiedRequest(
            self._shared, arrived, InboundRequest(arrived, ClientInfo.of(arrived.protocol, self._shared.is_trusted))
        )

    def screen(self, request: web.BaseRequest) -> web.StreamResponse | None:
        """Judge a request for one of the gateway's own paths as strictly as any other: the refusal, or None."""
        visit = self._visit(request)
        try:
            visit.inbound.read(self._shared.max_head)
        except Problem as problem:
            answer = visit.refuse(problem)
            if self._shared.needs.log is not None:
                self._shared.needs.log(visit.record)
            return answer
        return None


async def _serve(visit: ProxiedRequest) -> SentResponse:
    sent = visit.admit()
    return await forward_with_retries(visit, request_body(visit)) if sent is None else sent
