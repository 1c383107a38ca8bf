"""The one place where a request is judged, native or proxied: in this order, by this code.

1. Open its record: request id, client, start.
2. Validate the head.
3. Respond to the preflight of a listed origin, whatever its path.
4. Find its route in the one table. Refuse it where clients of its network may not use that.
5. Check the token and its scopes, if the route needs any, and the Origin where no token in a header authenticated: of a WebSocket, and
   of a page that sends a ticket, a cookie or a form. Tickets and cookies are checked in a task, which waits for the
   database.
6. Refuse it where a limit of its route is used up.
7. Call the native handler, or the proxy.

    bytes ─▶ connection ─▶ try_serve ──▶ proxy or buffered native handler, in the same call
                               └──────▶ handle, in a task ─▶ native handler or proxy

A refusal is written by `GatewayResponses`, whichever step it comes from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast

import structlog
from aiohttp import web
from yarl import URL

from tentaculo.model.failure import Failure, Problem
from tentaculo.model.native_paths import READS
from tentaculo.net.inbound_request import ClientInfo, InboundRequest, Request
from tentaculo.net.memory import MemoryBudget, exhausted
from tentaculo.net.response_bytes import SentResponse
from tentaculo.security.tickets import without_tickets
from tentaculo.security.tokens import Caller
from tentaculo.server.access_control import is_over
from tentaculo.server.buffered_handler import NativeFastPath, NativePlan, defect
from tentaculo.server.caller import SENDER, Sender, sign_in_address
from tentaculo.server.client_address import client_address
from tentaculo.server.connection import ClientConnection
from tentaculo.server.fast_path import ActiveRequest, BufferedRequest
from tentaculo.server.gateway_responses import GatewayResponses
from tentaculo.server.native_routes import LIMIT_FIELDS, REQUEST_ID, STARTED, from_http
from tentaculo.server.query_parameters import MOST_PARAMETERS
from tentaculo.server.request_limits import RouteLimits
from tentaculo.server.route_entries import Route
from tentaculo.server.rules import JudgedRequest, RequestRules
from tentaculo.telemetry.request_log import RequestLog

log = structlog.get_logger(__name__)


class ProxyHandler(Protocol):
    """What the dispatcher asks of the proxy."""

    def serve(
        self, request: BufferedRequest, done: Callable[[bool], None], judged: JudgedRequest | None
    ) -> ActiveRequest:
        """Serve without a task. `judged` is None for a request that repeats the last one of its connection."""

    async def handle(self, request: web.BaseRequest, judged: JudgedRequest) -> web.StreamResponse:
        """Serve in the task of aiohttp's server."""


ALWAYS_ANSWERED = frozenset(("/livez", "/metrics"))
"""Own paths that are served while the memory budget is exhausted."""
_CLIENT_LEFT = Failure.CLIENT_LEFT.status


class _Finished:
    """A request whose response was sent while it was judged."""

    is_over = True

    def client_closed(self) -> None:
        """Nothing is left to end."""


_FINISHED = _Finished()


