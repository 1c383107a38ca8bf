"""One request at the proxy: what it asks for, what was decided about it, and the record of how it went."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping

import structlog

from tentaculo.model.failure import Failure, Problem
from tentaculo.net.response_bytes import response_bytes
from tentaculo.net.sent_response import SENT_CLOSES, SENT_STAYS, SentResponse
from tentaculo.net.tcp import reset
from tentaculo.proxy.admitted import PreparedRequest
from tentaculo.proxy.downstream import Request
from tentaculo.proxy.head_cache import CachedRequestHead
from tentaculo.proxy.inbound_request import InboundRequest
from tentaculo.proxy.request_head import outbound_block, request_line
from tentaculo.proxy.response_head import ResponseHeadBuilder
from tentaculo.proxy.state import ProxyState
from tentaculo.telemetry.request_record import RequestRecord

log = structlog.get_logger(__name__)

_UNCERTAIN = (Failure.BAD_REQUEST, Failure.NOT_IMPLEMENTED)
"""Failures after which another server might see the end of the request elsewhere."""


class ProxiedRequest:
    """Steps 1 to 3 of `handler.py`, the answers that the gateway makes itself, and the record.

    `admit`, then forward what was admitted; `refuse` or `fail` where it goes wrong; `end` in any case. It is also the
    client's side of the exchange.
    """

    __slots__ = (
        "_connection",
        "_started",
        "admitted",
        "has_written",
        "id_line",
        "inbound",
        "keep_alive",
        "record",
        "request",
        "request_id",
        "shared",
    )

    admitted: PreparedRequest

    def __init__(self, shared: ProxyState, request: Request, inbound: InboundRequest) -> None:
        self._started = time.perf_counter()
        self.shared = shared
        self.request = request
        self._connection = request.protocol
        self.inbound = inbound
        self.keep_alive = inbound.keep_alive and not shared.is_draining
        """Whether the client's connection is to take another request after this one."""
        self.has_written = False
        """Whether a byte of an answer is on its way."""
        self.request_id = shared.ids.next(inbound.known)
        self.id_line = f"X-Request-ID: {self.request_id}\r\n".encode()
        self.record = RequestRecord(inbound.method, inbound.path, 0, 0.0, inbound.client.address, self.request_id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.inbound.method} {self.request_id}>"

    def admit(self) -> SentResponse | None:
        """Judge the request: None where it is to be forwarded, else what became of it here. Raises `Problem`."""
        inbound, shared, gate = self.inbound, self.shared, self.shared.gate
        inbound.read(shared.max_head)  # 1
        if inbound.target.path == "*" and not shared.plans.takes_asterisk(inbound):
            # It asks about the server, not about a path: where nobody is behind all paths, that is the gateway.
            return self._answer(200, {"X-Request-ID": self.request_id})
        plan, path = shared.plans.find(inbound)  # 2
        self.record.service = plan.service.name
        key = (plan, inbound.method, inbound.minor, inbound.host)
        passed = inbound.fields.passed
        if passed is None or passed.key != key:
            is_preflight = False
            if inbound.method == "OPTIONS":
                if (headers := gate.preflight(inbound)) is not None:
                    return self._answer(204, {**headers, "X-Request-ID": self.request_id})
                # A browser can put no token on a preflight: that of an origin that is not listed is for the service.
                is_preflight = inbound.is_preflight
            hides_authorization = not is_preflight and gate.authorise(inbound, plan)  # 3
            gate.check(inbound, plan)
            if inbound.is_last_hop:
                headers = {"X-Request-ID": self.request_id, "Content-Type": "message/http"}
                return self._answer(200, headers, inbound.trace())
            # Who has not been asked who it is: the service is not told that it may trust the request.
            token_line = b"" if is_preflight else plan.token_line
            block = outbound_block(
                inbound, plan, via=shared.name, token_line=token_line, hides_authorization=hides_authorization
            )
            passed = inbound.fields.passed = CachedRequestHead(key, block, gate.cors_lines(inbound))
        self.admitted = PreparedRequest(inbound, plan, request_line(inbound, path) + passed.block, passed.cors_lines)
        return None

    def response_writer(self) -> ResponseHeadBuilder:
        """Who builds the client's head for the upstream's answer."""
        inbound, admitted = self.inbound, self.admitted
        return ResponseHeadBuilder(
            admitted.plan,
            inbound.method,
            inbound.minor,
            keep_alive=self.keep_alive,
            added=self.id_line + admitted.cors_lines,
            via=self.shared.name,
            replace_cors=bool(admitted.cors_lines),
            scheme=inbound.client.scheme,
            host=inbound.host,
        )

    # -- the client's side of an exchange ----------------------------------------------------------------------

    @property
    def is_writable(self) -> bool:
        """Whether its send buffer has room."""
        return not self._connection.writing_paused

    def write(self, data: bytes) -> None:
        """Send bytes. Raises `ConnectionError` once the client has gone."""
        transport = self._connection.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        self.has_written = True
        transport.write(data)

    async def drain(self) -> None:
        """Wait until the send buffer has room. Raises `ConnectionError` once the client has gone."""
        await self._connection.drain()

    def abort(self) -> None:
        """Break the connection off, so that a cut answer never looks whole."""
        transport = self._connection.transport
        if transport is None:
            return
        if self.inbound.minor == 1:
            transport.abort()
        else:
            # HTTP/1.0 knows no chunks: where nothing else says where the answer ends, a plain end would.
            reset(transport)

    def close(self) -> SentResponse:
        """Say that nothing more comes, while what the client still sends of its request goes on being read."""
        transport = self._connection.transport
        if transport is not None and not self.request.content.is_eof() and transport.can_write_eof():
            transport.write_eof()
        return SENT_CLOSES

    # -- the ways to end ---------------------------------------------------------------------------------------

    def refuse(self, problem: Problem) -> SentResponse:
        """Answer with `problem`."""
        inbound, record, needs = self.inbound, self.record, self.shared.needs
        record.status, record.error, record.detail = problem.status, problem.failure.error, problem.detail
        rendered = needs.render(problem, inbound.accept, request_id=self.request_id)
        # A body that nobody read is drained within a bound, and the connection is not used again.
        keep_alive = self.keep_alive and inbound.is_framed and problem.failure not in _UNCERTAIN
        keep_alive = keep_alive and self.request.content.is_eof()
        headers = {
            "Content-Type": rendered.content_type,
            **rendered.headers,
            **needs.cors.headers(inbound.origin),
            "Proxy-Status": problem.proxy_status(needs.name),
        }
        if "Vary" in rendered.headers and inbound.origin is not None:
            headers["Vary"] = "Accept, Origin"
        self.write(
            response_bytes(
                rendered.status,
                headers,
                rendered.body,
                minor=inbound.minor,
                keep_alive=keep_alive,
                with_body=inbound.method != "HEAD",
            )
        )
        return SENT_STAYS if keep_alive else self.close()

    def fail(self) -> SentResponse:
        """A fault of ours, which is being handled: it must neither reach the client nor end up as a second answer."""
        log.exception("proxying failed", request_id=self.request_id)
        if not self.has_written:
            return self.refuse(Problem(Failure.INTERNAL))
        self.abort()
        self.record.status, self.record.error = Failure.INTERNAL.status, Failure.INTERNAL.error
        return SENT_CLOSES

    def note_left(self) -> None:
        """The client has gone."""
        if self.record.status != 101:  # a tunnel that its client ends has ended well
            self.record.status, self.record.error = Failure.CLIENT_LEFT.status, Failure.CLIENT_LEFT.error

    def end(self) -> None:
        """Count and log the request. Called once, when its answer has been sent or it has gone."""
        record, shared = self.record, self.shared
        record.seconds = time.perf_counter() - self._started
        shared.traffic.end(record)
        if shared.needs.log is not None:
            shared.needs.log(record)

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> SentResponse:
        inbound = self.inbound
        record = self.record
        record.status, record.sent, record.is_own = status, len(body), True
        self.write(response_bytes(status, headers, body, minor=inbound.minor, keep_alive=self.keep_alive))
        return SENT_STAYS if self.keep_alive else SENT_CLOSES


async def finish_with(visit: ProxiedRequest, forwarding: Awaitable[SentResponse]) -> SentResponse:
    """Wait for the end of `forwarding`, whatever it is: each visit is answered once, or has no client any more.

    Raises `ConnectionError` or `CancelledError` where the client has gone.
    """
    try:
        return await forwarding
    except Problem as problem:
        return visit.refuse(problem)
    except (asyncio.CancelledError, ConnectionError):
        visit.note_left()
        raise
    except Exception:  # noqa: BLE001 - logged there
        return visit.fail()
