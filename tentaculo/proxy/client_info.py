"""What is known of a client's connection: looked up once, and kept for all its requests."""

from __future__ import annotations

from collections.abc import Callable

from tentaculo.net.response_headers import RawHeaders
from tentaculo.proxy.downstream import ClientConnection
from tentaculo.proxy.request_headers import RequestHeaders

MAX_REMEMBERED = 4096
"""Bytes of header fields that are remembered for each client connection."""
_ALTERED = frozenset(("TRACE", "OPTIONS"))
"""Methods whose fields are changed on their way (Max-Forwards), so that they are read anew each time."""


class ClientInfo:
    """One client's connection, and the fields of its last request: most send the very same again."""

    __slots__ = ("_fields", "_raw", "address", "is_trusted", "port", "scheme")

    def __init__(self, connection: ClientConnection, is_trusted: Callable[[str], bool]) -> None:
        peer, local = connection.peername, connection.sockname
        self.address: str = peer[0] if isinstance(peer, tuple) else ""
        self.port: int = local[1] if isinstance(local, tuple) else 0
        """The gateway's own."""
        self.scheme = "https" if connection.ssl_context is not None else "http"
        self.is_trusted = is_trusted(self.address)
        """Whether what it says of where its requests come from is believed."""
        self._raw: RawHeaders | None = None
        self._fields: RequestHeaders | None = None

    def __repr__(self) -> str:
        return f"<Acquaintance {self.address}, {self.scheme}>"

    @classmethod
    def of(cls, connection: ClientConnection, is_trusted: Callable[[str], bool]) -> ClientInfo:
        """That of `connection`, which keeps it; made at its first request."""
        known = connection.acquaintance
        if type(known) is cls:
            return known
        made = connection.acquaintance = cls(connection, is_trusted)
        return made

    def read(self, method: str, raw: RawHeaders) -> RequestHeaders:
        """The fields of a request; those of the last one where they are the same."""
        if (raw is self._raw or raw == self._raw) and self._fields is not None and method not in _ALTERED:
            return self._fields
        fields = RequestHeaders(raw)
        if fields.size <= MAX_REMEMBERED and method not in _ALTERED:
            self._raw, self._fields = raw, fields
        else:
            self._raw = self._fields = None
        return fields