class Dispatcher:
    """Judges every request and hands it to its handler."""

    def __init__(
        self,
        rules: RequestRules,
        proxy: ProxyHandler,
        *,
        responses: GatewayResponses,
        requests: RequestLog,
        memory: MemoryBudget,
    ) -> None:
        """New requests are refused while `memory` is exhausted."""
        self._rules, self._stamp = rules, rules.stamp
        self._proxy = proxy
        self._responses = responses
        self._requests = requests
        self._memory = memory
        self._is_draining = False
        self._buffered = NativeFastPath(responses, requests)

    def __repr__(self) -> str:
        return f"<Dispatcher: {self._rules.routes!r}, {self._proxy!r}>"

    def use(self, rules: RequestRules) -> None:
        """Judge every request from now on by `rules`, whatever its connection remembers."""
        self._rules, self._stamp = rules, rules.stamp

    def stop_accepting(self) -> None:
        """From now on each response closes its connection."""
        self._is_draining = self._buffered.is_draining = True

    @property
    def in_flight(self) -> int:
        """Native requests that are being served without a task."""
        return self._buffered.in_flight

    def try_serve(self, request: BufferedRequest, done: Callable[[bool], None]) -> ActiveRequest | None:
        """Serve a buffered request without a task; None for one with a ticket, and most native ones: `handle` serves them.

        `done` is called when the response has been sent, with whether the connection stays open.
        """
        memory, remembered = self._memory, request.remembered
        if remembered is not None and memory.held < memory.limit:  # `is_exhausted`, without a call
            caller: Caller = remembered.caller
            acceptance = self._rules.access.tokens.acceptance
            is_known = remembered.inbound.client.generation is self._stamp and caller.acceptance is acceptance
            # What was decided for a caller holds as long as the rules and its token do.
            if is_known and (caller.ends_at is None or not is_over(caller)):
                caller.use.requests += 1
                if type(remembered) is NativePlan:
                    return self._buffered.serve_again(remembered, request, done)
                return self._proxy.serve(request, done, None)
            request.remembered = None
        connection: ClientConnection = request.protocol
        if connection.judged is not None:
            return None
        judged = self._judge(request)
        response = judged.response
        if response is not None:
            done(response.keep_alive is True)
            return _FINISHED
        if judged.ticket is None:
            is_native = judged.route.is_native
            handler = judged.route.buffered if is_native and request.method == "POST" else None
            if not is_native or (handler is not None and self._buffered.takes(judged.inbound)):
                if judged.limits is not None and not self._enter(judged, judged.limits, request):
                    assert judged.response is not None
                    done(judged.response.keep_alive is True)
                    return _FINISHED
                is_limited = judged.record.admitted is not None
                exchange = (
                    self._proxy.serve(request, done, judged)
                    if handler is None
                    else self._buffered.serve(handler, request, done, judged)
                )
                if is_limited:
                    # Another request with the same head is one more for its limits.
                    request.remembered = None
                return exchange
        connection.judged = judged
        return None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve a request in the task of aiohttp's server."""
        connection = cast(ClientConnection, request.protocol)
        try:
            judged, connection.judged = cast("JudgedRequest | None", connection.judged), None
            if judged is None:
                if connection.is_writing_paused:
                    # A client that reads no response is served no further request: all responses would wait in memory.
                    await connection.wait_writable()
                judged = self._judge(cast(Request, request))
                if judged.response is not None:
                    return judged.response
            if judged.ticket is not None or judged.session_id is not None:
                await self._authenticate(judged, cast(Request, request))
                if judged.response is not None:
                    return judged.response
            if judged.route.is_native:
                return await self._serve_native(judged, request)
            if judged.limits is not None and not self._enter(judged, judged.limits, cast(Request, request)):
                assert judged.response is not None
                return judged.response
            return await self._proxy.handle(request, judged)
        finally:
            connection.answered()

    def _judge(self, request: Request) -> JudgedRequest:
        """Steps 1 to 5. The result has a response if one was sent here."""
        client, rules = request.protocol.client_info, self._rules
        if type(client) is not ClientInfo or client.generation is not rules.stamp:
            client = ClientInfo.of(request.protocol, rules.is_trusted, rules.stamp)
        inbound = InboundRequest(request, client)
        record = self._requests.begin(inbound.method, inbound.path, client.address, inbound.forwarded_by_trusted)  # 1
        judged = JudgedRequest(inbound, record, rules, keep_alive=inbound.keep_alive and not self._is_draining)
        try:
            judged.response = self._decide(judged, request, rules)
            if judged.response is not None:
                self._finish(judged)
        except Exception as error:  # noqa: BLE001 - logged there
            self._end(judged, request, error)
        return judged

    def _end(self, judged: JudgedRequest, request: Request, error: Exception) -> None:
        """Refuse a request that reached no handler. Any other error than `Problem` is a defect: the response is 500."""
        problem = error if isinstance(error, Problem) else Problem(Failure.INTERNAL)
        if problem is not error:
            log.error("request could not be judged", request_id=judged.record.request_id, exc_info=error)
        try:
            judged.response = self._refuse(judged, request, problem)
        finally:
            self._finish(judged)

    def _finish(self, judged: JudgedRequest) -> None:
        """Count and log a request that reached no handler."""
        is_native = judged.route is not None and judged.route.is_native
        if not is_native:
            self._requests.stats.in_flight += 1
        self._requests.finish(judged.record, is_counted=not is_native)

    def _decide(self, judged: JudgedRequest, request: Request, rules: RequestRules) -> SentResponse | None:
        inbound, access = judged.inbound, rules.access
        inbound.read(rules.max_head)  # 2
        path = inbound.target.path
        if path == "*" and not rules.routes.takes_asterisk(inbound):
            # The request is about the server, not about a path, and no service is behind all paths.
            return self._send(judged, request, 200, {})
        is_options = inbound.method == "OPTIONS"
        if is_options and (headers := access.preflight(inbound)) is not None:  # 3
            return self._send(judged, request, 204, headers)
        route: Route
        route, judged.target, judged.needs_token = rules.routes.find(inbound)  # 4
        judged.route = route
        judged.record.service, judged.record.route = route.service_name, route.key
        if self._memory.held >= self._memory.limit and not (route.is_native and path in ALWAYS_ANSWERED):
            raise exhausted()
        if rules.networks is not None:
            rules.networks.check(route.key, inbound, client_address(inbound, rules.is_trusted), judged.target)
        if rules.limits is not None and not route.is_redirect:
            judged.limits = rules.limits.of(route.key, path)
        if is_options:
            judged.is_foreign_preflight = not route.is_native and inbound.is_preflight
        if "ticket=" in inbound.target.query and not route.is_redirect:  # 5
            self._find_ticket(judged)
        if route.is_native:
            judged.native = rules.native
            if inbound.target.query.count("&") >= MOST_PARAMETERS:
                raise Problem(Failure.BAD_REQUEST, f"The query has more than {MOST_PARAMETERS} parameters.")
            access.check_form(inbound)
            if inbound.fields.session_cookies is not None and judged.ticket is None:
                judged.session_id = access.session_id(inbound)
        is_decided = judged.ticket is None and judged.session_id is None
        if is_decided:
            needs_token = judged.needs_token and not judged.is_foreign_preflight
            self._admit(judged, access.authenticate(inbound, needs_token=needs_token))
        judged.hides_authorization = inbound.fields.authorization is not None and access.hides_authorization(inbound)
        if is_decided and inbound.fields.upgrade is not None:
            self._check_origin(judged)
        if route.is_redirect:
            return self._send(judged, request, 308, {"Location": judged.target})
        return None

    def _admit(self, judged: JudgedRequest, caller: Caller) -> None:
        """Note who has sent a request. Raises `Problem` (403) where it lacks the scope of the route."""
        route, record = judged.route, judged.record
        caller.use.requests += 1
        record.caller = caller.name
        changes = judged.inbound.method not in READS
        need = route.needs[changes]
        if judged.is_foreign_preflight:
            caller = judged.access.tokens.anonymous
        elif need is not None and caller.scopes.isdisjoint(need):
            # A form of an open page that only some of those who have signed in may send.
            is_needed = judged.needs_token or (changes and route.is_native and caller.is_authenticated)
            caller = judged.access.without_scope(caller, need, needs_token=is_needed)
            record.caller = caller.name
        judged.caller, judged.is_authenticated = caller, caller.is_authenticated

    def _check_origin(self, judged: JudgedRequest) -> None:
        """Check the Origin of an upgrade. Raises `Problem` (403)."""
        if judged.route.checks_origin and not judged.is_authenticated:
            judged.access.check_origin(judged.inbound, judged.route.claimed_host)

    def _find_ticket(self, judged: JudgedRequest) -> None:
        inbound, route = judged.inbound, judged.route
        judged.ticket, gone = judged.access.find_ticket(
            inbound, is_native=route.is_native, needs_token=judged.needs_token
        )
        if gone:
            whole = inbound.target.path + inbound.target.query if route.is_native else judged.target
            judged.target = without_tickets(whole, gone)
        if judged.ticket is not None:
            # Before it is used up: a page that has no right to use it cannot spoil it either.
            judged.access.check_origin(inbound, route.claimed_host)

    async def _authenticate(self, judged: JudgedRequest, request: Request) -> None:
        """The rest of step 5, which waits for the database. The request has a response if it was refused."""
        access, inbound = judged.access, judged.inbound
        try:
            if judged.ticket is not None:
                self._admit(judged, await access.redeem_ticket(judged.ticket))
            elif judged.session_id is not None:
                session_id, needed = judged.session_id, judged.needs_token
                found = await access.find_session(inbound, session_id, needs_token=needed)
                self._admit(judged, access.tokens.anonymous if found is None else found[1])
                judged.session = found[0] if found is not None and judged.is_authenticated else None
                if inbound.fields.upgrade is not None:
                    self._check_origin(judged)
        except asyncio.CancelledError:
            judged.record.status = _CLIENT_LEFT
            self._finish(judged)
            raise
        except Exception as error:  # noqa: BLE001 - logged there
            self._end(judged, request, error)

    def _enter(self, judged: JudgedRequest, limits: RouteLimits, request: Request) -> bool:
        """Step 6. What the request holds then is given back when its record is closed. False where it was refused."""
        judged.limits = None
        inbound = judged.inbound
        try:
            caller = judged.caller.name if judged.is_authenticated else None
            address = client_address(inbound, self._rules.is_trusted)
            judged.record.admitted = limits.admit(caller, address)
        except Problem as problem:
            self._end(judged, request, problem)
            return False
        return True

    def _send(self, judged: JudgedRequest, request: Request, status: int, headers: Any) -> SentResponse:
        return self._responses.send(
            status, headers, request, judged.inbound, judged.record, keep_alive=judged.keep_alive
        )

    def _refuse(self, judged: JudgedRequest, request: Request, problem: Problem) -> SentResponse:
        if problem.failure is Failure.AUTH_REQUIRED and judged.route.is_native:
            address = sign_in_address(judged.inbound)
            if address is not None:
                return self._send(judged, request, 303, {"Location": address, "Cache-Control": "no-store"})
        # The gateway may have begun to stop since the request was judged.
        stays = judged.keep_alive and not self._is_draining
        return self._responses.refuse(problem, request, judged.inbound, judged.record, keep_alive=stays)

    async def _serve_native(self, judged: JudgedRequest, request: web.BaseRequest) -> web.StreamResponse:
        """Step 7, native, and step 6 before it."""
        record, received = judged.record, request
        record.status = _CLIENT_LEFT
        if not request.path:
            # `http://host` names the root (RFC 9110 section 4.2.3), which aiohttp's router has no route for.
            request = request.clone(rel_url="/")
        elif judged.target:
            request = request.clone(rel_url=URL(judged.target, encoded=True))
        native = cast(web.Request, request)
        native[REQUEST_ID] = record.request_id
        native[SENDER] = Sender(judged.inbound, self._rules.is_trusted, judged.caller, judged.session)
        if judged.limits is not None:
            if not self._enter(judged, judged.limits, cast(Request, request)):
                assert judged.response is not None
                return judged.response
            if record.admitted is not None:
                native[LIMIT_FIELDS] = dict(record.admitted.fields)
        try:
            response = await self._call_native(judged, native)
            if not isinstance(response, SentResponse):
                if self._is_draining:
                    response.force_close()
                if native is not received:
                    # For the request as it was received, aiohttp knows no route whose header fields it would add.
                    await response.prepare(native)
            return response
        finally:
            record.received = request.content.total_bytes
            started = native.get(STARTED)
            if started is not None and (started == 101 or cast(ClientConnection, native.protocol).is_endless):
                # The client of an upgraded connection or of an event stream is the one that ends it.
                record.status = started
            self._requests.finish(record, is_counted=False)

    async def _call_native(self, judged: JudgedRequest, request: web.Request) -> web.StreamResponse:
        record, native = judged.record, judged.native
        assert native is not None
        try:
            response = await native(request)
        except Problem as problem:
            found = problem
            if request.get(STARTED):
                raise
        except web.HTTPException as error:
            record.status = error.status
            if error.status < 400 or request.get(STARTED):
                raise
            found = from_http(error)
        except Exception as error:
            # The boundary of every native handler: any other exception is a defect. It is logged, and the response is 500.
            has_left = request.transport is None or request.transport.is_closing()
            if request.get(STARTED) or (isinstance(error, ConnectionError) and has_left):
                raise
            found = defect(error, record)
        else:
            record.status = response.status
            if isinstance(response, web.Response) and isinstance(response.body, bytes):
                record.sent = len(response.body)
            return response
        return self._refuse(judged, cast(Request, request), found)
