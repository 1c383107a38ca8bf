"""One proxied request under way: what goes to the upstream, what comes back, and whether it may be tried again."""

from __future__ import annotations

import asyncio
from typing import cast

from aiohttp import web

from tentaculo.errors import Failure
from tentaculo.proxy import forward
from tentaculo.proxy.balance import Balancer, Member
from tentaculo.proxy.client import ClientConnection, RequestClient
from tentaculo.proxy.connection import UpstreamConnection
from tentaculo.proxy.failure import ExchangeError
from tentaculo.proxy.headers import ResponseFields, count_down, request_head, split_list
from tentaculo.proxy.inbound import Inbound
from tentaculo.proxy.plan import Plan
from tentaculo.proxy.provenance import provenance_lines, trusted_provenance_lines
from tentaculo.proxy.remembered import Forwarded
from tentaculo.proxy.response import ResponseWriter
from tentaculo.proxy.tunnel import Tunnel
from tentaculo.proxy.upstream import Pool
from tentaculo.proxy.wire import Head
from tentaculo.tasks import TaskGroup


class Gateway:
    """What all exchanges share: the gateway's name, its upload tasks, and what has no end of its own."""

    __slots__ = ("is_draining", "name", "streams", "tasks", "tunnels", "under_way")

    def __init__(self, name: bytes, tasks: TaskGroup) -> None:
        self.name = name
        self.tasks = tasks
        self.is_draining = False
        self.tunnels: set[Tunnel] = set()
        self.streams: set[UpstreamConnection] = set()
        """Connections that carry an event stream."""
        self.under_way: set[UpstreamConnection] = set()
        """Connections that carry any exchange but a tunnel."""

    def stop(self) -> None:
        """End every exchange: who has had no answer yet is told that the gateway stops."""
        for connection in list(self.under_way):
            connection.fail(ExchangeError(Failure.STOPPING, "the gateway is stopping"))

    def drain(self) -> None:
        """End tunnels and event streams; every other answer closes its connection from now on."""
        self.is_draining = True
        for tunnel in list(self.tunnels):
            tunnel.close()
        for connection in list(self.streams):
            connection.fail(ExchangeError(Failure.STOPPING, "the gateway is stopping"))


