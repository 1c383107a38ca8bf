"""Responses of native handlers: JSON, and long computations that leave the event loop to others in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import TypeVar, cast

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from tentaculo.server.connection import ClientConnection

PIECE = 16 * 1024
"""Bytes of a body that are written at once."""
SLICE_SECONDS = 0.002
"""How long one slice of a computation may take; the step that passes it is still finished."""

T = TypeVar("T")


class BodyResponse(web.Response):
    """A response whose body is sent piece by piece, as fast as its client reads.

    aiohttp would copy the whole body into the send buffer of each client. Here all clients share it, and the memory
    budget counts it once.
    """

    _connection: ClientConnection | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the head."""
        if request.method != "HEAD":
            self._connection = cast(ClientConnection, request.protocol)
        return await super().prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the body, as fast as the client reads."""
        connection, body = self._connection, self.body
        if connection is None or not isinstance(body, bytes) or len(body) <= PIECE:
            await super().write_eof(data)
            return
        self._connection = None
        connection.memory.share(body)
        try:
            for start in range(0, len(body), PIECE):
                await self.write(body[start : start + PIECE])
                await connection.wait_writable()
        finally:
            connection.memory.unshare(body)
        await web.StreamResponse.write_eof(self)


def json_response(value: object, status: int = 200) -> web.Response:
    """A response whose body is `value` as JSON."""
    return BodyResponse(status=status, body=msgspec.json.encode(value), content_type="application/json")


def raw_json(value: object) -> msgspec.Raw:
    """A part of a larger JSON value, encoded ahead."""
    return msgspec.Raw(msgspec.json.encode(value))


class Slices:
    """Runs computations in short slices, one slice per turn of the event loop, and one computation at a time.

    So the loop serves everybody else between two slices, however many clients ask for a large response.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._free = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Slices: {'computing' if self._free.locked() else 'free'}>"

    async def collect(self, steps: Iterable[T]) -> list[T]:
        """Every value of `steps`, which computes each when it is asked for the next."""
        found: list[T] = []
        async with self._free:
            end = self._clock() + SLICE_SECONDS
            for value in steps:
                found.append(value)
                if self._clock() >= end:
                    await asyncio.sleep(0)
                    end = self._clock() + SLICE_SECONDS
        return found
