"""One exchange: a request to an upstream, its answer to the client.

            1 connect          2 head + body ─────────▶ 3 upload (beside 4 and 5)
    client ──────────▶ gateway ───────────────────────────────────────▶ upstream
           ◀────────── 5 head + first bytes ◀────────── 4 wait for the head, relay 1xx
           ◀────────── 6 body, as fast as the client reads ◀───────────
                       7 keep the connection, or close it

The exchange does not know who holds the client's socket: it is given a `Client` to write to and a `Body` to read from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tentaculo.model.failure import Failure
from tentaculo.net.http1 import Head
from tentaculo.net.inbound_request import Body
from tentaculo.net.response_headers import ResponseHeaders
from tentaculo.proxy.route import CompiledRoute
from tentaculo.tasks import TaskGroup
from tentaculo.upstream.connection import UpstreamConnection
from tentaculo.upstream.errors import UpstreamError

IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
"""Idempotent methods."""


class Client(Protocol):
    """The client's side of an exchange."""

    @property
    def is_writable(self) -> bool:
        """Whether its send buffer has room."""

    def write(self, data: bytes) -> None:
        """Send bytes; never blocks. Raises `ConnectionError` once the client has gone."""

    async def drain(self) -> None:
        """Wait until the send buffer has room. Raises `ConnectionError` once the client has gone."""


class Whole:
    """A body that has arrived already, and can be sent again."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def is_eof(self) -> bool:
        """All of it is here."""
        return True

    def read_nowait(self, n: int = -1) -> bytes:
        """All of it, each time."""
        return self._data

    async def readany(self) -> bytes:
        """All of it, each time."""
        return self._data


class MinimumRate:
    """How slow an upload may be: `rate` bytes a second once `grace` seconds have been waited.

    Only the time spent waiting for the client counts, so an upload that the upstream holds back is never cut. A rate
    of 0 asks for none; `idle` seconds without a byte are always too many.
    """

    __slots__ = ("_grace", "_idle", "_rate", "_waited")

    def __init__(self, rate: int, grace: float, idle: float) -> None:
        self._rate = rate
        self._grace = grace
        self._idle = idle
        self._waited = 0.0

    async def read(self, body: Body, received: int) -> bytes:
        """Some more of `body`, of which `received` bytes came before. Raises `UpstreamError`."""
        loop = asyncio.get_running_loop()
        limit = self._idle
        if self._rate:
            limit = min(limit, max(self._grace, received / self._rate) - self._waited)
        started = loop.time()
        try:
            async with asyncio.timeout(limit):
                return await body.readany()
        except TimeoutError:
            raise UpstreamError(Failure.REQUEST_TIMEOUT, "the request's body arrives too slowly") from None
        finally:
            self._waited += loop.time() - started


class UpstreamRequest:
    """A request as it goes to the upstream."""

    __slots__ = (
        "body",
        "expects_continue",
        "head",
        "interim_head",
        "is_chunked",
        "method",
        "plan",
        "sent",
        "wants_interim",
    )

    def __init__(
        self,
        method: str,
        head: bytes,
        body: Body | None,
        plan: CompiledRoute,
        *,
        is_chunked: bool,
        wants_interim: bool,
        expects_continue: bool,
        interim_head: Callable[[Head], bytes],
    ) -> None:
        """`plan` has the time and size limits.

        `wants_interim`: whether the client may be sent 1xx answers (HTTP/1.1); `expects_continue`: whether it waits for
        a 100 before it sends the body.
        """
        self.method = method
        self.head = head
        self.body = body
        self.plan = plan
        self.is_chunked = is_chunked
        self.wants_interim = wants_interim
        self.expects_continue = expects_continue
        self.interim_head = interim_head
        self.sent = 0
        """Bytes of the body sent to the upstream."""

    def __repr__(self) -> str:
        return f"<Call {self.method}, {self.sent} bytes of body sent>"

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice does no harm (RFC 9110 section 9.2.2)."""
        return self.method in IDEMPOTENT

    @property
    def is_replayable(self) -> bool:
        """Whether that can be done, too: what has been read of a body that streams is gone."""
        return self.is_repeatable and (self.body is None or isinstance(self.body, Whole))


FinalHead = Callable[[Head, ResponseHeaders, bool], tuple[bytes, bool]]
"""Makes of (head, fields, request is unfinished) the client's head, and says whether the body is to be chunked."""


@dataclass(slots=True)
class RelayProgress:
    """How an exchange went, as far as it got."""

    status: int = 0
    """0 until the answer's head has arrived."""
    sent: int = 0
    """Bytes of the answer's body sent to the client."""
    is_started: bool = False
    """Whether the client has been sent the final head, or part of it."""
    is_unfinished_request: bool = False
    """Whether the upstream answered before it had the whole request."""