class Exchange:
    """A request on its way. `run` once per address that is tried."""

    _balancer: Balancer
    _member: Member
    _connection: UpstreamConnection

    def __init__(
        self,
        gateway: Gateway,
        request: web.BaseRequest,
        inbound: Inbound,
        client: RequestClient,
        plan: Plan,
        path: str,
        cors: bytes,
    ) -> None:
        self._gateway = gateway
        self._request = request
        self._inbound = inbound
        self._client = client
        self._plan = plan
        self._path = path
        self._id_line = b"X-Request-ID: %b\r\n" % inbound.request_id.encode()
        self._writer = ResponseWriter(
            plan,
            inbound.method,
            inbound.minor,
            keep_alive=inbound.keep_alive,
            added=self._id_line + cors,
            via=gateway.name,
            replace_cors=bool(cors),
            scheme=inbound.scheme,
            host=inbound.host,
        )
        self._answer = forward.Answer()
        self._call: forward.Call | None = None
        self._tunnel: Tunnel | None = None
        self._hides_authorization = False
        self._token_line = plan.token_line
        self.error: ExchangeError | None = None

    def __repr__(self) -> str:
        return f"<Exchange {self._inbound.request_id}: {self._answer.status or 'under way'}>"

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
        if self._tunnel is not None:
            return self._tunnel.received
        return self._call.sent if self._call is not None else 0

    def hide_authorization(self) -> None:
        """`Authorization` was meant for the gateway, and ends here."""
        self._hides_authorization = True

    def withhold_token(self) -> None:
        """The caller has not been asked who it is: the service is not told that it may trust the request."""
        self._token_line = b""

    def may_repeat(self, error: ExchangeError) -> bool:
        """Whether another address may be tried: nothing was sent, or nothing was answered and twice does no harm."""
        call = self._call
        if not error.untouched:
            return False
        if error.failure is not Failure.CONNECTION_LOST:
            return True  # it never connected
        return call is not None and self._is_replayable(call)

    def _is_replayable(self, call: forward.Call) -> bool:
        return call.method in forward.REPEATABLE and (call.body is None or isinstance(call.body, forward.Whole))

    def abort_client(self) -> None:
        """The answer was cut: the client must not take it for whole."""
        # HTTP/1.0 knows no chunks.
        self._client.abort(is_delimited=self._inbound.minor == 1)

    async def run(self, balancer: Balancer, member: Member) -> None:
        """Forward to one address, counted on it but for tunnels. A stale keep-alive connection is replaced by a new one where that is safe.

        Raises `ExchangeError`, or `ConnectionError` when the client has gone.
        """
        self.error = None
        call = self._call
        if call is None:
            call = self._call = self._make_call()
        pool = member.pool
        self._writer.upstream = pool.upstream
        self._balancer, self._member = balancer, member
        balancer.enter(member)
        try:
            connection = pool.take_idle(repeatable=call.method in forward.REPEATABLE)
            if connection is not None:
                try:
                    await self._run_on(connection, call, pool)
                    return
                except ExchangeError as error:
                    is_stale = error.untouched and error.failure is Failure.CONNECTION_LOST
                    if not is_stale or not self._is_replayable(call):
                        raise
            await self._run_on(await pool.connect(call.connect), call, pool)
        finally:
            balancer.leave(member)

    async def _run_on(self, connection: UpstreamConnection, call: forward.Call, pool: Pool) -> None:
        upload: asyncio.Task[None] | None = None
        self._connection = connection
        self._gateway.under_way.add(connection)
        try:
            upload = forward.send_request(connection, call, self._gateway.tasks)
            await forward.relay_response(connection, call, self._client, self._answer)
            if self._answer.status == 101:
                await self._run_tunnel(connection)
        finally:
            self._gateway.under_way.discard(connection)
            self._gateway.streams.discard(connection)
            if upload is not None:
                upload.cancel()
            if self._tunnel is None:
                # Not whole means not reusable: this also ends the upstream call of a client that has left.
                pool.give_back(connection)

    async def _run_tunnel(self, connection: UpstreamConnection) -> None:
        head, fields = connection.answer.head, connection.answer.fields
        assert head is not None
        assert fields is not None
        chosen, offered = split_list(fields.upgrade or b""), split_list(self._inbound.fields.upgrade or b"")
        if not self._inbound.wants_upgrade or not chosen or not set(chosen) <= set(offered):
            self._answer.status = 0
            raise ExchangeError(Failure.BAD_RESPONSE, "it switched protocols without being asked")
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        tunnel = self._tunnel = Tunnel(transport, connection)
        self._client.write(self._writer.upgraded(head, fields))
        self._answer.is_started = True
        early = connection.upgrade(tunnel, self._plan.limits.stall)
        if early:
            tunnel.data_from_upstream(early)
        cast(ClientConnection, self._request.protocol).on_writable = tunnel.client_can_write
        # aiohttp hands over what the client sent behind its request, and from now on everything.
        self._request.protocol.set_parser(tunnel)  # type: ignore[arg-type]
        self._gateway.tunnels.add(tunnel)
        self._balancer.leave(self._member)
        try:
            await tunnel.wait()
        finally:
            self._balancer.enter(self._member)
            self._gateway.tunnels.discard(tunnel)

    def _make_call(self) -> forward.Call:
        inbound, plan, writer = self._inbound, self._plan, self._writer
        content = self._request.content
        has_body = inbound.is_chunked or bool(inbound.length)
        body: forward.Body | None = None
        if has_body:
            body = forward.Whole(content.read_nowait()) if content.is_eof() else content
        return forward.Call(
            inbound.method,
            self._make_head(),
            body,
            inbound.is_chunked,
            plan.connect,
            plan.first_byte,
            plan.idle,
            plan.max_body,
            forward.Pace(plan.limits.body_rate, plan.limits.body_grace, plan.idle),
            inbound.minor == 1,
            inbound.fields.expect is not None,
            writer.interim,
            self._final_head,
        )

    def _final_head(self, head: Head, fields: ResponseFields, is_unfinished: bool) -> tuple[bytes, bool]:
        if fields.is_event_stream:
            self._gateway.streams.add(self._connection)
        return self._writer.final(head, fields, is_unfinished or self._gateway.is_draining)

    def _make_head(self) -> bytes:
        inbound, plan, fields = self._inbound, self._plan, self._inbound.fields
        line = f"{inbound.method} {self._path} HTTP/1.1\r\n".encode("utf-8", "surrogateescape")
        client = (inbound.minor, inbound.peer, inbound.scheme, inbound.host, inbound.port)
        key = (plan, inbound.method, client, self._hides_authorization, self._token_line)
        known = fields.forwarded
        if known is None or known.key != key:
            head = request_head(inbound.method, self._path, fields, self._host(), self._own_lines(), plan.request_rules)
            known = fields.forwarded = Forwarded(key, head[len(line) : -2])
        return b"%b%b%b\r\n" % (line, known.block, plan.request_rules.filter(self._id_line))

    def _host(self) -> bytes:
        plan = self._plan
        return plan.host if plan.host is not None else self._inbound.host or plan.default_host

    def _own_lines(self) -> bytes:
        """What the gateway adds to a request, but for its id: the same as long as the client and its fields are."""
        inbound, plan, fields = self._inbound, self._plan, self._inbound.fields
        fields.drop_named()
        arguments = (inbound.peer, inbound.scheme, inbound.host, inbound.port, plan.public_prefix)
        known = inbound.known
        added = [provenance_lines(*arguments) if known is None else trusted_provenance_lines(known, *arguments)]
        added.append(b"Via: 1.%d %b\r\n" % (inbound.minor, self._gateway.name))
        if inbound.is_chunked:
            added.append(b"Transfer-Encoding: chunked\r\n")
        elif inbound.length is not None:
            added.append(b"Content-Length: %d\r\n" % inbound.length)
        if fields.expect is not None and inbound.minor == 1:
            added.append(b"Expect: %b\r\n" % fields.expect)
        if fields.max_forwards is not None:
            fields.lines = count_down(fields.lines, inbound.method)
        if inbound.wants_upgrade:
            added.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % (fields.upgrade or b""))
        if fields.te_trailers:
            added.append(b"Connection: TE\r\nTE: trailers\r\n")
        if inbound.method == "TRACE":
            # Its answer repeats the request: nothing secret may be in it (RFC 9110 section 9.3.8).
            fields.lines = [line for line in fields.lines if line[0] != b"cookie"]
        else:
            if fields.authorization is not None and not self._hides_authorization:
                added.append(b"Authorization: %b\r\n" % fields.authorization)
            added.append(self._token_line)
        return b"".join(added)
