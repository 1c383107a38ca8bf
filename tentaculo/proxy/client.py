"""The client's socket as aiohttp's server holds it: an exchange writes to it, a tunnel takes it over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from tentaculo.proxy.headers import RawHeaders, RequestFields
from tentaculo.sockets import reset


class ClientConnection(Protocol):
    """What the server's own protocol offers beyond aiohttp's; `web/connection.py` has it."""

    on_writable: Callable[[bool], None] | None
    """Called with False when the send buffer is full and with True when it has room again."""
    last_fields: tuple[RawHeaders, RequestFields] | None
    """The fields of the last request, as they came and as they were read."""


class RequestClient:
    """The client's side of an exchange."""

    __slots__ = ("_protocol", "_writer", "has_written")

    def __init__(self, request: web.BaseRequest) -> None:
        self._protocol = request.protocol
        self._writer = request.writer
        self.has_written = False
        """Whether a byte of an answer is on its way."""

    @property
    def is_writable(self) -> bool:
        """Whether its send buffer has room."""
        return not self._protocol.writing_paused

    def write(self, data: bytes) -> None:
        """Send bytes. Raises `ConnectionError` once the client has gone."""
        transport = self._protocol.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        self.has_written = True
        transport.write(data)

    async def drain(self) -> None:
        """Wait until the send buffer has room. Raises `ConnectionError` once the client has gone."""
        await self._writer.drain()

    def end(self) -> None:
        """Say that nothing more comes, while what the client still sends of its request goes on being read."""
        transport = self._protocol.transport
        if transport is not None and transport.can_write_eof():
            transport.write_eof()

    def abort(self, *, is_delimited: bool) -> None:
        """Break the connection off, so that a cut answer never looks whole.

        `is_delimited`: whether the answer says itself where it ends, by its length or its chunks.
        """
        transport = self._protocol.transport
        if transport is None:
            return
        if is_delimited:
            transport.abort()
        else:
            reset(transport)
