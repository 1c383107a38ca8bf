"""The client's side: a request as it is read, and the socket it came by, which an exchange writes to and a tunnel takes."""

from __future__ import annotations

import asyncio
from ssl import SSLContext
from typing import Any, Protocol

from tentaculo.net.response_headers import RawHeaders


class Body(Protocol):
    """A request's body, without its transfer coding."""

    def is_eof(self) -> bool:
        """Whether all of it has arrived (it may still be buffered)."""

    def read_nowait(self, n: int = -1) -> bytes:
        """What is buffered."""

    async def readany(self) -> bytes:
        """Some more of it; empty at its end. Raises what the reading side met."""


class ClientConnection(Protocol):
    """What the server's own protocol offers; `server/connection.py` implements it."""

    client_info: object | None
    """The `ClientInfo` of this connection, once a request has arrived."""
    transport: asyncio.Transport | None
    """None once the client has gone."""

    @property
    def peername(self) -> Any:
        """The client's address, as the socket tells it."""

    @property
    def sockname(self) -> Any:
        """The gateway's own address on this connection."""

    @property
    def ssl_context(self) -> SSLContext | None:
        """None where the connection is not encrypted."""

    @property
    def writing_paused(self) -> bool:
        """Whether the send buffer is full."""

    async def wait_writable(self) -> None:
        """Wait until the send buffer has room. Raises `ConnectionError` once the client has gone."""

    def set_parser(self, parser: Any) -> None:
        """Hand over everything that comes from now on to `parser.feed_data`."""


class Request(Protocol):
    """The little of a request that the proxy asks for; aiohttp's own has it, and so has what is served at once."""

    @property
    def method(self) -> str:
        """As it came."""

    @property
    def raw_path(self) -> str:
        """The request target as it came."""

    @property
    def version(self) -> tuple[int, int]:
        """Major and minor version of the request line."""

    @property
    def raw_headers(self) -> RawHeaders:
        """Names and values as they came, in order."""

    @property
    def keep_alive(self) -> bool:
        """Whether the client means to send another request on this connection."""

    @property
    def content(self) -> Body:
        """The body."""

    @property
    def protocol(self) -> ClientConnection:
        """The connection it came by."""
