"""A request as it came in: read once, never changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from aiohttp import web

from tentaculo.errors import Failure, Problem
from tentaculo.proxy.client import ClientConnection
from tentaculo.proxy.headers import RequestFields, request_length, split_list
from tentaculo.proxy.provenance import Known, RequestIds
from tentaculo.proxy.target import Target, is_authority, parse_target

MAX_REMEMBERED = 4096
"""Bytes of header fields that are remembered for each client connection."""
_ALTERED = frozenset(("TRACE", "OPTIONS"))
"""Methods whose fields are changed on their way (Max-Forwards), so that they are read anew each time."""
_ASCII_DIGITS = frozenset("0123456789")


class Inbound:
    """What the gateway knows of a request. Built with its peer and id; `read` adds the rest or refuses it."""

    __slots__ = (
        "fields",
        "host",
        "is_chunked",
        "is_framed",
        "keep_alive",
        "known",
        "length",
        "major",
        "method",
        "minor",
        "peer",
        "port",
        "raw_target",
        "request_id",
        "scheme",
        "target",
    )

    target: Target
    host: bytes
    length: int | None
    is_chunked: bool

    def __init__(self, request: web.BaseRequest, is_trusted: Callable[[str], bool], ids: RequestIds) -> None:
        protocol = request.protocol
        peer, local = protocol.peername, protocol.sockname
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self.port = local[1] if isinstance(local, tuple) else 0
        self.scheme = "https" if protocol.ssl_context is not None else "http"
        self.method = request.method
        self.raw_target = request.raw_path
        self.major, self.minor = request.version
        self.keep_alive = request.keep_alive
        self.fields = self._read_fields(request)
        self.is_framed = False
        """Whether it is certain where the request ends; before, nothing behind it may be taken for another one."""
        self.known: Known | None = (self.fields.provenance or {}) if is_trusted(self.peer) else None
        """What a trusted peer says of where the request came from; None for any other."""
        self.request_id = ids.next(self.known)

    def _read_fields(self, request: web.BaseRequest) -> RequestFields:
        """The fields; those of the client's last request where it sends the very same again, as most do."""
        raw = request.raw_headers
        if self.method in _ALTERED:
            return RequestFields(raw)
        connection = cast(ClientConnection, request.protocol)
        last = connection.last_fields
        if last is not None and last[0] == raw:
            return last[1]
        fields = RequestFields(raw)
        connection.last_fields = (raw, fields) if fields.size <= MAX_REMEMBERED else None
        return fields

    def __repr__(self) -> str:
        return f"<Inbound {self.method} {self.request_id}>"

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
        """Whether this asks for another protocol, in the only form that may be tunnelled (RFC 9110 section 7.8).

        Another version of HTTP is none: through such a tunnel any path could be asked for, past routes and tokens.
        """
        fields = self.fields
        if not fields.wants_upgrade or fields.upgrade is None or self.method != "GET" or self.minor != 1:
            return False
        return not any(protocol.startswith((b"h2", b"http")) for protocol in split_list(fields.upgrade))

    @property
    def is_preflight(self) -> bool:
        """Whether this is a CORS preflight (Fetch standard section 4.8), which has no body and no credentials."""
        if self.method != "OPTIONS" or self.fields.origin is None or self.is_chunked or self.length:
            return False
        return any(lower == b"access-control-request-method" for lower, _, _ in self.fields.lines)

    @property
    def public_host(self) -> str:
        """The host and port that the client's user sees: a trusted peer may know better than Host."""
        said = self.known.get(b"x-forwarded-host") if self.known is not None else None
        return (self.host if said is None else said).decode("latin-1")

    @property
    def is_last_hop(self) -> bool:
        """Whether Max-Forwards lets a TRACE or OPTIONS go no further than here (RFC 9110 section 7.6.2)."""
        return self.method in ("TRACE", "OPTIONS") and self.fields.max_forwards == b"0"

    def trace(self) -> bytes:
        """The answer's body for a TRACE that ends here: the request as it came, but for what could be secret."""
        if self.method != "TRACE":
            return b""
        lines = [b"%b: %b\r\n" % (name, value) for lower, name, value in self.fields.lines if lower != b"cookie"]
        first = f"TRACE {self.raw_target} HTTP/1.{self.minor}\r\n".encode("utf-8", "surrogateescape")
        return first + b"Host: %b\r\n" % self.host + b"".join(lines) + b"\r\n"

    @property
    def path(self) -> str:
        """The raw target without its query, for records."""
        return self.raw_target.partition("?")[0]

    def read(self, max_head: int) -> None:
        """Judge target, Host and framing. Raises `Problem`."""
        fields = self.fields
        if self.major == 0:
            # This is how the parser reads a line without a version.
            raise Problem(Failure.BAD_REQUEST, "The request line names no version of HTTP.")
        if self.major != 1:
            raise Problem(Failure.HTTP_VERSION)
        if len(self.raw_target) > max_head:
            raise Problem(Failure.TARGET_TOO_LONG, f"The request target is longer than {max_head} bytes.")
        if fields.size + len(self.raw_target) > max_head:
            raise Problem(Failure.HEADERS_TOO_LARGE, f"The request's head is larger than {max_head} bytes.")
        if self.method == "CONNECT":
            raise Problem(Failure.NOT_IMPLEMENTED, "CONNECT is not supported.")
        self.length, self.is_chunked = request_length(fields, self.minor)
        self.is_framed = True
        self.target = parse_target(self.method, self.raw_target)
        self.host = self._read_host()

    def _read_host(self) -> bytes:
        host = self.fields.host
        if host is None:
            if self.minor == 1:
                raise Problem(Failure.BAD_REQUEST, "The Host header is missing.")
            host = b""
        elif host and not is_authority(host.decode("utf-8", "surrogateescape")):
            raise Problem(Failure.BAD_REQUEST, "The Host header is malformed.")
        if self.target.authority is not None:
            # RFC 9112 section 3.2.2: the target's authority replaces what Host says.
            return self.target.authority.encode("utf-8", "surrogateescape")
        return host

    @property
    def host_name(self) -> str:
        """The host without its port, as routes name it."""
        text = self.host.decode("latin-1")
        name, colon, port = text.rpartition(":")
        return name if colon and _ASCII_DIGITS.issuperset(port) else text
