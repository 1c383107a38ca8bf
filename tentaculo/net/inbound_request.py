"""A request as the client sent it, and the interfaces of its body and connection. Read once, never changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from ssl import SSLContext
from typing import Any, Protocol

from tentaculo.model.failure import Failure, Problem
from tentaculo.net.header_fields import RawHeaders
from tentaculo.net.http1 import Target, is_authority, parse_target
from tentaculo.net.request_headers import ForwardedFields, RequestHeaders, request_length


class Body(Protocol):
    """A request's body, without its transfer coding."""

    @property
    def total_bytes(self) -> int:
        """Bytes that have arrived."""

    def is_eof(self) -> bool:
        """Whether all of it has arrived (it may still be buffered)."""

    def read_nowait(self, n: int = -1) -> bytes:
        """What is buffered."""

    async def readany(self) -> bytes:
        """Wait for more of it; empty at its end. Raises the error that ended reading."""


class Closable(Protocol):
    """What a client connection closes when it ends."""

    def close(self) -> None:
        """Close it."""


class ClientConnection(Protocol):
    """A client's connection, as `server/connection.py` implements it."""

    client_info: object | None
    """The `ClientInfo` of this connection, once a request has arrived."""
    transport: asyncio.Transport | None
    """None once the client has gone."""
    has_ended: bool
    """Whether the client has closed its sending half."""
    has_response: bool | None
    """Whether the response to the request has begun; None where no request of HTTP/1.1 waits for the proxy."""
    is_endless: bool
    """Whether the response that has begun is an event stream, which nothing but its client ends."""
    bound: Closable | None
    """The upstream connections that belong to this connection, for the proxy; closed when it ends."""

    @property
    def peername(self) -> Any:
        """The client's address on this socket."""

    @property
    def sockname(self) -> Any:
        """The gateway's own address on this connection."""

    @property
    def ssl_context(self) -> SSLContext | None:
        """None where the connection is not encrypted."""

    def trailers_of(self, body: object) -> Sequence[tuple[bytes, bytes]]:
        """The trailer fields of a body that has arrived whole, each as (whole line, name)."""

    @property
    def is_crowded(self) -> bool:
        """Whether more than half of all client connections, or of those of its address, are in use."""

    def note_ending(self) -> None:
        """The connection will be closed soon, and counts as gone where `is_crowded` is asked."""

    @property
    def writing_paused(self) -> bool:
        """Whether the send buffer is full."""

    async def wait_writable(self) -> None:
        """Wait until the send buffer has room. Raises `ConnectionError` once the client has gone."""

    def set_parser(self, parser: Any) -> None:
        """Pass all bytes from now on to `parser.feed_data`."""


class Request(Protocol):
    """What the proxy needs of a request. aiohttp's request has it, and `BufferedRequest` of the fast path."""

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
        """Whether the client keeps the connection open for another request."""

    @property
    def content(self) -> Body:
        """The body."""

    @property
    def protocol(self) -> ClientConnection:
        """The connection it came by."""


_ASCII_DIGITS = frozenset("0123456789")
MAX_REMEMBERED = 4096
"""Bytes of header fields that are remembered for each client connection."""
_MOST_PROTOCOLS = 16
"""Protocols of an Upgrade that are looked at."""
_ALTERED = frozenset(("TRACE", "OPTIONS"))
"""Methods whose fields are changed (Max-Forwards), so that they are parsed for each request."""


