"""One request at the proxy: what was decided about it, the record of how it went, and the relay of its response."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from functools import partial
from time import perf_counter
from typing import Protocol

import msgspec
import structlog

from tentaculo.model.failure import Failure, Problem, UpstreamError
from tentaculo.model.health import Endpoint
from tentaculo.net.header_fields import ResponseHeaders
from tentaculo.net.http1 import Head, chunked
from tentaculo.net.inbound_request import InboundRequest, Request
from tentaculo.net.response_bytes import SENT_CLOSES, SentResponse, date_line
from tentaculo.net.tcp import reset
from tentaculo.proxy.client_view import client_view
from tentaculo.proxy.request_head import CachedRequestHead, outbound_block, request_trailers
from tentaculo.proxy.response_head import CachedResponseHead, ResponseHeadBuilder, ResponseKey, trailer_lines
from tentaculo.proxy.route import CompiledRoute
from tentaculo.proxy.state import ProxyState
from tentaculo.security.cors import CorsPolicy
from tentaculo.security.tokens import Caller
from tentaculo.telemetry.request_log import RequestRecord
from tentaculo.upstream.client_affinity import StickySessions
from tentaculo.upstream.connection import UpstreamConnection
from tentaculo.upstream.response_reader import ResponseReader

log = structlog.get_logger(__name__)


class JudgedRequest(Protocol):
    """A request that the server has judged: it may be forwarded by a route."""

    inbound: InboundRequest
    record: RequestRecord
    route: CompiledRoute
    target: str
    """The target that the upstream is to see."""
    cors: CorsPolicy
    """The policy of the generation that judged it."""
    hides_authorization: bool
    """Whether Authorization carried the gateway's own token, and must not be forwarded."""
    is_authenticated: bool
    """Whether the caller sent an accepted token or ticket, and has the scope of the route."""
    caller: Caller


class PreparedRequest(msgspec.Struct, eq=False):
    """A request that may be forwarded, with its upstream head without the request id.

    It is used again while the client repeats the same request.
    """

    inbound: InboundRequest
    plan: CompiledRoute
    head: bytes
    """What the upstream gets, without the line of the request id, which differs each time, and without the empty line."""
    lines: bytes
    """What the gateway adds to each response, beside its id."""
    method: str
    """The one in `head`."""
    caller: Caller
    """For whom it was decided. It holds no longer than the token of the caller."""
    response_key: ResponseKey
    """What the head of its response depends on."""

    def __repr__(self) -> str:
        return f"<PreparedRequest {self.inbound.method} to {self.plan.service.name}>"


