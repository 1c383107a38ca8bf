"""The proxied path, from a raw request to a record of how it went.

1. Read the request; refuse what must not be forwarded.
2. Find the route (and answer a listed origin's preflight).
3. Ask for the token, before a byte of the body is read.
4. Choose an address whose breaker lets the request through.
5. Forward, or tunnel; repeat only what is safe to repeat.
6. Report the outcome to the breaker, and write the record.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from aiohttp import web

from tentaculo.answers import SENT_CLOSES, SENT_STAYS, Render, answer_bytes
from tentaculo.auth import Tokens
from tentaculo.config.schema import Config
from tentaculo.cors import CorsPolicy
from tentaculo.errors import Blame, Failure, Problem
from tentaculo.model import Outcome, Upstream
from tentaculo.proxy.balance import Balancer, Breaker, Member
from tentaculo.proxy.client import RequestClient
from tentaculo.proxy.exchange import Exchange, Gateway
from tentaculo.proxy.failure import ExchangeError, judge
from tentaculo.proxy.gate import Gate
from tentaculo.proxy.inbound import Inbound
from tentaculo.proxy.plan import Plan
from tentaculo.proxy.provenance import RequestIds, trust
from tentaculo.proxy.routes import RouteTable, upstream_path
from tentaculo.proxy.traffic import LogRecord, Record, Traffic
from tentaculo.proxy.upstream import Pool
from tentaculo.tasks import TaskGroup

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Needs:
    """What the proxy asks of the rest of the gateway."""

    tokens: Tokens
    cors: CorsPolicy
    breaker: Callable[[Upstream], Breaker]
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


class Proxy:
    """Forwards whatever a route takes. `handle` is the handler of a low-level aiohttp server."""

    def __init__(self, config: Config, needs: Needs) -> None:
        self._needs = needs
        self._limits = config.limits
        self._table = RouteTable(config)
        self._balancers = {
            service.name: Balancer(
                [
                    Member(Pool(upstream, config.limits), needs.breaker(upstream), config.limits.in_flight)
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
        self._plans = [
            Plan(service, route, config.limits, self._balancers.get(service.name))
            for service, route in self._table.routes
        ]
        self._health = {
            f"/{name}/health": service.name
            for service in config.services.values()
            for name in (service.name, *service.aliases)
        }
        self._health_plans = {
            service.name: Plan.for_health(service, config.limits, self._balancers.get(service.name))
            for service in config.services.values()
        }
        self._is_trusted = trust(config.server.trusted_proxies)
        self._ids = RequestIds()
        self._tasks = TaskGroup("proxy")
        self._gateway = Gateway(needs.name.encode(), self._tasks)
        self._gate = Gate(needs.tokens, needs.cors, needs.why_off, needs.name.encode())
        self.traffic = Traffic()

    def __repr__(self) -> str:
        return f"<Proxy: {len(self._plans)} routes, {self.traffic.in_flight} in flight>"

    def note_probe(self, upstream: Upstream, *, is_well: bool) -> None:
        """What a probe found: it informs the choice among several addresses of a service, and no more."""
        if (member := self._members.get(upstream)) is not None:
            member.standing.note_probe(is_well=is_well)

    def drain(self) -> None:
        """From now on each answer closes its connection; tunnels and event streams, which have no end, end."""
        self._gateway.drain()

    def stop(self) -> None:
        """End every exchange: who has had no answer yet is told that the gateway stops (503)."""
        self._gateway.stop()

    async def close(self) -> None:
        """End what is left, and close idle connections."""
        self.drain()
        self.stop()
        await self._tasks.close()
        for balancer in self._balancers.values():
            for member in balancer.members:
                member.pool.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Steps 1 to 6 for one request. The answer has been sent when this returns."""
        started = time.perf_counter()
        inbound = Inbound(request, self._is_trusted, self._ids)
        if self._gateway.is_draining:
            inbound.keep_alive = False
        record = Record(inbound.method, inbound.path, 0, 0.0, inbound.peer, inbound.request_id)
        client = RequestClient(request)
        self.traffic.begin()
        try:
            return await self._answer(request, inbound, client, record)
        except Problem as problem:
            return self._refuse(request, inbound, client, record, problem)
        except (asyncio.CancelledError, ConnectionError):
            if record.status != 101:  # a tunnel that its client ends has ended well
                record.error, record.status = Failure.CLIENT_LEFT.error, Failure.CLIENT_LEFT.status
            raise
        except Exception:  # a fault of ours must neither reach the client nor end up as a second answer
            log.exception("proxying failed", request_id=inbound.request_id)
            if client.has_written:
                client.abort(is_delimited=inbound.minor == 1)
                record.status, record.error = Failure.INTERNAL.status, Failure.INTERNAL.error
                return SENT_CLOSES
            return self._refuse(request, inbound, client, record, Problem(Failure.INTERNAL))
        finally:
            record.seconds = time.perf_counter() - started
            self.traffic.end(record)
            if self._needs.log is not None:
                self._needs.log(record)

    def screen(self, request: web.BaseRequest) -> web.StreamResponse | None:
        """Judge a request for one of the gateway's own paths as strictly as any other: the refusal, or None."""
        inbound = Inbound(request, self._is_trusted, self._ids)
        try:
            inbound.read(self._limits.headers)
        except Problem as problem:
            record = Record(inbound.method, inbound.path, problem.status, 0.0, inbound.peer, inbound.request_id)
            answer = self._refuse(request, inbound, RequestClient(request), record, problem)
            if self._needs.log is not None:
                self._needs.log(record)
            return answer
        return None

    async def _answer(
        self, request: web.BaseRequest, inbound: Inbound, client: RequestClient, record: Record
    ) -> web.StreamResponse:
        inbound.read(self._limits.headers)  # 1
        if inbound.target.path == "*" and self._table.match(inbound.host_name, "*") is None:
            # It asks about the server, not about a path: where nobody is behind all paths, that is the gateway.
            return self._answer_here(inbound, client, record, 200, {"X-Request-ID": inbound.request_id})
        plan, path = self._find(inbound)  # 2
        record.service = plan.service.name
        if (headers := self._gate.preflight(request, inbound)) is not None:
            return self._answer_here(inbound, client, record, 204, headers)
        # A browser can put no token on a preflight: that of an origin which is not listed is the service's to judge.
        is_preflight = inbound.is_preflight
        bearer = not is_preflight and self._gate.authorise(inbound, plan)  # 3
        self._gate.check(inbound, plan)
        if inbound.is_last_hop:
            headers = {"X-Request-ID": inbound.request_id, "Content-Type": "message/http"}
            return self._answer_here(inbound, client, record, 200, headers, inbound.trace())
        exchange = Exchange(self._gateway, request, inbound, client, plan, path, self._gate.cors_lines(inbound))
        if bearer:
            exchange.hide_authorization()
        elif is_preflight:
            exchange.withhold_token()
        try:
            await self._forward(exchange, plan)
        finally:
            record.status, record.sent, record.received = exchange.status, exchange.sent, exchange.received
            if exchange.error is not None:
                record.error, record.detail = exchange.error.failure.error, exchange.error.detail
        if exchange.keeps_client:
            return SENT_STAYS
        if not request.content.is_eof():
            client.end()
        return SENT_CLOSES

    def _answer_here(
        self,
        inbound: Inbound,
        client: RequestClient,
        record: Record,
        status: int,
        headers: Mapping[str, str],
        body: bytes = b"",
    ) -> web.StreamResponse:
        record.status, record.sent, record.is_own = status, len(body), True
        client.write(answer_bytes(status, headers, body, minor=inbound.minor, keep_alive=inbound.keep_alive))
        return SENT_STAYS if inbound.keep_alive else SENT_CLOSES

    def _find(self, inbound: Inbound) -> tuple[Plan, str]:
        path = inbound.target.path
        if path.endswith("/health") and inbound.method in ("GET", "HEAD") and (name := self._health.get(path)):
            return self._health_plans[name], self._needs.health_path(name) + inbound.target.query
        match = self._table.match(inbound.host_name, path)
        if match is None:
            raise Problem(Failure.NOT_FOUND)
        return self._plans[match.position], upstream_path(match.route, path) + inbound.target.query

    async def _forward(self, exchange: Exchange, plan: Plan) -> None:
        """Steps 4 to 6. Raises `Problem` while the client has not been answered."""
        balancer = plan.balancer
        assert balancer is not None
        tried: list[Member] = []
        failed: ExchangeError | None = None
        while True:
            member = None if balancer.has_queue else balancer.choose(tried)  # 4
            if member is None:
                member = await self._wait_for_room(plan, balancer, tried)
            if member is None:
                raise self._no_member(plan, balancer) if failed is None else self._failed(plan, failed)
            ticket = member.ticket
            tried.append(member)
            outcome, reason = Outcome.NEUTRAL, ""
            try:
                await exchange.run(balancer, member)  # 5
                outcome, reason = judge(exchange.status)
                return
            except ExchangeError as error:
                failed = exchange.error = error
                if error.failure.blame is Blame.UPSTREAM:
                    outcome, reason = Outcome.FAILURE, error.detail
                if exchange.is_started:
                    exchange.abort_client()
                    return
                if not exchange.may_repeat(error):
                    raise self._failed(plan, error) from None
            finally:
                member.breaker.record(ticket, outcome, reason)  # 6

    async def _wait_for_room(self, plan: Plan, balancer: Balancer, tried: list[Member]) -> Member | None:
        """An address, waited for where only room is missing; None where more than that is. Raises `Problem`."""
        member = None
        while member is None and (balancer.has_queue or balancer.is_full(tried)):
            if not await balancer.room(plan.connect):
                raise Problem(Failure.OVERLOADED, None, {"service": plan.service.name}, {"Retry-After": "1"})
            member = balancer.choose(tried)
            if member is None and not balancer.is_full(tried):
                balancer.wake()
                break
        return member

    def _no_member(self, plan: Plan, balancer: Balancer) -> Problem:
        seconds = max(1, math.ceil(balancer.retry_after()))
        extra = {"service": plan.service.name, "retry_after": seconds, **self._needs.why_open(plan.service.name)}
        return Problem(Failure.CIRCUIT_OPEN, None, extra, {"Retry-After": str(seconds)})

    def _failed(self, plan: Plan, error: ExchangeError) -> Problem:
        detail = f"{plan.service.name}: {error.detail}"
        headers = {"Retry-After": "1"} if error.failure is Failure.STOPPING else {}
        return Problem(error.failure, detail, {"service": plan.service.name}, headers)

    def _refuse(
        self, request: web.BaseRequest, inbound: Inbound, client: RequestClient, record: Record, problem: Problem
    ) -> web.StreamResponse:
        record.status, record.error, record.detail = problem.status, problem.failure.error, problem.detail
        rendered = self._needs.render(problem, inbound.accept, request_id=inbound.request_id)
        # A body that nobody read is drained within a bound, and the connection is not used again.
        keep_alive = inbound.keep_alive and inbound.is_framed and problem.failure not in _UNCERTAIN
        keep_alive = keep_alive and request.content.is_eof()
        headers = {
            "Content-Type": rendered.content_type,
            **rendered.headers,
            **self._needs.cors.headers(inbound.origin),
            "Proxy-Status": problem.proxy_status(self._needs.name),
        }
        if "Vary" in rendered.headers and inbound.origin is not None:
            headers["Vary"] = "Accept, Origin"
        client.write(
            answer_bytes(
                rendered.status,
                headers,
                rendered.body,
                minor=inbound.minor,
                keep_alive=keep_alive,
                with_body=inbound.method != "HEAD",
            )
        )
        if keep_alive:
            return SENT_STAYS
        if not request.content.is_eof():
            client.end()
        return SENT_CLOSES


_UNCERTAIN = (Failure.BAD_REQUEST, Failure.NOT_IMPLEMENTED)
"""Failures after which another server might see the end of the request elsewhere."""
