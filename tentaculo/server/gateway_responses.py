"""The responses that the gateway makes itself and writes to the client's socket: refusals, preflights, traces.

Every refusal is written here: those of native and of proxied requests, and those of bytes that never became a request.
"""

from __future__ import annotations

from collections.abc import Mapping

from tentaculo.model.failure import Failure, Problem
from tentaculo.net.downstream import Request
from tentaculo.net.inbound_request import InboundRequest
from tentaculo.net.response_bytes import response_bytes
from tentaculo.net.sent_response import SENT_CLOSES, SENT_STAYS, SentResponse
from tentaculo.security.cors import CorsPolicy
from tentaculo.server import problems
from tentaculo.telemetry.traffic import RequestRecord

_UNCERTAIN = (Failure.BAD_REQUEST, Failure.NOT_IMPLEMENTED)
"""Failures after which another server might see the end of the request elsewhere."""


class GatewayResponses:
    """Writes the gateway's own responses, each with the headers that all of them carry."""

    def __init__(self, name: str, cors: CorsPolicy) -> None:
        """`name` is the gateway's own, for Proxy-Status."""
        self._name = name
        self._cors = cors
        problems.error_page()  # compiled now, so that no request waits for it

    def __repr__(self) -> str:
        return f"<GatewayResponses of {self._name}>"

    def problem_bytes(
        self,
        problem: Problem,
        accept: bytes | None = None,
        *,
        request_id: str,
        origin: str | None = None,
        minor: int = 1,
        keep_alive: bool = False,
        with_body: bool = True,
    ) -> bytes:
        """The whole response for `problem`, to a client of HTTP/1.`minor` that sent these Accept and Origin values."""
        rendered = problems.render(problem, accept, request_id=request_id)
        headers = {
            "Content-Type": rendered.content_type,
            **rendered.headers,
            **self._cors.headers(origin),
            "Vary": "Accept, Origin",
            "Server": "Tentaculo-Link",
            "Proxy-Status": problem.proxy_status(self._name),
        }
        return response_bytes(
            rendered.status, headers, rendered.body, minor=minor, keep_alive=keep_alive, with_body=with_body
        )

    def refuse(
        self, problem: Problem, request: Request, inbound: InboundRequest, record: RequestRecord, *, keep_alive: bool
    ) -> SentResponse:
        """Send `problem` and note it in `record`. Raises `ConnectionError` once the client has gone.

        The connection stays open only if `keep_alive`, and if the end of the request is certain and has arrived.
        """
        record.status, record.error, record.detail = problem.status, problem.failure.error, problem.detail
        is_whole = request.content.is_eof()
        keep_alive = keep_alive and inbound.is_framed and problem.failure not in _UNCERTAIN and is_whole
        transport = request.protocol.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        transport.write(
            self.problem_bytes(
                problem,
                inbound.accept,
                request_id=record.request_id,
                origin=inbound.origin,
                minor=inbound.minor,
                keep_alive=keep_alive,
                with_body=inbound.method != "HEAD",
            )
        )
        if not keep_alive and not is_whole and transport.can_write_eof():
            # The client may still be sending its body: that is read, within a bound, so that it gets the response.
            transport.write_eof()
        return SENT_STAYS if keep_alive else SENT_CLOSES

    def send(
        self,
        status: int,
        headers: Mapping[str, str],
        request: Request,
        inbound: InboundRequest,
        record: RequestRecord,
        *,
        keep_alive: bool,
        body: bytes = b"",
    ) -> SentResponse:
        """Send a response that is no refusal, and note it in `record`. Raises `ConnectionError` as `refuse` does."""
        record.status, record.sent, record.is_own = status, len(body), True
        ids = {"X-Request-ID": record.request_id, "X-Correlation-Id": record.request_id}
        transport = request.protocol.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        transport.write(response_bytes(status, {**headers, **ids}, body, minor=inbound.minor, keep_alive=keep_alive))
        return SENT_STAYS if keep_alive else SENT_CLOSES
