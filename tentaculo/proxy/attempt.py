"""One proxied request under way: what goes to the upstream, what comes back, and whether it may be tried again."""

from __future__ import annotations

import asyncio

from tentaculo.model.failure import Failure
from tentaculo.net.http1 import Head
from tentaculo.net.inbound_request import Body
from tentaculo.net.response_headers import ResponseHeaders, split_list
from tentaculo.proxy import relay
from tentaculo.proxy.proxied_request import ProxiedRequest
from tentaculo.proxy.tunnel import Tunnel
from tentaculo.upstream.connection import UpstreamConnection
from tentaculo.upstream.errors import UpstreamError
from tentaculo.upstream.load_balancer import Lease
from tentaculo.upstream.pool import Pool


class UpstreamAttempt:
    """A visit on its way to its upstream and back. `run` once per address that is tried."""

    __slots__ = (
        "_answer",
        "_call",
        "_connection",
        "_lease",
        "_shared",
        "_tunnel",
        "_visit",
        "_writer",
        "error",
    )

    _lease: Lease
    _connection: UpstreamConnection

    def __init__(self, visit: ProxiedRequest, body: Body | None) -> None:
        """`visit` has been admitted; `body` is what is left to send, None where there is none."""
        self._visit = visit
        self._shared = visit.shared
        self._writer = visit.response_writer()
        self._answer = relay.RelayProgress()
        self._call = self._make_call(body)
        self._tunnel: Tunnel | None = None
        self.error: UpstreamError | None = None

    def __repr__(self) -> str:
        return f"<Exchange {self._visit.request_id}: {self._answer.status or 'under way'}>"

    @property
    def status(self) -> int:
        """The upstream's status, 0 while there is none."""
        return self._answer.status

    @property
    def is_started(self) -> bool:
        """Whether the client has been sent some of the final answer."""
        return self._answer.is_started

    @property
    def keeps_client(self) -> bool:
        """Whether the client's connection can take another request."""
        return self._writer.keep_alive and self.error is None and self._tunnel is None

    @property
    def sent(self) -> int:
        """Bytes of the answer's body sent to the client."""
        return self._tunnel.sent if self._tunnel is not None else self._answer.sent

    @property
    def received(self) -> int:
        """Bytes of the request's body sent to the upstream."""
        return self._tunnel.received if self._tunnel is not None else self._call.sent

    def may_repeat(self, error: UpstreamError) -> bool:
        """Whether another address may be tried: nothing was sent, or nothing was answered and twice does no harm."""
        if not error.untouched:
            return False
        # Any other failure of this kind came before there was a connection.
        return error.failure is not Failure.CONNECTION_LOST or self._call.is_replayable

    def abort_client(self) -> None:
        """The answer was cut: the client must not take it for whole."""
        self._visit.abort()

    async def run(self, lease: Lease, begun: UpstreamConnection | None = None) -> None:
        """Forward to the endpoint of `lease`, which counts the request, unless it is a tunnel, and is not released.

        `begun` is a connection of it on which the request has been sent already. A stale keep-alive
        connection is replaced by a new one where that is safe. Raises `UpstreamError`, or `ConnectionError` when the
        client has gone.
        """
        self.error = None
        call, pool = self._call, lease.endpoint.pool
        self._writer.upstream = pool.upstream
        self._lease = lease
        if begun is not None and call.body is not None:
            call.sent = len(call.body.read_nowait())
        connection = begun or pool.take_idle(repeatable=call.is_repeatable)
        if connection is not None:
            try:
                await self._run_on(connection, pool, is_sent=connection is begun)
                return
            except UpstreamError as error:
                is_stale = error.untouched and error.failure is Failure.CONNECTION_LOST
                if not is_stale or not call.is_replayable:
                    raise
        await self._run_on(await pool.connect(call.plan.connect), pool)

    async def _run_on(self, connection: UpstreamConnection, pool: Pool, *, is_sent: bool = False) -> None:
        upload: asyncio.Task[None] | None = None
        shared, call = self._shared, self._call
        self._connection = connection
        shared.under_way.add(connection)
        try:
            if not is_sent:
                upload = relay.send_request(connection, call, shared.tasks)
            await relay.relay_response(connection, call, self._visit, self._answer, self._final_head)
            if self._answer.status == 101:
                await self._run_tunnel(connection)
        finally:
            shared.under_way.discard(connection)
            shared.streams.discard(connection)
            if upload is not None:
                upload.cancel()
            if self._tunnel is None:
                # Not whole means not reusable: this also ends the upstream call of a client that has left.
                pool.give_back(connection)

    async def _run_tunnel(self, connection: UpstreamConnection) -> None:
        head, fields = connection.answer.head, connection.answer.fields
        assert head is not None
        assert fields is not None
        inbound, client = self._visit.inbound, self._visit.request.protocol
        plan = self._visit.admitted.plan
        chosen = set(split_list(fields.upgrade or b""))
        offered = inbound.offered_upgrades(plan.upgrades, plan.upgrade_methods)
        if not chosen or not chosen <= {protocol.lower() for protocol in offered}:
            self._answer.status = 0
            raise UpstreamError(Failure.BAD_RESPONSE, "it switched protocols without being asked")
        upstream, early = connection.upgrade(self._visit.admitted.plan.limits.stall)
        if client.transport is None:
            raise ConnectionResetError("the client has gone")
        if upstream is None:
            raise UpstreamError(Failure.BODY_CUT, "it switched protocols and left")
        tunnel = self._tunnel = Tunnel(self._shared.needs.turns, client.transport, upstream)
        self._visit.write(self._writer.upgraded(head, fields))
        self._answer.is_started = True
        client.set_parser(tunnel)
        tunnel.open(early)
        self._shared.tunnels.add(tunnel)
        self._lease.stop_counting()
        try:
            await tunnel.wait()
        finally:
            self._shared.tunnels.discard(tunnel)

    def _make_call(self, body: Body | None) -> relay.UpstreamRequest:
        visit, inbound = self._visit, self._visit.inbound
        return relay.UpstreamRequest(
            inbound.method,
            visit.admitted.head(visit.id_line),
            body,
            visit.admitted.plan,
            is_chunked=inbound.is_chunked,
            wants_interim=inbound.minor == 1,
            expects_continue=inbound.fields.expect is not None,
            interim_head=self._writer.interim,
        )

    def _final_head(self, head: Head, fields: ResponseHeaders, is_unfinished: bool) -> tuple[bytes, bool]:
        if fields.is_event_stream:
            self._shared.streams.add(self._connection)
        return self._writer.final(head, fields, is_unfinished or self._shared.is_draining)
