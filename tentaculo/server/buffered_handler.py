"""Native handlers that need nothing of a request but its header fields and its whole body, and their fast path.

aiohttp's task, request and response cost more than such a handler does. A request that has arrived whole is served
without them, in the callback in which it arrived; the response may follow later, such as after a commit. Every other
request of the same route is served in the task of aiohttp's server, by the same handler (`native_routes.buffered`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import structlog

from tentaculo.model.failure import Failure, Problem
from tentaculo.net.inbound_request import InboundRequest
from tentaculo.net.response_bytes import SentResponse
from tentaculo.security.tokens import Caller
from tentaculo.server.fast_path import BufferedRequest
from tentaculo.server.gateway_responses import GatewayResponses
from tentaculo.server.request_body import check_size
from tentaculo.server.rules import JudgedRequest
from tentaculo.tasks import TaskGroup
from tentaculo.telemetry.request_log import RequestLog, RequestRecord

log = structlog.get_logger(__name__)

PIECE = 16 * 1024
"""Bytes of a body that are written at once."""

HeaderFields = Sequence[tuple[bytes, bytes]]
"""Names and values of a request's header fields as they came, in order."""


class NativeResponse(NamedTuple):
    """The response of a native handler."""

    status: int
    body: bytes
    content_type: str = "application/json"


Respond = Callable[[NativeResponse | Exception], None]
"""Takes the response of a request, or the error that it ended with; `Problem` for a refusal. Called once."""


class BodyHandler(NamedTuple):
    """What the header fields of a request have decided about its body."""

    limit: int
    """Most bytes."""
    array_limit: int | None
    """Most bytes of a body that begins with `[`; None for the same."""
    handle: Callable[[bytes, Respond], None]
    """Takes the whole body. It responds now or later, or raises `Problem` and does not respond."""


class BufferedHandler(Protocol):
    """The handler of a native route."""

    def body_handler(self, fields: HeaderFields) -> BodyHandler:
        """What is done with the body of a request that has `fields`: the same each time. Raises `Problem`."""


def defect(error: Exception, record: RequestRecord) -> Problem:
    """Log an unexpected error of a native handler. Returns the response for it."""
    log.error(
        "native handler failed",
        request_id=record.request_id,
        method=record.method,
        path=record.target,
        exc_info=error,
    )
    return Problem(Failure.INTERNAL, "The failure was logged under this request's id.")


class NativePlan(NamedTuple):
    """What was decided about a request, for another with the same head on the same connection."""

    caller: Caller
    inbound: InboundRequest
    origin: str | None
    """Its Origin, where that is a listed one."""
    body_handler: BodyHandler


class NativeFastPath:
    """Serves native requests that have arrived whole, without a task."""

    def __init__(self, responses: GatewayResponses, requests: RequestLog) -> None:
        self.responses = responses
        self.requests = requests
        self.tasks = TaskGroup("native")
        self.is_draining = False
        """Whether each response closes its connection."""
        self.in_flight = 0
        """Requests that have no response yet."""

    def __repr__(self) -> str:
        return f"<NativeFastPath: {self.in_flight} in flight>"

    @staticmethod
    def takes(inbound: InboundRequest) -> bool:
        """Whether a request is a usual one. The ordinary path serves every other one."""
        return inbound.minor == 1 and not inbound.is_chunked and inbound.fields.expect is None

    def serve(
        self,
        handler: BufferedHandler,
        request: BufferedRequest,
        done: Callable[[bool], None],
        judged: JudgedRequest,
    ) -> NativeExchange:
        """Serve a request that was judged, and that `takes` takes.

        `done` is called when the response has been sent, perhaps before this returns, with whether the connection stays.
        """
        inbound = judged.inbound
        origin = self.responses.listed_origin(inbound)
        exchange = NativeExchange(self, request, inbound, origin, judged.record, done)
        plan = exchange.begin(handler, None)
        if plan is not None:
            request.remembered = NativePlan(judged.caller, inbound, origin, plan)
        return exchange

    def serve_again(self, plan: NativePlan, request: BufferedRequest, done: Callable[[bool], None]) -> NativeExchange:
        """Serve a request with the same head as one that was served before on its connection."""
        inbound = plan.inbound
        record = self.requests.begin(inbound.method, inbound.path, inbound.client.address, inbound.forwarded_by_trusted)
        record.caller = plan.caller.name
        exchange = NativeExchange(self, request, inbound, plan.origin, record, done)
        exchange.begin(None, plan.body_handler)
        return exchange


