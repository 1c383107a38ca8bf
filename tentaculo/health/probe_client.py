"""The connection of one probe: connect, send one request, read its response within limits.

The response is read by the reader of `upstream/`, with the same limits. So a probe accepts a response exactly where the
proxy would pass it on.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from tentaculo.net.connecting import Addresses, LookUp, look_up
from tentaculo.net.http1 import Head
from tentaculo.net.tcp import unread
from tentaculo.upstream.response_reader import ResponseHeadCache, ResponseReader

MAX_BODY = 64 * 1024
"""Bytes of a body that are read, before and after it is decompressed."""


class ResponseCutError(Exception):
    """The connection ended before the response was complete."""


class ProbeConnection(asyncio.Protocol):
    """A connection that carries one request at most."""

    def __init__(self, max_head: int) -> None:
        self._reader = ResponseReader("GET", max_head, ResponseHeadCache())
        self._body = bytearray()
        self._error: Exception | None = None
        self._changed = asyncio.Event()
        self._is_asked = False
        self._early = b""
        self.transport: asyncio.Transport | None = None

    def __repr__(self) -> str:
        return f"<ProbeConnection {self._reader!r}>"

    def send(self, method: str, request: bytes) -> None:
        """Send a whole request."""
        self._reader.again(method)
        self._is_asked = True
        early, self._early = self._early, b""
        if early:
            # A server that speaks first is no HTTP server.
            self.data_received(early)
        if self.transport is not None:
            self.transport.write(request)

    async def head(self) -> Head:
        """The final head of the response. Raises Http1Error, ResponseCutError and OSError."""
        while (head := self._reader.head) is None:
            await self._wait()
        return head

    async def body(self) -> tuple[bytes, bool]:
        """The first `MAX_BODY` bytes of the body, and whether there is more. Raises the same errors."""
        while not self._reader.is_whole and len(self._body) <= MAX_BODY:
            await self._wait()
        return bytes(self._body[:MAX_BODY]), len(self._body) > MAX_BODY

    async def lost(self) -> None:
        """Wait until the endpoint has closed the connection. Raises OSError if it did so with an error."""
        while self.transport is not None:
            await self._wait_once()
        if isinstance(self._error, OSError):
            raise self._error

    def close(self) -> None:
        """Close at once. `transport.close` would wait for the endpoint's close_notify."""
        if self.transport is not None:
            self.transport.abort()

    # -- asyncio.Protocol --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes from the endpoint."""
        if self._error is not None:
            return
        if not self._is_asked:
            self._early = (self._early + data)[:MAX_BODY]
            return
        try:
            for piece in self._reader.feed(data):
                self._body += piece
        except Exception as error:  # noqa: BLE001 - handed on to the probe that waits
            self._error = error
        self._reader.interim.clear()
        if self.transport is not None and (self._error is not None or len(self._body) > MAX_BODY):
            self.transport.pause_reading()
        self._changed.set()

    def eof_received(self) -> None:
        """The endpoint has sent everything: the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        transport, self.transport = self.transport, None
        if exc is not None and transport is not None and self._is_asked and (left := unread(transport, MAX_BODY)):
            self.data_received(left)
        reader = self._reader
        if self._is_asked and self._error is None and not reader.is_whole:
            if exc is not None:
                self._error = exc
            elif reader.head is None:
                self._error = ResponseCutError("closed the connection before it responded")
            else:
                try:
                    reader.end()
                except Exception:  # noqa: BLE001 - the reader's own words are for the proxy
                    self._error = ResponseCutError("the response ended too soon")
        elif not self._is_asked:
            self._error = exc
        self._changed.set()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        await self._wait_once()
        if self._error is not None:
            raise self._error

    async def _wait_once(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class Connector:
    """Opens the connections of all probes. A name is looked up again after `ttl` seconds."""

    def __init__(self, max_head: int, ttl: float, *, look_up: LookUp = look_up) -> None:
        self._max_head = max_head
        self._ttl = ttl
        self._look_up = look_up
        self._names: dict[tuple[str, int], Addresses] = {}

    def __repr__(self) -> str:
        return f"<Connector: {len(self._names)} names>"

    async def connect(
        self, host: str, port: int, seconds: float, *, tls: ssl.SSLContext | None = None, server_name: str = ""
    ) -> ProbeConnection:
        """Connect to `host` for a probe of `seconds`, with TLS where `tls` is given.

        `server_name` is the name for TLS where it is not `host`. Raises OSError, ssl.SSLError among them.
        """
        addresses = self._names.get((host, port))
        if addresses is None:
            addresses = self._names[host, port] = Addresses(host, port, self._ttl, look_up=self._look_up)
        return await addresses.connect(
            lambda address: self._open(address, port, tls, server_name or host), ProbeConnection.close, seconds
        )

    async def _open(self, address: str, port: int, tls: ssl.SSLContext | None, server_name: str) -> ProbeConnection:
        loop = asyncio.get_running_loop()
        connection = ProbeConnection(self._max_head)
        try:
            await loop.create_connection(
                lambda: connection,
                address,
                port,
                ssl=tls,
                server_hostname=server_name if tls is not None else None,
            )
        except BaseException:
            connection.close()
            raise
        return connection
