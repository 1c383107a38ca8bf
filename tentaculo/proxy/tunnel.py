"""An upgraded connection: bytes both ways, unread, until one side ends (RFC 9110 section 7.8, RFC 6455).

No task and no copy of its own: each side's protocol hands its bytes to the other's transport, and each side stops
being read while the other's send buffer is full.
"""

from __future__ import annotations

import asyncio

from tentaculo.proxy.connection import UpstreamConnection
from tentaculo.sockets import reset


class Tunnel:
    """Joins a client's transport and an upstream connection that has answered 101.

    The client's side calls `feed_data`, `feed_eof` and `client_can_write` (the first two are what aiohttp's
    `RequestHandler.set_parser` asks for); the upstream's side is a `Receiver`. `wait` returns when both have ended.
    """

    __slots__ = ("_client", "_done", "_upstream", "received", "sent")

    def __init__(self, client: asyncio.Transport, upstream: UpstreamConnection) -> None:
        self._client = client
        self._upstream = upstream
        self._done = asyncio.get_running_loop().create_future()
        self.received = 0
        """Bytes from the client."""
        self.sent = 0
        """Bytes to the client."""

    def __repr__(self) -> str:
        return f"<Tunnel {'ended' if self._done.done() else 'open'}, {self.received} in, {self.sent} out>"

    async def wait(self) -> None:
        """Wait for the end; cancelling closes both sides."""
        try:
            await self._done
        finally:
            self.close()

    def close(self) -> None:
        """End both sides, sending what is already under way."""
        self._upstream.close()
        self._client.close()
        self._finish()

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    # -- the client's side -------------------------------------------------------------------------------------

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Bytes from the client. Returns what aiohttp's protocol wants: not at the end, nothing left over."""
        self.received += len(data)
        self._upstream.write(data)
        return False, b""

    def feed_eof(self) -> None:
        """The client has gone."""
        self._upstream.close()
        self._finish()

    def client_can_write(self, can: bool) -> None:
        """The client's send buffer is full (False) or has room again (True)."""
        self._upstream.set_reading(can)

    # -- the upstream's side -----------------------------------------------------------------------------------

    def data_from_upstream(self, data: bytes) -> None:
        """Bytes from the upstream."""
        self.sent += len(data)
        self._client.write(data)

    def upstream_can_write(self, can: bool) -> None:
        """The upstream's send buffer is full (False) or has room again (True)."""
        if can:
            self._client.resume_reading()
        else:
            self._client.pause_reading()

    def upstream_lost(self, error: BaseException | None) -> None:
        """The upstream has gone: the client sees the same kind of end, a close or a reset."""
        if error is None:
            self._client.close()
        else:
            reset(self._client)
        self._finish()
