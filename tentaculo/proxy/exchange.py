"""One proxied request and its exchange with an upstream, from the choice of an endpoint to the end of the response.

            4 endpoint, connection    5 head + body ─────────▶ upload, where the body still arrives
    client ──────────▶ gateway ──────────────────────────────────────────▶ upstream
           ◀──────────  6 1xx, head + first bytes, then the body as fast as the client reads ◀──
                                      7 connection back to its pool, outcome to the circuit breaker

`Exchange` owns all that the request holds: the lease of an endpoint, the connection, the upload, the tunnel. Its steps
are synchronous: `advance` takes each that can be taken now and returns what has to be waited for. `handler.py` waits.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import perf_counter

from tentaculo.model.failure import Failure, Problem, UpstreamError, outcome_of, outcome_of_error
from tentaculo.model.health import Endpoint, Outcome
from tentaculo.net.header_fields import split_list
from tentaculo.net.inbound_request import InboundRequest, Request
from tentaculo.net.response_bytes import SENT_CLOSES, SENT_STAYS, SentResponse
from tentaculo.proxy.attempts import IDEMPOTENT, attempt_failed, circuit_open, may_follow, over_limit, overloaded
from tentaculo.proxy.proxied_request import JudgedRequest, ResponseRelay, Wait
from tentaculo.proxy.request_head import request_trailers
from tentaculo.proxy.state import ProxyState
from tentaculo.proxy.tunnel import Tunnel
from tentaculo.proxy.upload import Upload
from tentaculo.telemetry.request_log import RequestRecord
from tentaculo.upstream.client_affinity import BoundConnections, acquire_known
from tentaculo.upstream.connection import UpstreamConnection
from tentaculo.upstream.load_balancer import EndpointState, Lease

# Read on every proxied request: a global is a good deal cheaper than an attribute of an enum class.
_UPSTREAM = Wait.UPSTREAM
_SUCCESS = Outcome.SUCCESS


class Exchange(ResponseRelay):
    """The steps of one request, and what it holds meanwhile."""

    __slots__ = (
        *("_body", "_connection", "_done", "_failed", "_has_turn", "_is_driven", "_lease", "_needs_new", "_response"),
        *("_task", "_tried", "_tunnel", "_upload", "_upload_task", "_waiter", "is_over"),
    )

    def __init__(
        self,
        shared: ProxyState,
        request: Request,
        inbound: InboundRequest,
        record: RequestRecord,
        done: Callable[[bool], None] | None = None,
    ) -> None:
        """Once the response is written, `done` gets whether the client's connection stays open; not if the client closed it."""
        ResponseRelay.__init__(self, shared, request, inbound, record)  # `super()` would cost a third more
        self._done = done
        self._body = b""
        self.is_replayable = inbound.method in IDEMPOTENT
        """Whether the request can be sent again without harm: what was read of a body that still arrives may be gone."""
        self._upload: Upload | None = None
        """The body, where it still arrives."""
        self._lease: Lease | None = None
        self._tried: tuple[EndpointState, ...] = ()
        self._has_turn: bool | None = None
        """Whether the request waited for room and found it; None where it did not wait."""
        self._connection: UpstreamConnection | None = None
        self.is_kept = False
        """Whether the connection had carried another exchange before."""
        self._needs_new = False
        """Whether a stale connection is to be replaced by a new one."""
        self._failed: UpstreamError | None = None
        self._upload_task: asyncio.Task[None] | None = None
        self._tunnel: Tunnel | None = None
        self.is_over = False
        """Whether the response has been sent, or the client has gone."""
        self._response = SENT_CLOSES
        self._is_driven = False
        """Whether a coroutine takes the steps; else callbacks do."""
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def upstream(self) -> Endpoint:
        """The endpoint that the request was sent to."""
        assert self._lease is not None
        return self._lease.endpoint.pool.upstream

    @abstractmethod
    def _on_progress(self) -> None:
        """More of the response has arrived, or the exchange has failed. The driver takes the next steps."""

    # -- the steps ---------------------------------------------------------------------------------------------

    def begin(self, judged: JudgedRequest | None) -> Wait | None:
        """Take the first steps. `judged` is None for a request that repeats the last one of its connection.

        Returns what to wait for, None when the exchange is over.
        """
        self.shared.traffic.in_flight += 1
        if self.inbound.minor == 1:
            self.request.protocol.has_response = False
        try:
            response = self.prepare(judged) if judged is not None else None
            if response is None and (self.inbound.length or self.inbound.is_chunked):
                self._take_body()
        except Exception as error:  # noqa: BLE001 - logged there
            self._end_with(error)
            return None
        return self.advance() if response is None else self._end(response)

    def _take_body(self) -> None:
        """Raises `Problem` if the body that has arrived is too large."""
        content, limit = self.request.content, self.admitted.plan.max_body
        if not content.is_eof():
            self._upload = Upload(
                *(content, self.request.protocol, self.admitted.plan, self.record),
                length=None if self.inbound.is_chunked else self.inbound.length,
                trailers=partial(request_trailers, self.request, self.inbound.fields, self.admitted.plan.request_rules),
                memory=self.shared.needs.turns.memory,
            )
            self.is_replayable = False
            return
        self._body = content.read_nowait()
        if limit and len(self._body) > limit:
            raise Problem(Failure.BODY_TOO_LARGE, f"The body is larger than {limit} bytes.")

    def advance(self, error: UpstreamError | None = None) -> Wait | None:
        """Take every step that can be taken now, after `error` if an attempt has failed.

        Returns what to wait for, None when the exchange is over.
        """
        if self.is_over:
            return None
        try:
            while True:
                if error is not None and not self._may_retry(error):
                    return self._end(SENT_CLOSES)
                try:
                    connection = self._connection
                    if connection is None:
                        return self._request()
                    wait = self.relay(connection)  # 6
                    if wait is None:
                        return self._complete(self.record.status)
                    return self._switch(connection) if wait is Wait.TUNNEL else wait
                except UpstreamError as failed:
                    error = failed.copy()
        except Exception as other:
            if self.is_over:
                raise
            self._end_with(other)
            return None

    def _request(self) -> Wait | None:
        """Steps 4 and 5; where the tunnel of a 101 has ended, the end."""
        if self._tunnel is not None:
            return self._complete(101)
        lease = self._lease or self._acquire()
        if lease is None:
            return Wait.ROOM
        if self._needs_new:
            return Wait.CONNECTION
        bound, connection = self.request.protocol.bound, None
        if bound is not None and type(bound) is BoundConnections:
            connection = bound.take(lease)
        if connection is None:
            connection = lease.endpoint.pool.take_idle(repeatable=self.is_replayable)
        if connection is None:
            return Wait.CONNECTION
        self.is_kept = True
        self._send(connection)
        return _UPSTREAM

    def _acquire(self) -> Lease | None:
        """A lease; None where only room is missing. Raises `Problem` where more is, or the wait was too long."""
        plan, had_turn = self.admitted.plan, self._has_turn
        balancer, deadline = plan.balancer, plan.deadline
        assert balancer is not None
        if had_turn is False:
            raise overloaded(plan.service.name)
        if deadline is not None:
            limit = deadline.limit
            if limit.in_flight >= limit.limit and not limit.may_enter(perf_counter()):
                if had_turn:
                    balancer.wake_next()
                raise over_limit(plan.service.name, limit)
        if had_turn or not balancer.waiting:
            lease, bound = None, self.request.protocol.bound
            if bound is not None or plan.sticky is not None:
                lines = self.inbound.fields.lines
                lease, self.keeps_session = acquire_known(bound, plan.sticky, lines, balancer, self._tried)
            lease = self._lease = lease or balancer.acquire(self._tried)
            self._has_turn = None
            if lease is not None:
                if had_turn:
                    balancer.wake_if_room()
                if deadline is not None:
                    waited = self._is_driven or self._tried
                    deadline.limit.enter(self, perf_counter() if waited else self.record.started)
                return lease
            if not balancer.is_full(self._tried):
                if had_turn:
                    balancer.wake_next()
                name = plan.service.name
                if self._failed is not None:
                    raise attempt_failed(name, self._failed)
                raise circuit_open(name, balancer.retry_after(), self.shared.needs.why_open(name))
        else:
            # Nobody says that a breaker would let a trial pass now.
            balancer.wake_if_room()
        return None

    def _send(self, connection: UpstreamConnection) -> None:
        """Step 5: the head with what is there of the body in one write; the rest is uploaded by a task."""
        inbound, admitted, id_line = self.inbound, self.admitted, self.id_line
        plan = admitted.plan
        if plan.alters_request:
            id_line = plan.request_rules.filter(id_line)
        self._connection = connection
        self.shared.under_way[connection] = plan.service.name
        if self._upload is not None:
            connection.begin(admitted.method, self._on_progress, b"%b%b\r\n" % (admitted.head, id_line))
            self._upload_task = self.shared.tasks.start(self._upload.run(connection, keeps=self.is_kept), "upload")
            return
        if body := self._body:
            self.record.received = len(body)
        if inbound.is_chunked:
            body = self.frame(body)
        data = b"".join((admitted.head, id_line, b"\r\n", body))
        connection.begin(admitted.method, self._on_progress, data, plan.first_byte)

    def _switch(self, connection: UpstreamConnection) -> Wait:
        """Open a tunnel: the upstream has answered 101."""
        plan, client, lease = self.admitted.plan, self.request.protocol, self._lease
        head, fields = connection.response.head, connection.response.fields
        assert head is not None
        assert fields is not None
        assert lease is not None
        chosen = set(split_list(fields.upgrade or b""))
        offered = self.inbound.offered_upgrades(plan.upgrades, plan.upgrade_methods)
        if not chosen or not chosen <= {protocol.lower() for protocol in offered}:
            raise UpstreamError(Failure.BAD_RESPONSE, "it switched protocols without being asked")
        lines = self.admitted.lines + (self.session_line(plan.sticky) if plan.sticky is not None else b"")
        block = self.response_writer(lines).upgraded(head, fields)
        upstream, early = connection.upgrade(plan.limits.stall)
        if client.transport is None:
            raise ConnectionResetError("the client has gone")
        if upstream is None:
            raise UpstreamError(Failure.BODY_CUT, "it switched protocols and left")
        # A WebSocket ends with its close frames: who closes a half without one has left.
        has_halves = chosen != {b"websocket"}
        tunnel = self._tunnel = Tunnel(connection.turns, client.transport, upstream, has_halves=has_halves)
        self._give_back(connection, lease)
        self.is_started, client.has_response = True, None
        self.record.status = 101
        self.write(block)
        client.set_parser(tunnel)
        tunnel.open(
            early,
            is_client_full=client.writing_paused,
            is_upstream_full=not connection.is_writable,
            has_client_ended=client.has_ended,
            has_upstream_ended=connection.has_ended,
        )
        self.shared.tunnels[tunnel] = plan.service.name
        self._end_with_token()
        lease.stop_counting()
        if plan.deadline is not None:
            plan.deadline.limit.leave(self)
        return Wait.TUNNEL

    # -- failures, and another attempt -------------------------------------------------------------------------

    def _may_retry(self, error: UpstreamError) -> bool:
        """Whether another attempt follows `error`; what the failed one held is given back. False where a response was cut.

        Raises `Problem` where none may follow and the client has no response yet.
        """
        connection, lease, is_kept = self._connection, self._lease, self.is_kept
        assert lease is not None
        self.is_kept = self._needs_new = False
        has_body = self._upload is None or self._upload.can_repeat
        may = not self.is_started and has_body and may_follow(error, self.inbound.method)
        if may and is_kept:
            # A stale connection says nothing about the endpoint: the same one gets a new connection.
            assert connection is not None
            self._give_back(connection, lease)
            self._needs_new = True
            return True
        self._failed = error
        self._release(outcome_of_error(error.failure), error.reason)
        tried = (*self._tried, lease.endpoint)
        is_allowed = not may or lease.balancer.may_retry(tried)
        if may and is_allowed:
            self._tried = tried
            return True
        if not self.is_started:
            raise attempt_failed(self.admitted.plan.service.name, error, may_retry=is_allowed)
        self.record.error, self.record.detail = error.failure.error, error.detail
        self.abort()
        return False

    # -- the end -----------------------------------------------------------------------------------------------

    def _complete(self, status: int) -> Wait | None:
        """The response has been written whole, or the tunnel has ended."""
        breaking = self.admitted.plan.breaker_statuses
        outcome, reason = outcome_of(status, breaking) if status >= 500 or breaking else (_SUCCESS, "")
        self._release(outcome, reason)
        return self._end(SENT_STAYS if self.keep_alive and self._tunnel is None else self.close())

    def _end_with(self, error: Exception) -> None:
        """End with a problem, or with what a defect of the gateway leaves to say."""
        response: SentResponse | None = None
        if not isinstance(error, ConnectionError):
            with suppress(ConnectionError):
                response = self.refuse(error) if isinstance(error, Problem) else self.fail(error)
        error.__traceback__ = None  # whose frames hold this exchange
        if response is not None:
            self._end(response)
            return
        self._lose_client()
        if self._done is not None:
            self._done(False)

    def _end(self, response: SentResponse) -> Wait | None:
        """Close the record, and say what becomes of the client's connection. Nothing is waited for any more."""
        if self._lease is not None:
            self._release(Outcome.NEUTRAL, "")
        client, self._response, self.is_over = self.request.protocol, response, True
        client.has_response, client.is_endless = None, False
        if self._upload is not None:
            self._upload.forget()
        self.shared.requests.finish(self.record)
        if self._done is not None:
            self._done(response is SENT_STAYS)
        return None

    def _lose_client(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._release(_SUCCESS if self.record.is_endless else Outcome.NEUTRAL, "")
        if not self.record.is_endless:
            self.record.status, self.record.error = Failure.CLIENT_LEFT.status, Failure.CLIENT_LEFT.error
        if self._upload is not None:
            self._upload.forget()
        self.shared.requests.finish(self.record)

    def _end_with_token(self) -> None:
        caller, need = self.admitted.caller, self.admitted.plan.needs.read
        if caller.is_authenticated:
            caller.use.streams[self.lose_token] = () if need is None else (need,)

    @abstractmethod
    def lose_token(self) -> None:
        """End a tunnel or an event stream: the token that opened it is no longer accepted for it."""

    def _release(self, outcome: Outcome, reason: str) -> None:
        """Step 7: give back all that the request holds, and report how it went."""
        lease, connection, tunnel = self._lease, self._connection, self._tunnel
        self._lease = None
        own = 0.0 if connection is None else connection.waited
        if connection is not None and lease is not None:
            self._give_back(connection, lease)
        if tunnel is not None:
            tunnel.close()
            self.shared.tunnels.pop(tunnel, None)
            self.admitted.caller.use.streams.pop(self.lose_token, None)
            self.record.sent, self.record.received = tunnel.sent, tunnel.received
        if lease is not None:
            deadline = self.admitted.plan.deadline
            # A body that still arrives does so at its client's pace, and a wait for room is due to the others.
            is_timed = self._upload is None
            if lease.endpoint.others and outcome is _SUCCESS and is_timed and tunnel is None and not self._tried:
                record = self.record
                seconds = record.head_seconds or perf_counter() - record.started
                lease.endpoint.note_latency(seconds - record.queue_seconds)
            if deadline is not None and is_timed:
                deadline.limit.note_end(self, deadline, perf_counter(), outcome, own)
            elif deadline is not None:
                deadline.limit.leave(self)
            lease.release(outcome, reason)

    def note_head(self, now: float, *, is_event_stream: bool) -> None:
        """The head has been relayed and its body is still to come: what follows is at the client's pace as well."""
        if self._upload is not None:
            self._upload.forget()
        deadline, connection = self.admitted.plan.deadline, self._connection
        if is_event_stream:
            self._end_with_token()
            if deadline is not None:
                deadline.limit.leave(self)
        elif deadline is not None and connection is not None and self._upload is None:
            deadline.limit.note_head(self, deadline, now, connection.waited)

    def _give_back(self, connection: UpstreamConnection, lease: Lease) -> None:
        """Give the connection back to its pool, which closes it if the exchange on it has not ended well."""
        shared = self.shared
        del shared.under_way[connection]
        if shared.streams and connection in shared.streams:
            shared.streams.discard(connection)
            self.admitted.caller.use.streams.pop(self.lose_token, None)
        self._connection = connection.on_progress = None
        if self._upload_task is not None:
            self._upload_task.cancel()
            self._upload_task = None
        if self._tunnel is not None:
            return
        fields = connection.response.fields
        if self.inbound.fields.binds_connection or (fields is not None and fields.binds_connection):
            connection.is_bound = True
        if connection.is_bound:
            BoundConnections.keep(self.request.protocol, lease, connection)
        else:
            lease.endpoint.pool.give_back(connection)