def send_request(connection: UpstreamConnection, call: UpstreamRequest, tasks: TaskGroup) -> asyncio.Task[None] | None:
    """Steps 2 and 3: the head with what is there of the body in one write; the rest is uploaded by a task."""
    connection.begin(call.method)
    body = call.body
    if body is None:
        connection.write(call.head)
        connection.is_request_whole = True
        connection.limit(call.plan.first_byte, Failure.FIRST_BYTE_TIMEOUT)
        return None
    if isinstance(body, Whole):
        data = body.read_nowait()
        call.sent = len(data)
        _check_size(call)
        connection.write(call.head + (framed_whole(data) if call.is_chunked else data))
        connection.is_request_whole = True
        connection.limit(call.plan.first_byte, Failure.FIRST_BYTE_TIMEOUT)
        return None
    connection.write(call.head)
    return tasks.start(_upload(connection, call, body), "upload")


async def relay_response(
    connection: UpstreamConnection, call: UpstreamRequest, client: Client, answer: RelayProgress, final_head: FinalHead
) -> None:
    """Steps 4 to 6. Raises `UpstreamError` for the upstream, `ConnectionError` for the client."""
    reader = connection.answer
    # The final head may have come together with interim ones.
    while (reader.head is None or reader.interim) and (interim := await connection.response()) is not None:
        if call.wants_interim and (interim.status != 100 or call.expects_continue):
            client.write(call.interim_head(interim))
    head, fields = reader.head, reader.fields
    assert head is not None
    assert fields is not None
    answer.status = head.status
    if head.status == 101:
        return
    answer.is_unfinished_request = not connection.is_request_whole
    first = connection.take()
    block, is_chunked = final_head(head, fields, answer.is_unfinished_request)
    answer.is_started = True
    if fields.is_event_stream:
        connection.unlimited()
    if reader.is_whole:
        # The whole answer in one write: what most answers of a fleet are.
        if first:
            data = first[0] if len(first) == 1 else b"".join(first)
            answer.sent = len(data)
            block += framed_whole(data) if is_chunked else data
        elif is_chunked:
            block += _LAST_CHUNK
        client.write(block)
        return
    client.write(block)
    await _stream(connection, call, client, answer, first, is_chunked=is_chunked, limited=not fields.is_event_stream)


async def _stream(
    connection: UpstreamConnection,
    call: UpstreamRequest,
    client: Client,
    answer: RelayProgress,
    pieces: list[bytes],
    *,
    is_chunked: bool,
    limited: bool,
) -> None:
    while True:
        if pieces:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            answer.sent += len(data)
            client.write(_chunk(data) if is_chunked else data)
        if connection.answer.is_whole and not (pieces := connection.take()):
            break
        if not client.is_writable:
            # The silence is the client's now, not the upstream's.
            connection.unlimited()
            await client.drain()
        if limited:
            connection.limit(call.plan.idle, Failure.IDLE_TIMEOUT)
        await connection.more()
        pieces = connection.take()
    if is_chunked:
        client.write(_LAST_CHUNK)


async def _upload(connection: UpstreamConnection, call: UpstreamRequest, body: Body) -> None:
    """Step 3: the body as it arrives, no faster than the upstream reads."""
    limits = call.plan.limits
    pace = MinimumRate(limits.body_rate, limits.body_grace, call.plan.idle)
    try:
        while data := await pace.read(body, call.sent):
            call.sent += len(data)
            _check_size(call)
            connection.write(_chunk(data) if call.is_chunked else data)
            if not connection.is_writable:
                async with asyncio.timeout(call.plan.idle):
                    await connection.drain()
    except UpstreamError as error:
        connection.fail(error)
        return
    except TimeoutError:
        connection.fail(UpstreamError(Failure.IDLE_TIMEOUT, "the service stopped reading the request"))
        return
    except Exception as error:  # noqa: BLE001 - whatever broke the reading side, the upstream must not see an end
        # The body's reader keeps it, and a traceback holds the frames that hold the reader.
        error.__traceback__ = None
        connection.fail(UpstreamError(Failure.BAD_REQUEST, f"the request's body broke off ({type(error).__name__})"))
        return
    if call.is_chunked:
        connection.write(_LAST_CHUNK)
    connection.is_request_whole = True
    if connection.answer.head is None:
        connection.limit(call.plan.first_byte, Failure.FIRST_BYTE_TIMEOUT)


_LAST_CHUNK = b"0\r\n\r\n"


def framed_whole(data: bytes) -> bytes:
    """A whole body in the chunked coding."""
    return _chunk(data) + _LAST_CHUNK


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _check_size(call: UpstreamRequest) -> None:
    limit = call.plan.max_body
    if limit and call.sent > limit:
        raise UpstreamError(Failure.BODY_TOO_LARGE, f"the body is larger than {limit} bytes")
