"""The body of a request that still arrives, on its way to the upstream."""

from __future__ import annotations

import asyncio

from tentaculo.model.failure import Failure
from tentaculo.net.http1 import LAST_CHUNK, chunked
from tentaculo.net.inbound_request import Body
from tentaculo.proxy.route import CompiledRoute
from tentaculo.telemetry.request_log import RequestRecord
from tentaculo.upstream.connection import UpstreamConnection
from tentaculo.upstream.errors import UpstreamError


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


async def upload(
    connection: UpstreamConnection, body: Body, plan: CompiledRoute, record: RequestRecord, *, is_chunked: bool
) -> None:
    """Send `body` as it arrives, no faster than the upstream reads. Fails the exchange if it breaks off."""
    limits = plan.limits
    pace = MinimumRate(limits.body_rate, limits.body_grace, plan.idle)
    try:
        while data := await pace.read(body, record.received):
            record.received += len(data)
            if plan.max_body and record.received > plan.max_body:
                raise UpstreamError(Failure.BODY_TOO_LARGE, f"the body is larger than {plan.max_body} bytes")
            connection.write(chunked(data) if is_chunked else data)
            if not connection.is_writable:
                async with asyncio.timeout(plan.idle):
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
    if is_chunked:
        connection.write(LAST_CHUNK)
    connection.is_request_whole = True
    if connection.answer.head is None:
        connection.limit(plan.first_byte, Failure.FIRST_BYTE_TIMEOUT)
