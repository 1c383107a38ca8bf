"""Steps 4 to 6 of `handler.py`: address after address, until one has answered or none may be asked."""

from __future__ import annotations

import math

from tentaculo.model.endpoint import Outcome
from tentaculo.model.failure import Blame, Failure, Problem
from tentaculo.net.downstream import Body
from tentaculo.net.sent_response import SENT_STAYS, SentResponse
from tentaculo.proxy import relay
from tentaculo.proxy.attempt import UpstreamAttempt
from tentaculo.proxy.proxied_request import ProxiedRequest
from tentaculo.proxy.route import CompiledRoute
from tentaculo.upstream.connection import UpstreamConnection
from tentaculo.upstream.errors import UpstreamError, outcome_of
from tentaculo.upstream.load_balancer import EndpointState, LoadBalancer


def request_body(visit: ProxiedRequest) -> Body | None:
    """The body of an admitted request: what has arrived whole can be sent again, what still comes cannot."""
    inbound, content = visit.inbound, visit.request.content
    if not inbound.is_chunked and not inbound.length:
        return None
    return relay.Whole(content.read_nowait()) if content.is_eof() else content


async def forward_with_retries(
    visit: ProxiedRequest,
    body: Body | None,
    member: EndpointState | None = None,
    ticket: int = 0,
    begun: UpstreamConnection | None = None,
) -> SentResponse:
    """Forward an admitted request. Raises `Problem` while the client has not been answered.

    `member` is an address that was chosen before, on which the request is counted, with its breaker's `ticket`, and
    `begun` a connection to it on which the request is already.
    """
    exchange, record = UpstreamAttempt(visit, body), visit.record
    try:
        await _forward(exchange, visit, member, ticket, begun)
    finally:
        record.status, record.sent, record.received = exchange.status, exchange.sent, exchange.received
        if exchange.error is not None:
            record.error, record.detail = exchange.error.failure.error, exchange.error.detail
    return SENT_STAYS if exchange.keeps_client else visit.close()


async def _forward(
    exchange: UpstreamAttempt,
    visit: ProxiedRequest,
    member: EndpointState | None,
    ticket: int,
    begun: UpstreamConnection | None,
) -> None:
    plan, balancer = visit.admitted.plan, visit.admitted.plan.balancer
    assert balancer is not None
    tried: list[EndpointState] = []
    failed: UpstreamError | None = None
    while True:
        if member is None:
            member = await _choose(plan, balancer, tried)  # 4
            if member is None:
                raise _no_member(visit, plan, balancer) if failed is None else _failed(plan, failed)
            ticket = member.ticket
            balancer.enter(member)
        tried.append(member)
        outcome, reason = Outcome.NEUTRAL, ""
        try:
            await exchange.run(balancer, member, begun)  # 5
            outcome, reason = outcome_of(exchange.status)
            return
        except UpstreamError as error:
            failed = exchange.error = error.copy()
            if error.failure.blame is Blame.UPSTREAM:
                outcome, reason = Outcome.FAILURE, error.detail
            if exchange.is_started:
                exchange.abort_client()
                return
            if not exchange.may_repeat(error):
                raise _failed(plan, error) from None
        finally:
            member.breaker.record(ticket, outcome, reason)  # 6
        member, begun = None, None


async def _choose(plan: CompiledRoute, balancer: LoadBalancer, tried: list[EndpointState]) -> EndpointState | None:
    """An address, waited for where only room is missing; None where more than that is. Raises `Problem`."""
    member = None if balancer.has_queue else balancer.choose(tried)
    while member is None and (balancer.has_queue or balancer.is_full(tried)):
        if not await balancer.room(plan.connect):
            raise Problem(Failure.OVERLOADED, None, {"service": plan.service.name}, {"Retry-After": "1"})
        member = balancer.choose(tried)
        if member is None and not balancer.is_full(tried):
            balancer.wake()
            break
    return member


def _no_member(visit: ProxiedRequest, plan: CompiledRoute, balancer: LoadBalancer) -> Problem:
    seconds = max(1, math.ceil(balancer.retry_after()))
    known = visit.shared.needs.why_open(plan.service.name)
    extra = {"service": plan.service.name, "retry_after": seconds, **known}
    return Problem(Failure.CIRCUIT_OPEN, None, extra, {"Retry-After": str(seconds)})


def _failed(plan: CompiledRoute, error: UpstreamError) -> Problem:
    detail = f"{plan.service.name}: {error.detail}"
    headers = {"Retry-After": "1"} if error.failure is Failure.STOPPING else {}
    return Problem(error.failure, detail, {"service": plan.service.name}, headers)