class ClientInfo:
    """One client's connection, and the fields of its last request: most send the very same again.

    All that is remembered for a connection, decisions included, hangs on this and holds for one generation of the
    configuration only.
    """

    __slots__ = ("address", "fields", "generation", "is_trusted", "port", "raw", "scheme")

    def __init__(
        self, connection: ClientConnection, is_trusted: Callable[[str], bool], generation: object = None
    ) -> None:
        peer, local = connection.peername, connection.sockname
        self.generation = generation
        """The generation of the configuration whose rules it was judged by."""
        self.address: str = peer[0] if isinstance(peer, tuple) else ""
        self.port: int = local[1] if isinstance(local, tuple) else 0
        """The gateway's own."""
        self.scheme = "https" if connection.ssl_context is not None else "http"
        self.is_trusted = is_trusted(self.address)
        """Whether its forwarding fields are used."""
        self.raw: RawHeaders | None = None
        self.fields: RequestHeaders | None = None
        """The fields that were read from `raw`, for a request that has the same."""

    def __repr__(self) -> str:
        return f"<ClientInfo {self.address}, {self.scheme}>"

    @classmethod
    def of(
        cls, connection: ClientConnection, is_trusted: Callable[[str], bool], generation: object = None
    ) -> ClientInfo:
        """That of `connection`, which keeps it; made at its first request of each generation of the configuration."""
        known = connection.client_info
        if type(known) is cls and known.generation is generation:
            return known
        made = connection.client_info = cls(connection, is_trusted, generation)
        return made

    def read(self, method: str, raw: RawHeaders) -> RequestHeaders:
        """The fields of a request; those of the last one where they are the same."""
        if (raw is self.raw or raw == self.raw) and self.fields is not None and method not in _ALTERED:
            return self.fields
        fields = RequestHeaders(raw)
        if fields.size <= MAX_REMEMBERED and method not in _ALTERED:
            self.raw, self.fields = raw, fields
        else:
            self.raw = self.fields = None
        return fields


