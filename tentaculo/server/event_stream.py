"""The connection of one client that is sent Server-Sent Events, until it leaves or the gateway ends the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self, cast

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from tentaculo.server.buffered_handler import PIECE
from tentaculo.server.connection import ClientConnection

CLOSE_SECONDS = 1.0
"""Seconds that a client has to take the end of its stream."""
MEDIA_TYPE = "text/event-stream"
_HEADERS = {
    hdrs.CONTENT_TYPE: f"{MEDIA_TYPE}; charset=utf-8",
    # A proxy that compresses would hold events back until they fill a block.
    hdrs.CACHE_CONTROL: "no-store, no-transform",
    # nginx would hold the stream back in its buffer.
    "X-Accel-Buffering": "no",
}


class StreamConnection:
    """What is sent to one client. `written_at` is when that was the last time, in the loop's seconds."""

    def __init__(self, response: web.StreamResponse, connection: ClientConnection) -> None:
        self.written_at = connection.event_loop.time()
        self._response = response
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, request: web.Request, response: web.StreamResponse) -> AsyncIterator[Self]:
        """Send the head of `response`, and close the connection at the end of the context."""
        response.force_close()
        if request.version >= HttpVersion11:
            response.enable_chunked_encoding()
        transport, connection = request.transport, cast(ClientConnection, request.protocol)
        try:
            await response.prepare(request)
            # Only its client ends a stream, by closing even one half of the connection.
            connection.has_response = connection.is_endless = True
            yield cls(response, connection)
        finally:
            if transport is not None:
                # A close waits until the peer has read the buffered bytes. A stalled peer never does.
                asyncio.get_running_loop().call_later(CLOSE_SECONDS, transport.abort)

    @property
    def has_left(self) -> bool:
        """Whether the client had closed its half of the connection before the head was sent."""
        return self._connection.has_ended

    @property
    def is_paused(self) -> bool:
        """Whether the send buffer is full."""
        return self._connection.is_writing_paused

    async def write(self, frames: bytes) -> None:
        """Send whole frames."""
        self.written_at = self._connection.event_loop.time()
        await self._response.write(frames)

    async def write_shared(self, frames: bytes) -> None:
        """Send frames that other clients are sent too, as fast as this one reads. Send nothing else meanwhile."""
        memory = self._connection.memory
        memory.share(frames)
        try:
            for start in range(0, len(frames), PIECE):
                await self.write(frames[start : start + PIECE])
                await self.wait_writable()
        finally:
            memory.unshare(frames)

    def send(self, frames: bytes) -> None:
        """Send whole frames now: as `write`, without a coroutine. Does nothing where the connection has ended."""
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            return
        self.written_at = self._connection.event_loop.time()
        transport.write(b"%x\r\n%b\r\n" % (len(frames), frames) if self._response.chunked else frames)

    async def wait_writable(self) -> None:
        """Wait until the send buffer has room. Raises `ConnectionError` once the client has gone."""
        await self._connection.wait_writable()

    async def end(self, frame: bytes) -> None:
        """Send the last frame, and the end of the response. A client that does not take them is cut off."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.write(frame)
                await self._response.write_eof()
        except (TimeoutError, ConnectionError):
            pass


def stream_response() -> web.StreamResponse:
    """The response of an event stream, with the headers that keep it from being held back on its way."""
    return web.StreamResponse(headers=_HEADERS)