class ProxiedRequest(ABC):
    """A request on its way to an upstream, its record, and the client's side of the exchange.

    Call `prepare`, then forward what was prepared; `refuse` or `fail` on an error.
    """

    __slots__ = (
        "admitted",
        "id_line",
        "id_value",
        "inbound",
        "is_admitted",
        "is_started",
        "keep_alive",
        "keeps_session",
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
        self.keeps_session = False
        """Whether the client's sticky session stays where it is, although another endpoint serves this request."""
        self.record = record
        self.request_id = request_id = record.request_id
        value = self.id_value = request_id.encode()
        self.id_line = b"X-Request-ID: %b\r\n" % value
        """For the upstream and the client. `X-Correlation-Id` for the client has the same value."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.inbound.method} {self.request_id}>"

    @property
    @abstractmethod
    def upstream(self) -> Endpoint:
        """The endpoint that the request was sent to."""

    def prepare(self, judged: JudgedRequest) -> SentResponse | None:
        """Refuse what must not be forwarded, else render the upstream's request head.

        None where the request is to be forwarded, else the response that was sent. Raises `Problem`.
        """
        inbound, shared, plan = self.inbound, self.shared, judged.route
        # A ticket authenticates one request, and the next one may have the same fields.
        key = (
            *(plan, inbound.method, inbound.minor, inbound.host),
            *(judged.is_authenticated, judged.hides_authorization),
        )
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
            cors_lines = judged.cors.header_lines(inbound.origin)
            response_key = (plan.identity, inbound.method, inbound.minor, bool(cors_lines))
            cached = inbound.fields.cached_head = CachedRequestHead(key, block, cors_lines, response_key)
        method = "GET" if plan.asks_with_get and inbound.method == "HEAD" else inbound.method
        line = f"{method} {judged.target} HTTP/1.1\r\n"
        head = line.encode("utf-8", "surrogateescape") + cached.block
        limits = self.record.admitted
        lines = cached.cors_lines if limits is None else cached.cors_lines + limits.lines
        self.admitted = PreparedRequest(inbound, plan, head, lines, method, judged.caller, cached.response_key)
        self.is_admitted = True
        return None

    def _check(self, plan: CompiledRoute, *, may_be_off: bool = False) -> None:
        """Raise `Problem` if the body is too large (413), the request came in a circle (508), the service is off (503)."""
        inbound, shared = self.inbound, self.shared
        if plan.max_body and inbound.length is not None and inbound.length > plan.max_body:
            raise Problem(Failure.BODY_TOO_LARGE, f"The body is larger than {plan.max_body} bytes.")
        via = inbound.fields.via
        if via is not None and any(shared.name in value for value in via):
            raise Problem(Failure.LOOP)
        if plan.balancer is None and not may_be_off:
            name = plan.service.name
            raise Problem(Failure.SERVICE_OFF, shared.needs.why_off(name), {"service": name})

    def session_line(self, sticky: StickySessions) -> bytes:
        """The `Set-Cookie` line for a client whose cookie does not lead to the endpoint that served it."""
        if self.keeps_session or sticky.endpoint_in(self.inbound.fields.lines) == self.upstream:
            return b""
        return sticky.line(self.upstream, is_encrypted=client_view(self.inbound).scheme == "https")

    def response_writer(self, lines: bytes | None = None) -> ResponseHeadBuilder:
        """Builds the client's head for a response. `lines` are added to it; by default those of CORS."""
        inbound, admitted = self.inbound, self.admitted
        writer = ResponseHeadBuilder(
            admitted.plan,
            admitted.response_key,
            keep_alive=self.keep_alive,
            added=b"%bX-Correlation-Id: %b\r\n%b"
            % (self.id_line, self.id_value, admitted.lines if lines is None else lines),
            via=self.shared.name,
            view=partial(client_view, inbound),
        )
        writer.upstream = self.upstream
        return writer

    def frame(self, body: bytes) -> bytes:
        """The whole body of a chunked request, as the upstream gets it."""
        trailers = request_trailers(self.request, self.inbound.fields, self.admitted.plan.request_rules)
        return chunked(body, is_last=True, trailers=trailers)

    # -- the client's side of an exchange ----------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes. Raises `ConnectionError` once the client has gone."""
        transport = self.request.protocol.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        transport.write(data)

    def abort(self) -> None:
        """Break the connection off, so that a cut response never looks whole."""
        transport = self.request.protocol.transport
        if transport is None:
            return
        if self.inbound.minor == 1:
            transport.abort()
        else:
            # HTTP/1.0 knows no chunks: where nothing else says where the response ends, a plain end would.
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


class Wait(Enum):
    """What an exchange waits for."""

    BODY = "the body of a request that is to be changed"
    ROOM = "room at an endpoint"
    CONNECTION = "a new connection"
    UPSTREAM = "more of the response"
    CLIENT = "room in the client's send buffer"
    TUNNEL = "the end of the tunnel"


# Read on every proxied request: a global is a good deal cheaper than an attribute of an enum class.
_UPSTREAM = Wait.UPSTREAM


class ResponseRelay(ProxiedRequest):
    """A request whose response is relayed: interim heads, the final head with the first bytes, then the body."""

    __slots__ = ("_is_chunked", "is_kept", "is_replayable")

    _is_chunked: bool
    """Whether the body is chunked for the client, once its head has been made."""
    is_kept: bool
    """Whether the connection had carried another exchange before."""
    is_replayable: bool
    """Whether the request can be sent again without harm."""

    def relay(self, connection: UpstreamConnection) -> Wait | None:
        """Relay what has arrived. Returns what to wait for, None once the whole response has been relayed.

        Raises `UpstreamError` for the upstream, `ConnectionError` for the client.
        """
        if self.is_started:
            return self._relay_body(connection)
        reader = connection.response
        head, fields = reader.head, reader.fields
        if head is not None and head.status == 408 and fields is not None and fields.close:
            self._check_late_close()
        if reader.interim:
            self._relay_interim(connection)
        if connection.error is not None and not connection.has_data:
            raise connection.error.copy()
        if head is None or fields is None:
            return _UPSTREAM if connection.is_reading else Wait.CLIENT
        if head.status == 101:
            return Wait.TUNNEL
        block, self._is_chunked = self._final_head(connection, head, fields)
        self.record.status = head.status
        if self.admitted.method != self.inbound.method:
            # The client asked with HEAD and the service was asked with GET. A body that is still to come is not awaited:
            # the connection is closed then.
            connection.take()
            self.write(block)
            return None
        if not reader.is_whole:
            self.write(block)
            now = perf_counter()
            self.record.head_seconds = now - self.record.started
            if fields.is_event_stream:
                self._begin_stream(connection)
            self.note_head(now, is_event_stream=fields.is_event_stream)
            if (client := self.request.protocol.transport) is not None:
                connection.read_for(client)
            return self._relay_body(connection)
        # The whole response in one write: what most responses are.
        data = connection.take()
        self.record.sent = len(data)
        if self._is_chunked:
            data = chunked(data, is_last=True, trailers=self._trailers(reader))
        self.write(block + data)
        return None

    def note_head(self, now: float, *, is_event_stream: bool) -> None:
        """Take note that a head has been relayed `now` whose body is still to come."""

    def _begin_stream(self, connection: UpstreamConnection) -> None:
        """Nothing limits an event stream but its client, who ends it by closing even one half of the connection."""
        if self.request.protocol.has_ended:
            raise ConnectionResetError("the client has gone")
        self.record.is_event_stream = self.request.protocol.is_endless = True
        self.shared.streams.add(connection)
        connection.unlimited()

    def _trailers(self, reader: ResponseReader) -> bytes:
        """The trailer lines of a whole body for a client that asked for them."""
        if not reader.trailers or not self.inbound.fields.te_trailers:
            return b""
        plan = self.admitted.plan
        return trailer_lines(reader.trailers, plan.response_rules if plan.alters_response else None)

    def _check_late_close(self) -> None:
        """Raise `UpstreamError` where a 408 announces that the service closes an idle connection.

        It was sent before the service saw the request (RFC 9110 section 15.5.9).
        """
        if self.is_kept and self.is_replayable:
            raise UpstreamError(Failure.CONNECTION_LOST, "the idle connection was closed", untouched=True)

    def _relay_interim(self, connection: UpstreamConnection) -> None:
        reader, plan = connection.response, self.admitted.plan
        writer = self.response_writer()
        heads, is_expected = reader.interim, self.inbound.fields.expect is not None
        if self.inbound.minor == 1 and (
            lines := b"".join([writer.interim(head) for head in heads if head.status != 100 or is_expected])
        ):
            self.write(lines)
        heads.clear()
        if connection.is_request_whole:
            # The upstream is at work (RFC 9110 section 15.2): the time limit begins again.
            connection.limit(plan.first_byte, Failure.FIRST_BYTE_TIMEOUT)
        if reader.head is None and self.request.protocol.writing_paused:
            connection.pause()

    def _final_head(self, connection: UpstreamConnection, head: Head, fields: ResponseHeaders) -> tuple[bytes, bool]:
        """The client's head, and whether its body is to be chunked."""
        inbound, admitted = self.inbound, self.admitted
        plan = admitted.plan
        if self.shared.is_draining or not connection.is_request_whole:
            self.keep_alive = False
        lines = admitted.lines if fields.has_date else admitted.lines + date_line()
        if fields.trailer is not None and inbound.fields.te_trailers and inbound.minor == 1 and fields.codings:
            lines += b"Trailer: %b\r\n" % fields.trailer
        if plan.sticky is not None:
            lines += self.session_line(plan.sticky)
        known = fields.relayed
        if (
            type(known) is CachedResponseHead
            and not plan.alters_response
            and known.key == admitted.response_key
            and known.asked_to_stay is self.keep_alive
        ):
            self.keep_alive = known.keep_alive
            self.is_started = self.request.protocol.has_response = True
            parts = (known.head, self.id_line, b"X-Correlation-Id: ", self.id_value, b"\r\n", lines, b"\r\n")
            return b"".join(parts), known.is_chunked
        writer = self.response_writer(lines)
        block, is_chunked = writer.final(head, fields)
        # Not before: a head that may not pass leaves the response to the gateway.
        self.is_started = self.request.protocol.has_response = True
        self.keep_alive = writer.keep_alive
        return block, is_chunked

    def _relay_body(self, connection: UpstreamConnection) -> Wait | None:
        reader = connection.response
        data = connection.take()
        self.record.sent += len(data)
        if self._is_chunked:
            data = chunked(data, is_last=reader.is_whole, trailers=self._trailers(reader))
        if data:
            self.write(data)
        if reader.is_whole:
            return None
        if connection.error is not None:
            raise connection.error.copy()
        if self.request.protocol.writing_paused:
            # The silence is the client's now, not the upstream's.
            connection.unlimited()
            connection.pause()
            return Wait.CLIENT
        if connection not in self.shared.streams:
            connection.limit(self.admitted.plan.idle, Failure.IDLE_TIMEOUT)
        connection.resume()
        return _UPSTREAM