class NativeExchange:
    """One native request on the fast path, from its body to its response."""

    __slots__ = ("_done", "_inbound", "_origin", "_path", "_record", "_request", "is_over")

    def __init__(
        self,
        path: NativeFastPath,
        request: BufferedRequest,
        inbound: InboundRequest,
        origin: str | None,
        record: RequestRecord,
        done: Callable[[bool], None],
    ) -> None:
        """`origin` is that of the request where it is a listed one."""
        self._path = path
        self._request = request
        self._inbound = inbound
        self._origin = origin
        self._record = record
        self._done = done
        self.is_over = False
        """Whether the response has been sent, or the client has left."""
        path.in_flight += 1

    def __repr__(self) -> str:
        return f"<NativeExchange {self._record.request_id}: {'over' if self.is_over else 'in flight'}>"

    def begin(self, handler: BufferedHandler | None, known: BodyHandler | None) -> BodyHandler | None:
        """Give the body to `known`, else to what `handler` says. Returns which that is, None where there was an error."""
        body = self._request.content.read_nowait()
        self._record.received = len(body)
        try:
            if known is None:
                assert handler is not None
                known = handler.body_handler(self._request.raw_headers)
            if len(body) > known.limit:
                check_size(body, known.limit, known.array_limit)
            known.handle(body, self.respond)
        except Exception as error:  # noqa: BLE001 - logged there
            self.respond(error)
            return None
        return known

    def respond(self, result: NativeResponse | Exception) -> None:
        """Send the response. Nothing is sent where the client has left."""
        if self.is_over:
            return
        try:
            if isinstance(result, NativeResponse):
                self._send(result)
            else:
                self._end(self._refuse(result).keep_alive is True)
        except ConnectionError:
            self.client_closed()
            self._done(False)

    def client_closed(self) -> None:
        """The client has closed its connection."""
        if not self.is_over:
            self._record.status = Failure.CLIENT_LEFT.status
            self._finish()

    def _send(self, response: NativeResponse) -> None:
        stays = self._inbound.keep_alive and not self._path.is_draining
        transport = self._request.protocol.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        record, body = self._record, response.body
        record.status, record.sent = response.status, len(body)
        head = self._path.responses.native_head(
            response.status,
            response.content_type,
            len(body),
            request_id=record.request_id,
            origin=self._origin,
            keep_alive=stays,
            added=b"" if record.admitted is None else record.admitted.lines,
        )
        if len(body) <= PIECE:
            transport.write(head + body)
            self._end(stays)
        else:
            transport.write(head)
            self._path.tasks.start(self._send_pieces(body, stays=stays), "response")

    async def _send_pieces(self, body: bytes, *, stays: bool) -> None:
        """Send a large body as fast as the client reads."""
        connection = self._request.protocol
        connection.memory.share(body)
        try:
            for start in range(0, len(body), PIECE):
                await connection.wait_writable()
                connection.transport.write(body[start : start + PIECE])
        except ConnectionError:
            return  # `client_closed` has been called, or will be
        finally:
            connection.memory.unshare(body)
        if not self.is_over:
            self._end(stays)

    def _refuse(self, error: Exception) -> SentResponse:
        problem = error if isinstance(error, Problem) else defect(error, self._record)
        stays = self._inbound.keep_alive and not self._path.is_draining
        return self._path.responses.refuse(problem, self._request, self._inbound, self._record, keep_alive=stays)

    def _end(self, stays: bool) -> None:
        self._finish()
        self._done(stays)

    def _finish(self) -> None:
        self.is_over = True
        self._path.in_flight -= 1
        self._path.requests.finish(self._record, is_counted=False)