class InboundRequest:
    """A request as the client sent it. `read` validates it and sets the remaining attributes."""

    __slots__ = (
        "client",
        "fields",
        "forwarded_by_trusted",
        "host",
        "is_chunked",
        "is_framed",
        "keep_alive",
        "length",
        "major",
        "method",
        "minor",
        "path",
        "raw_target",
        "target",
    )

    target: Target
    host: bytes
    length: int | None
    is_chunked: bool

    def __init__(self, request: Request, client: ClientInfo) -> None:
        self.client = client
        method = self.method = request.method
        target = self.raw_target = request.raw_path
        self.path = target.partition("?")[0] if "?" in target else target
        """The raw target without its query, for records."""
        self.major, self.minor = request.version
        self.keep_alive = request.keep_alive
        raw, fields = request.raw_headers, client.fields
        if fields is None or raw is not client.raw or method in _ALTERED:
            fields = client.read(method, raw)
        self.fields = fields
        self.forwarded_by_trusted: ForwardedFields | None = (fields.provenance or {}) if client.is_trusted else None
        """The forwarding fields of a trusted peer; None for any other peer."""
        self.is_framed = False
        """Whether it is certain where the request ends; before, nothing behind it may be taken for another one."""

    def __repr__(self) -> str:
        return f"<InboundRequest {self.method} {self.path!r}>"

    @property
    def accept(self) -> bytes | None:
        """The Accept header."""
        return self.fields.accept

    @property
    def origin(self) -> str | None:
        """The Origin header."""
        origin = self.fields.origin
        return origin.decode("latin-1") if origin is not None else None

    @property
    def wants_upgrade(self) -> bool:
        """Whether this requests an upgrade in a form that may be tunnelled (RFC 9110 section 7.8)."""
        return self.fields.wants_upgrade and self.fields.upgrade is not None and self.minor == 1

    def offered_upgrades(self, allowed: frozenset[bytes], methods: Sequence[str] | None) -> list[bytes]:
        """The protocols of its Upgrade header that are in `allowed` (lower case), as they came.

        None of any other: a tunnel that carries HTTP again leads past routes and tokens. `methods` are those that may
        upgrade, None for any.
        """
        if not self.wants_upgrade or (methods is not None and self.method not in methods):
            return []
        listed = (self.fields.upgrade or b"").split(b",", _MOST_PROTOCOLS)[:_MOST_PROTOCOLS]
        offered = [protocol.strip() for protocol in listed]
        return [protocol for protocol in offered if protocol.lower() in allowed]

    @property
    def is_preflight(self) -> bool:
        """Whether this is a CORS preflight (Fetch standard section 4.8), which has no body and no credentials."""
        if self.method != "OPTIONS" or self.fields.origin is None or self.is_chunked or self.length:
            return False
        return self.first(b"access-control-request-method") is not None

    def first(self, name: bytes) -> str | None:
        """The value of the first field called `name` (lower case) of those that pass; None where there is none."""
        value = next((value for lower, _, value in self.fields.lines if lower == name), None)
        return None if value is None else value.decode("latin-1")

    @property
    def public_host(self) -> str:
        """The host and port in the client's address bar: X-Forwarded-Host of a trusted peer, else Host."""
        forwarded = self.forwarded_by_trusted
        host = forwarded.get(b"x-forwarded-host") if forwarded is not None else None
        return (self.host if host is None else host).decode("latin-1")

    @property
    def public_scheme(self) -> str:
        """The scheme in the client's address bar: X-Forwarded-Proto of a trusted peer, else that of the connection."""
        forwarded = self.forwarded_by_trusted
        stated = forwarded.get(b"x-forwarded-proto") if forwarded is not None else None
        return self.client.scheme if stated is None else stated.strip().lower().decode("latin-1")

    @property
    def is_last_hop(self) -> bool:
        """Whether Max-Forwards lets a TRACE or OPTIONS go no further than here (RFC 9110 section 7.6.2)."""
        return self.method in ("TRACE", "OPTIONS") and self.fields.max_forwards == b"0"

    def trace(self) -> bytes:
        """The body of the response to a TRACE that ends here: the request as it came, without what may be secret."""
        if self.method != "TRACE":
            return b""
        lines = [b"%b: %b\r\n" % (name, value) for lower, name, value in self.fields.lines if lower != b"cookie"]
        first = f"TRACE {self.raw_target} HTTP/1.{self.minor}\r\n".encode("utf-8", "surrogateescape")
        return first + b"Host: %b\r\n" % self.host + b"".join(lines) + b"\r\n"

    def read(self, max_head: int) -> None:
        """Judge target, Host and framing. Raises `Problem`."""
        fields = self.fields
        raw_target = self.raw_target
        if self.major != 1:
            if self.major == 0:
                # This is how the parser reads a line without a version.
                raise Problem(Failure.BAD_REQUEST, "The request line names no version of HTTP.")
            raise Problem(Failure.HTTP_VERSION)
        if fields.size + len(raw_target) > max_head:
            if len(raw_target) > max_head:
                raise Problem(Failure.TARGET_TOO_LONG, f"The request target is longer than {max_head} bytes.")
            raise Problem(Failure.HEADERS_TOO_LARGE, f"The request's head is larger than {max_head} bytes.")
        if self.method == "CONNECT":
            raise Problem(Failure.NOT_IMPLEMENTED, "CONNECT is not supported.")
        framing = fields.framing
        if framing is None or framing[0] != self.minor:
            if fields.repeats_authorization:
                # One of them may hold the gateway's token, and servers differ in which one they take.
                raise Problem(Failure.BAD_REQUEST, "The Authorization header is repeated.")
            framing = fields.framing = (self.minor, *request_length(fields, self.minor))
        _, self.length, self.is_chunked = framing
        self.is_framed = True
        target = self.target = parse_target(self.method, raw_target)
        host = fields.host
        is_known = host is not None and host == fields.valid_host and target.authority is None
        self.host = host if is_known and host is not None else self._read_host()

    def _read_host(self) -> bytes:
        host = self.fields.host
        if host is None:
            if self.minor == 1:
                raise Problem(Failure.BAD_REQUEST, "The Host header is missing.")
            host = b""
        elif host != self.fields.valid_host:
            if not is_authority(host.decode("utf-8", "surrogateescape")):
                raise Problem(Failure.BAD_REQUEST, "The Host header is malformed.")
            self.fields.valid_host = host
        if self.target.authority is not None:
            # RFC 9112 section 3.2.2: the target's authority replaces Host.
            return self.target.authority.encode("utf-8", "surrogateescape")
        return host

    @property
    def host_name(self) -> str:
        """The host without its port, as routes name it."""
        text = self.host.decode("latin-1")
        name, colon, port = text.rpartition(":")
        return name if colon and _ASCII_DIGITS.issuperset(port) else text
