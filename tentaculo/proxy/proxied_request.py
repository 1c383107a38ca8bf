"""One request at the proxy: what it asks for, what was decided about it, and the record of how it went."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import structlog

from tentaculo.model.failure import Failure, Problem
from tentaculo.model.health import Endpoint
from tentaculo.net.inbound_request import InboundRequest, Request
from tentaculo.net.response_bytes import SENT_CLOSES, SentResponse
from tentaculo.net.tcp import reset
from tentaculo.proxy.address_mapping import client_view
from tentaculo.proxy.request_head import CachedRequestHead, PreparedRequest, outbound_block, request_line
from tentaculo.proxy.response_head import ResponseHeadBuilder
from tentaculo.proxy.route import CompiledRoute
from tentaculo.proxy.state import ProxyState
from tentaculo.telemetry.request_log import RequestRecord

log = structlog.get_logger(__name__)


class JudgedRequest(Protocol):
    """A request that the server has judged: it may be forwarded by a route."""

    inbound: InboundRequest
    record: RequestRecord
    route: CompiledRoute
    target: str
    """The target that the upstream is to see."""
    hides_authorization: bool
    """Whether Authorization carried the gateway's own token, and must not be forwarded."""
    is_authenticated: bool
    """Whether the caller sent an accepted token."""


class ProxiedRequest:
    """A request on its way to an upstream, its record, and the client's side of the exchange.

    Call `prepare`, then forward what was prepared; `refuse` or `fail` on an error.
    """

    __slots__ = (
        "admitted",
        "id_line",
        "id_lines",
        "inbound",
        "is_admitted",
        "is_started",
        "keep_alive",
        "record",
        "request",
        "request_id",
        "shared",
    )

    admitted: PreparedRequest

    def __init__(self, shared: ProxyState, request: Request, inbound: InboundRequest, record: RequestRecord) -> None:
        self.shared = shared
        self.request = request
        self.inbound = inbound
        self.keep_alive = inbound.keep_alive and not shared.is_draining
        """Whether the client's connection is to take another request after this one."""
        self.is_admitted = False
        self.is_started = False
        """Whether the client has been sent the final head, or part of it."""
        self.record = record
        self.request_id = request_id = record.request_id
        value = request_id.encode()
        self.id_line = b"X-Request-ID: %b\r\n" % value
        """For the upstream."""
        self.id_lines = b"%bX-Correlation-Id: %b\r\n" % (self.id_line, value)
        """For the client."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.inbound.method} {self.request_id}>"

    def prepare(self, judged: JudgedRequest) -> SentResponse | None:
        """Refuse what must not be forwarded, else render the upstream's request head.

        None where the request is to be forwarded, else the response that was sent. Raises `Problem`.
        """
        inbound, shared, plan = self.inbound, self.shared, judged.route
        key = (plan, inbound.method, inbound.minor, inbound.host)
        cached = inbound.fields.cached_head
        if type(cached) is not CachedRequestHead or cached.key != key:
            self._check(plan)
            if inbound.is_last_hop:
                headers = {"Content-Type": "message/http"}
                return shared.needs.responses.send(
                    *(200, headers, self.request, inbound, self.record),
                    keep_alive=self.keep_alive,
                    body=inbound.trace(),
                )
            # The service's own token vouches for the caller, so an anonymous one does not get it added.
            token_line = plan.token_line if judged.is_authenticated or plan.sends_token else b""
            block = outbound_block(
                inbound, plan, via=shared.name, token_line=token_line, hides_authorization=judged.hides_authorization
            )
            cached = inbound.fields.cached_head = CachedRequestHead(
                key, block, shared.needs.cors.header_lines(inbound.origin)
            )
        method = "GET" if plan.asks_with_get and inbound.method == "HEAD" else inbound.method
        head = request_line(method, judged.target) + cached.block
        self.admitted = PreparedRequest(inbound, plan, head, cached.cors_lines, method)
        self.is_admitted = True
        return None

    def admit(self, prepared: PreparedRequest) -> None:
        """Forward `prepared`, which may have been forwarded before."""
        self.admitted = prepared
        self.is_admitted = True

    def _check(self, plan: CompiledRoute) -> None:
        """Raise `Problem` if the body is too large (413), the request came in a circle (508), the service is off (503)."""
        inbound, shared = self.inbound, self.shared
        if plan.max_body and inbound.length is not None and inbound.length > plan.max_body:
            raise Problem(Failure.BODY_TOO_LARGE, f"The body is larger than {plan.max_body} bytes.")
        via = inbound.fields.via
        if via is not None and any(shared.name in value for value in via):
            raise Problem(Failure.LOOP)
        if plan.balancer is None:
            name = plan.service.name
            raise Problem(Failure.SERVICE_OFF, shared.needs.why_off(name), {"service": name})

    def response_writer(self, upstream: Endpoint, lines: bytes | None = None) -> ResponseHeadBuilder:
        """Builds the client's head for a response of `upstream`. `lines` are added to it; by default those of CORS."""
        inbound, admitted = self.inbound, self.admitted
        writer = ResponseHeadBuilder(
            admitted.plan,
            inbound.method,
            inbound.minor,
            keep_alive=self.keep_alive,
            added=self.id_lines + (admitted.cors_lines if lines is None else lines),
            via=self.shared.name,
            replace_cors=bool(admitted.cors_lines),
            view=partial(client_view, inbound),
        )
        writer.upstream = upstream
        return writer

    # -- the client's side of an exchange ----------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes. Raises `ConnectionError` once the client has gone."""
        transport = self.request.protocol.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        transport.write(data)

    def abort(self) -> None:
        """Break the connection off, so that a cut answer never looks whole."""
        transport = self.request.protocol.transport
        if transport is None:
            return
        if self.inbound.minor == 1:
            transport.abort()
        else:
            # HTTP/1.0 knows no chunks: where nothing else says where the answer ends, a plain end would.
            reset(transport)

    def close(self) -> SentResponse:
        """Close the sending half, while the rest of the client's request is still read."""
        transport = self.request.protocol.transport
        if transport is not None and not self.request.content.is_eof() and transport.can_write_eof():
            transport.write_eof()
        return SENT_CLOSES

    # -- the ways to end ---------------------------------------------------------------------------------------

    def refuse(self, problem: Problem) -> SentResponse:
        """Answer with `problem`. Raises `ConnectionError` once the client has gone."""
        self.is_started = True
        return self.shared.needs.responses.refuse(
            problem, self.request, self.inbound, self.record, keep_alive=self.keep_alive
        )

    def fail(self, error: Exception) -> SentResponse:
        """End after a defect of the gateway. Its text never reaches the client, nor does a second response."""
        log.error("proxying failed", request_id=self.request_id, exc_info=error)
        if not self.is_started:
            return self.refuse(Problem(Failure.INTERNAL))
        self.abort()
        self.record.status, self.record.error = Failure.INTERNAL.status, Failure.INTERNAL.error
        return SENT_CLOSES
