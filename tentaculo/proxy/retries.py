"""Steps 4 to 6 of `handler.py`: address after address, until one has answered or none may be asked."""

from __future__ import annotations

import math

from tentaculo.model.endpoint import Outcome
from tentaculo.model.failure import Blame, Failure, Problem
from tentaculo.net.inbound_request import Body
from tentaculo.net.response_bytes import SENT_STAYS, SentResponse
from tentaculo.proxy import relay
from tentaculo.proxy.attempt import UpstreamAttempt
from tentaculo.proxy.proxied_request import ProxiedRequest
from tentaculo.proxy.route import CompiledRoute
from tentaculo.upstream.connection import UpstreamConnection
from tentaculo.upstream.errors import UpstreamError, outcome_of
from tentaculo.upstream.load_balancer import EndpointState, Lease, LoadBalancer


def request_body(visit: ProxiedRequest) -> Body | None:
    """The body of an admitted request: what has arrived whole can be sent again, what still comes cannot."""
    inbound, content = visit.inbound, visit.request.content
    if not inbound.is_chunked and not inbound.length:
        return None
    return relay.Whole(content.read_nowait()) if content.is_eof() else content


async def forward_with_retries(
    visit: ProxiedRequest,
    body: Body | None,
    lease: Lease | None = None,
    begun: UpstreamConnection | None = None,
) -> SentResponse:
    """Forward an admitted request. Raises `Problem` while the client has not been answered.

    `lease` is that of an endpoint that was chosen before, and `begun` a connection to it on which the request was sent.
    """
    exchange, record = UpstreamAttempt(visit, body), visit.record
    try:
        await _forward(exchange, visit, lease, begun)
    finally:
        record.status, record.sent, record.received = exchange.status, exchange.sent, exchange.received
        if exchange.error is not None:
            record.error, record.detail = exchange.error.failure.error, exchange.error.detail
    return SENT_STAYS if exchange.keeps_client else visit.close()


async def _forward(
    exchange: UpstreamAttempt,
    visit: ProxiedRequest,
    lease: Lease | None,
    begun: UpstreamConnection | None,
) -> None:
    plan, balancer = visit.admitted.plan, visit.admitted.plan.balancer
    assert balancer is not None
    tried: list[EndpointState] = []
    failed: UpstreamError | None = None
    while True:
        if lease is None:
            lease = await _acquire(plan, balancer, tried)  # 4
            if lease is None:
                raise _no_endpoint(visit, plan, balancer) if failed is None else _failed(plan, failed)
        tried.append(lease.endpoint)
        outcome, reason = Outcome.NEUTRAL, ""
        try:
            await exchange.run(lease, begun)  # 5
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
            lease.release(outcome, reason)  # 6
        lease, begun = None, None


async def _acquire(plan: CompiledRoute, balancer: LoadBalancer, tried: list[EndpointState]) -> Lease | None:
    """A lease, waited for if only room is missing; None if more than that is. Raises `Problem`."""
    lease = None if balancer.has_queue else balancer.acquire(tried)
    while lease is None and (balancer.has_queue or balancer.is_full(tried)):
        if not await balancer.wait_for_room(plan.connect):
            raise Problem(Failure.OVERLOADED, None, {"service": plan.service.name}, {"Retry-After": "1"})
        lease = balancer.acquire(tried)
        if lease is None and not balancer.is_full(tried):
            balancer.wake_next()
            break
    return lease


def _no_endpoint(visit: ProxiedRequest, plan: CompiledRoute, balancer: LoadBalancer) -> Problem:
    seconds = max(1, math.ceil(balancer.retry_after()))
    known = visit.shared.needs.why_open(plan.service.name)
    extra = {"service": plan.service.name, "retry_after": seconds, **known}
    return Problem(Failure.CIRCUIT_OPEN, None, extra, {"Retry-After": str(seconds)})


def _failed(plan: CompiledRoute, error: UpstreamError) -> Problem:
    detail = f"{plan.service.name}: {error.detail}"
    headers = {"Retry-After": "1"} if error.failure is Failure.STOPPING else {}
    return Problem(error.failure, detail, {"service": plan.service.name}, headers)
