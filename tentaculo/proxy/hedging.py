"""Hedging: a request that waits longer than 95 % of its route's do is sent to a second endpoint as well.

    1 sent ──▶ first endpoint        2 no response after the route's p95: sent ──▶ second endpoint
    3 the first head of a response wins; the connection with the other endpoint is closed

The idea is that of Dean and Barroso, "The Tail at Scale" (CACM 2013). Only a request that may be sent twice and has arrived
whole is hedged, within a budget, and only while no other request has to pay for it (`LoadBalancer.acquire_hedge`). What a
hedge cannot change: the time limit of the first attempt is that of the request, and the one that loses the race has not failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

from tentaculo.model.failure import Failure, UpstreamError, outcome_of_error
from tentaculo.model.health import Outcome
from tentaculo.net.header_fields import ResponseHeaders
from tentaculo.net.http1 import Head
from tentaculo.net.inbound_request import InboundRequest, Request
from tentaculo.proxy.attempts import IDEMPOTENT
from tentaculo.proxy.handler import DrivenExchange
from tentaculo.proxy.state import ProxyState
from tentaculo.telemetry.request_log import RequestRecord
from tentaculo.upstream.connection import UpstreamConnection
from tentaculo.upstream.load_balancer import Lease

MAX_BODY = 64 * 1024
"""Bytes of a body that is sent twice."""
SHORTEST_DELAY = 0.002
"""Seconds until a hedge at least: nobody notices what comes sooner."""
_SILENT = 10.0
"""Seconds for which the place of a request that lost the race is held at most, while its endpoint says nothing."""
_LOST = frozenset((Failure.CONNECTION_LOST, Failure.BAD_RESPONSE, Failure.RESPONSE_HEAD_TOO_LARGE))
"""How the first attempt may fail so that the request waits for the second one."""


class SecondAttempt:
    """The place at the second endpoint, and what has come of it."""

    __slots__ = ("connection", "is_kept", "lease", "sent_at", "task")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.connection: UpstreamConnection | None = None
        """The connection that the request was sent on; None until then."""
        self.is_kept = False
        """Whether it had carried another exchange before."""
        self.sent_at = 0.0
        self.task: asyncio.Task[None] | None = None
        """Opens the connection, where none was idle."""

    def __repr__(self) -> str:
        return f"<SecondAttempt at {self.lease.endpoint.pool.upstream}>"


class HedgedExchange(DrivenExchange):
    """One request of a route with `hedge`."""

    __slots__ = ("_second", "_sent_at", "_succeeded", "_timer")

    def __init__(
        self,
        shared: ProxyState,
        request: Request,
        inbound: InboundRequest,
        record: RequestRecord,
        done: Callable[[bool], None] | None = None,
    ) -> None:
        super().__init__(shared, request, inbound, record, done)
        self._timer: asyncio.TimerHandle | None = None
        self._second: SecondAttempt | None = None
        self._sent_at = 0.0
        """Time of `perf_counter` at which the first attempt was sent."""
        self._succeeded = 0
        """Requests to which its endpoint had responded until then."""

    # -- before the hedge --------------------------------------------------------------------------------------

    def _send(self, connection: UpstreamConnection) -> None:
        super()._send(connection)
        self._stop_timer()
        plan = self.admitted.plan
        if plan.key is None or not self._may_hedge(connection):
            return
        delay = self.shared.traffic.times(plan.key).first_byte_p95(self.record.started)
        if delay is not None and self._lease is not None:
            self._sent_at, self._succeeded = perf_counter(), self._lease.endpoint.breaker.succeeded
            self._timer = asyncio.get_running_loop().call_later(max(delay, SHORTEST_DELAY), self._hedge)

    def _may_hedge(self, connection: UpstreamConnection) -> bool:
        """Whether the request has arrived whole, and two endpoints may see it."""
        inbound = self.inbound
        fields = inbound.fields
        return (
            inbound.method in IDEMPOTENT
            and self._upload is None
            and not inbound.is_chunked
            and len(self._body) <= MAX_BODY
            and not self._tried
            and not inbound.wants_upgrade
            and fields.expect is None
            and not fields.binds_connection
            and not connection.is_bound
            # A stream begins at once, and each endpoint would count a listener.
            and (fields.accept is None or b"text/event-stream" not in fields.accept)
        )

    def _hedge(self) -> None:
        """Send the request to a second endpoint if nothing has come from the first one."""
        self._timer = None
        first, lease, client = self._connection, self._lease, self.request.protocol
        if self.is_over or first is None or lease is None or first.error is not None or not first.response.is_untouched:
            return
        # A client that has closed one half may have gone.
        if client.transport is None or client.has_ended or self.shared.is_draining:
            return
        is_silent = lease.endpoint.breaker.succeeded == self._succeeded
        place = lease.balancer.acquire_hedge(lease.endpoint, is_silent=is_silent)
        if place is None:
            return
        self.record.hedge = "none"
        second = self._second = SecondAttempt(place)
        connection = place.endpoint.pool.take_idle(repeatable=True)
        if connection is not None:
            second.is_kept = True
            self._send_second(second, connection)
        else:
            second.task = self.shared.tasks.start(self._connect_second(second), "hedge")

    async def _connect_second(self, second: SecondAttempt) -> None:
        failed: UpstreamError | None = None
        try:
            connection = await second.lease.endpoint.pool.connect(self.admitted.plan.connect)
        except UpstreamError as error:
            failed = error.copy()
        second.task = None
        if failed is not None:
            self._drop_second(outcome_of_error(failed.failure), failed.reason)
        else:
            self._send_second(second, connection)

    def _send_second(self, second: SecondAttempt, connection: UpstreamConnection) -> None:
        admitted, plan, id_line = self.admitted, self.admitted.plan, self.id_line
        if plan.alters_request:
            id_line = plan.request_rules.filter(id_line)
        data = b"".join((admitted.head, id_line, b"\r\n", self._body))
        try:
            # The time limit of the first attempt comes before this one.
            connection.begin(admitted.method, self._on_second_progress, data, plan.first_byte)
        except UpstreamError:
            connection.abort()
            self._drop_second(Outcome.NEUTRAL)
            return
        self.shared.under_way[connection] = plan.service.name
        second.connection, second.sent_at = connection, perf_counter()

    # -- the race ----------------------------------------------------------------------------------------------

    def _on_progress(self) -> None:
        """Progress of the attempt whose response is relayed: of the first one until the second wins."""
        second, connection = self._second, self._connection
        if second is not None and connection is not None:
            error = connection.error
            if error is not None and error.failure in _LOST and second.connection is not None:
                # A stale connection says nothing about the endpoint.
                outcome = Outcome.NEUTRAL if self.is_kept else outcome_of_error(error.failure)
                self._take_second(second).release(outcome, error.reason)
                return
            if error is not None or connection.response.head is not None:
                self._drop_second(Outcome.NEUTRAL)
        super()._on_progress()

    def _on_second_progress(self) -> None:
        """More has come from the second endpoint, or the attempt there has failed."""
        second = self._second
        assert second is not None
        connection = second.connection
        assert connection is not None
        error = connection.error
        if error is not None:
            is_stale = second.is_kept and error.untouched
            self._drop_second(Outcome.NEUTRAL if is_stale else outcome_of_error(error.failure), error.reason)
        elif connection.response.head is not None:
            now = perf_counter()
            second.lease.endpoint.note_latency(now - second.sent_at)
            first = self._take_second(second)
            first.balancer.hedges_won += 1
            first.endpoint.note_silence(now - self._sent_at)
            _release_later(first, now - self._sent_at)
            super()._on_progress()

    def _take_second(self, second: SecondAttempt) -> Lease:
        """Continue with the second attempt, and close the connection of the first one. Returns the lease of that."""
        connection, lease = self._connection, self._lease
        assert connection is not None
        assert lease is not None
        assert second.connection is not None
        self._second = None
        self._give_back(connection, lease)
        self._lease, self._connection, self.is_kept = second.lease, second.connection, second.is_kept
        self._tried += (lease.endpoint,)
        second.connection.on_progress = self._on_progress
        return lease

    def _final_head(self, connection: UpstreamConnection, head: Head, fields: ResponseHeaders) -> tuple[bytes, bool]:
        block, is_chunked = super()._final_head(connection, head, fields)
        if self.record.hedge is not None:
            self.record.hedge = "second" if self._tried else "first"
            line = b'Proxy-Status: %b; details="hedged, %b"\r\n' % (self.shared.name, self.record.hedge.encode())
            block = block[:-2] + self.admitted.plan.response_rules.filter(line) + b"\r\n"
        return block, is_chunked

    # -- the end -----------------------------------------------------------------------------------------------

    def _release(self, outcome: Outcome, reason: str) -> None:
        self._stop_timer()
        self._drop_second(Outcome.NEUTRAL)
        super()._release(outcome, reason)

    def _drop_second(self, outcome: Outcome, reason: str = "") -> None:
        """Give back what the second attempt holds, if there is one."""
        second, self._second = self._second, None
        if second is None:
            return
        if second.task is not None:
            second.task.cancel()
        connection = second.connection
        if connection is not None:
            self.shared.under_way.pop(connection, None)
            connection.on_progress = None
            connection.abort()
        second.lease.release(outcome, reason)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


def _release_later(lease: Lease, waited: float) -> None:
    """End a request that lost the race after it had waited so many seconds, once its endpoint has responded to another.

    Most services do not notice that its connection was closed, and continue to work. Without its place, an endpoint that
    hangs would look idle and get each next request.
    """
    loop, endpoint = asyncio.get_running_loop(), lease.endpoint
    until, succeeded = loop.time() + _SILENT, endpoint.breaker.succeeded

    def look(pause: float) -> None:
        left = until - loop.time()
        if left <= 0 or endpoint.breaker.succeeded != succeeded:
            lease.release(Outcome.NEUTRAL)
        else:
            loop.call_later(min(pause, left), look, 2 * pause)

    look(max(waited, SHORTEST_DELAY))
