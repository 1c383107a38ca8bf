"""The body of a request that still arrives, on its way to the upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

from tentaculo.config.limits import LimitSettings
from tentaculo.model.failure import Failure, UpstreamError
from tentaculo.net.http1 import LAST_CHUNK, chunked
from tentaculo.net.inbound_request import Body, ClientConnection
from tentaculo.net.memory import MemoryBudget
from tentaculo.net.tcp import send_room, time_limit
from tentaculo.net.turns import READ_SIZE, TurnReader
from tentaculo.proxy.route import CompiledRoute
from tentaculo.telemetry.request_log import RequestRecord
from tentaculo.upstream.connection import UpstreamConnection

MAX_KEPT = 64 * 1024
"""Bytes of a body that are kept while it is sent on a connection that had been idle, and may be stale."""

IN_KERNELS = 8 * 1024 * 1024
"""Bytes of a body that the kernels of both sides may hold when the gateway has sent the last of it."""
SLOWEST_SERVICE = 256 * 1024
"""Bytes a second at which a service may take them without losing time for its response."""
SHORTEST_STEP = 0.1
"""Seconds between two looks at how crowded it is, at least."""


class UploadPace:
    """How slowly a body may arrive: never silent for `limits.body_idle`, and at a minimum rate while it is crowded.

    Only the time spent waiting for the client counts, so an upload that the upstream holds back is never cut. The rate
    is that of the whole wait since it has been crowded, once `limits.body_grace` is over.
    """

    __slots__ = ("_base", "_client", "_limits", "_waited")

    def __init__(self, limits: LimitSettings, client: ClientConnection) -> None:
        """`client` is the connection by which the body arrives. It ends where the body is too slow."""
        self._limits = limits
        self._client = client
        self._base: int | None = None  # bytes that had been received when it became crowded
        self._waited = 0.0  # seconds since then

    async def read(self, body: Body, received: int) -> bytes:
        """Some more of `body`, of which `received` bytes came before. Raises `UpstreamError`."""
        loop, limits = asyncio.get_running_loop(), self._limits
        # How crowded it is changes during a long wait.
        step = max(SHORTEST_STEP, limits.body_grace / 2) if limits.body_rate else limits.body_idle
        started = loop.time()
        silent_until = started + limits.body_idle
        while True:
            limit = min(step, silent_until - started, self._left(received))
            if limit <= 0:
                # Others that are as slow need not be cut as well, once enough of them are.
                self._client.note_ending()
                raise UpstreamError(Failure.REQUEST_TIMEOUT, "the request's body arrives too slowly")
            try:
                async with time_limit(limit):
                    return await body.readany()
            except TimeoutError:
                pass
            finally:
                now = loop.time()
                self._waited += now - started
                started = now

    def _left(self, received: int) -> float:
        """Seconds that the minimum rate leaves."""
        limits = self._limits
        if not limits.body_rate or not self._client.is_crowded:
            self._base, self._waited = None, 0.0
            return limits.body_idle
        if self._base is None:
            self._base, self._waited = received, 0.0
        return max(limits.body_grace, (received - self._base) / limits.body_rate) - self._waited


class Upload:
    """A body that is sent as it arrives, no faster than the upstream reads."""

    __slots__ = (
        "_body",
        "_client",
        "_is_chunked",
        "_kept",
        "_kept_size",
        "_length",
        "_memory",
        "_plan",
        "_reader",
        "_record",
        "_trailers",
    )

    def __init__(
        self,
        body: Body,
        client: ClientConnection,
        plan: CompiledRoute,
        record: RequestRecord,
        *,
        length: int | None,
        trailers: Callable[[], bytes],
        memory: MemoryBudget,
    ) -> None:
        """`client` is the connection by which `body` arrives, and `memory` counts what is kept of it. `length` is its bytes;
        None where chunks say them.

        `trailers` returns the trailer lines of the body, once it has arrived whole.
        """
        self._body = body
        self._client = client
        self._trailers = trailers
        self._plan = plan
        self._record = record
        self._length = length
        self._is_chunked = length is None
        self._kept: list[bytes] | None = []
        """What has been read of the body; None once that is too much to keep, or nobody may need it."""
        self._kept_size = 0
        self._reader: TurnReader | None = None
        """Reads the body, once it may read much at once."""
        self._memory = memory

    def __repr__(self) -> str:
        return f"<Upload, {self._record.received} bytes sent>"

    @property
    def can_repeat(self) -> bool:
        """Whether the body can be sent from its beginning again."""
        return self._kept is not None

    def begin_with(self, data: bytes) -> None:
        """Send `data` first: the beginning of the body, which was read before."""
        self._kept = [data]
        self._kept_size = self._record.received = len(data)

    async def run(self, connection: UpstreamConnection, *, keeps: bool) -> None:
        """Send the body, and fail the exchange if it breaks off.

        `keeps`: whether to keep the beginning of the body, for another attempt if `connection` is stale.
        """
        plan, began = self._plan, perf_counter()
        try:
            try:
                await self._send(connection, keeps=keeps)
            finally:
                if self._reader is not None:
                    self._reader.read_room = None
        except UpstreamError as error:
            connection.fail(error)
            return
        except TimeoutError:
            connection.fail(UpstreamError(Failure.IDLE_TIMEOUT, "the service stopped reading the request"))
            return
        except Exception as error:  # noqa: BLE001 - whatever broke the reading side, the upstream must not see an end
            # The body's reader keeps it, and a traceback holds the frames that hold the reader.
            error.__traceback__ = None
            words = f"the request's body broke off ({type(error).__name__})"
            connection.fail(UpstreamError(Failure.BAD_REQUEST, words))
            return
        self._record.upload_seconds += perf_counter() - began
        if self._is_chunked:
            trailers = self._trailers()
            connection.write(chunked(b"", is_last=True, trailers=trailers) if trailers else LAST_CHUNK)
        connection.is_request_whole = True
        if connection.response.head is None:
            # The end of the body may still wait in the kernels of both sides, and the service may take it slowly.
            seconds = min(self._record.received, IN_KERNELS) / SLOWEST_SERVICE
            connection.limit(plan.first_byte + seconds, Failure.FIRST_BYTE_TIMEOUT)

    async def _send(self, connection: UpstreamConnection, *, keeps: bool) -> None:
        plan, record, is_chunked = self._plan, self._record, self._is_chunked
        pace = UploadPace(plan.limits, self._client)
        for piece in self._kept or ():
            connection.write(chunked(piece) if is_chunked else piece)
        while data := await pace.read(self._body, record.received):
            record.received += len(data)
            if plan.max_body and record.received > plan.max_body:
                raise UpstreamError(Failure.BODY_TOO_LARGE, f"the body is larger than {plan.max_body} bytes")
            self._keep(data, keeps=keeps)
            if self._kept is None and self._reader is None:
                self._read_more(connection)
            connection.write(chunked(data) if is_chunked else data)
            del data  # which would stay in memory while this waits
            if not connection.is_writable:
                async with time_limit(plan.idle):
                    await connection.drain()

    def _read_more(self, connection: UpstreamConnection) -> None:
        """From now on read as much of the body at once as the socket of `connection` takes."""
        length, body, client, upstream = self._length, self._body, self._client.transport, connection.transport
        if client is None or upstream is None:
            return
        room, reader = send_room(upstream), client.get_protocol()
        if room is not None and isinstance(reader, TurnReader):
            self._reader = reader
            # A large read could hold many tiny chunks.
            reader.read_room = lambda: min(READ_SIZE if length is None else length - body.total_bytes, room())

    def _keep(self, data: bytes, *, keeps: bool) -> None:
        if self._kept is None:
            return
        self._kept_size += len(data)
        if keeps and self._kept_size <= MAX_KEPT:
            self._kept.append(data)
            self._memory.hold(self, self._kept_size)
        else:
            self.forget()

    def forget(self) -> None:
        """Keep nothing of the body any more: it is not sent again."""
        self._kept = None
        self._memory.release(self)
