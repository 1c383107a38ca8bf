"""What happens to each header field that is not simply forwarded, by its name; and the fields of a response, classified.

The parsers of requests and responses, and the tables of `docs/headers.md`, are made from this one table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple, TypeVar

from tentaculo.net import session_cookie
from tentaculo.net.http1 import field_name

T = TypeVar("T")


class Kind(Enum):
    """How a field is handled. The value ends with what the document says in its column "passes"."""

    DROPPED = ("dropped", "no")
    """For one hop only (RFC 9110 section 7.6.1; Proxy-Connection and Keep-Alive by custom)."""
    REMADE = ("remade", "rewritten")
    """For one hop only, and written new for the next one where it applies."""
    FORWARDING = ("forwarding", "rewritten")
    """Says where a request came from; the gateway writes these itself."""
    REPLACED = ("replaced", "rewritten")
    """Read, and replaced by what the gateway makes of it."""
    READ = ("read", "yes")
    """Passes, and is read too."""
    ADDRESS = ("address", "mapped")
    """Passes; the addresses in it are mapped (`proxy/address_mapping.py`)."""

    @property
    def passes(self) -> str:
        """Whether the field passes, in a word."""
        return self.value[1]


class Field(NamedTuple):
    """A header field with its own handling."""

    name: str
    kind: Kind
    text: str
    """For the document: what the receiver gets."""


REQUEST_FIELDS = (
    Field(
        "Connection",
        Kind.DROPPED,
        "only `Upgrade` or `TE`, where those two pass; the headers that it names are removed too",
    ),
    Field("Keep-Alive", Kind.DROPPED, ""),
    Field("Proxy-Connection", Kind.DROPPED, ""),
    Field("HTTP2-Settings", Kind.DROPPED, "no connection is upgraded to `h2c`"),
    Field("Proxy-Authenticate", Kind.DROPPED, ""),
    Field("Proxy-Authorization", Kind.DROPPED, ""),
    Field(
        "Trailer",
        Kind.REMADE,
        "with a chunked body the names of those that pass, and these trailers with it: not those that frame, route, control or condition a message, nor those that this table lists. Trailers that it does not announce are dropped",
    ),
    Field("TE", Kind.REMADE, "`TE: trailers` if the client sent it, else nothing"),
    Field("Transfer-Encoding", Kind.REMADE, "`chunked` where the client's was; any other coding is refused (400, 501)"),
    Field(
        "Upgrade",
        Kind.REMADE,
        "only the protocols that the route lists in `upgrades` (`websocket` by default, by GET), with HTTP/1.1 and `Connection: upgrade`",
    ),
    Field(
        "Content-Length", Kind.REPLACED, "the same number; both framings, two lengths, signs or lists are refused (400)"
    ),
    Field(
        "Host",
        Kind.REPLACED,
        "the client's, from an absolute target before the header; the service's `host` if it has one; the service's own address where an HTTP/1.0 client named none",
    ),
    Field(
        "Expect",
        Kind.REPLACED,
        "unchanged; none from HTTP/1.0. The service decides: its 100 is relayed, and after its refusal the body is not sent",
    ),
    Field("X-VX11-Token", Kind.REPLACED, "the client's token is removed; the service gets its own token, or none"),
    Field(
        "Authorization",
        Kind.REPLACED,
        "unchanged, unless a token of the gateway is in it, in any scheme; never with TRACE; a repeated one is refused (400). With `NTLM`, `Negotiate`, `Kerberos`, `Nego2` or `CredSSP` the connection to the service belongs to one client connection",
    ),
    Field("X-Forwarded-For", Kind.FORWARDING, "the peer's address; appended to the value of a trusted peer"),
    Field(
        "X-Forwarded-Proto", Kind.FORWARDING, "the scheme of the client's connection, or the value of a trusted peer"
    ),
    Field("X-Forwarded-Host", Kind.FORWARDING, "the client's Host, or the value of a trusted peer"),
    Field(
        "X-Forwarded-Port",
        Kind.FORWARDING,
        "the port of the gateway, or the value of a trusted peer; if that peer names only host or scheme, the port that these or the `Host` imply",
    ),
    Field(
        "X-Forwarded-Prefix",
        Kind.FORWARDING,
        "the prefix that the route removed or replaced, after the value of a trusted peer if that is a path",
    ),
    Field(
        "X-Original-URL",
        Kind.FORWARDING,
        "the value of a trusted peer, else none: some frameworks serve the path in it, which no route has judged",
    ),
    Field("X-Rewrite-URL", Kind.FORWARDING, "as `X-Original-URL`"),
    Field(
        "X-Real-IP",
        Kind.FORWARDING,
        "the peer's address; from a trusted peer its own value, else the last address of its `X-Forwarded-For`, without a port",
    ),
    Field(
        "Forwarded", Kind.FORWARDING, "one element, `for`, `host` and `proto`, appended to the value of a trusted peer"
    ),
    Field(
        "X-Request-ID",
        Kind.FORWARDING,
        "a new one, or a trusted peer's if it is plain (letters, digits, `_.:+/=-`, 128 at most)",
    ),
    Field(
        "Via",
        Kind.READ,
        "one more entry is added: the client's version and the gateway's name; a request that already has this name is a loop (508). With `via = false` of the route the gateway adds none",
    ),
    Field("Max-Forwards", Kind.READ, "reduced by one for TRACE and OPTIONS; at 0 the gateway responds itself"),
    Field(
        "Cookie",
        Kind.READ,
        "also read here: the cookies of a sign-in to the status page, `tentaculo_session` and `__Host-tentaculo_session`, are removed",
    ),
    Field("Accept", Kind.READ, "also read here, for the format of the gateway's own errors"),
    Field("Origin", Kind.READ, "also read here, for CORS and for opening a WebSocket"),
    Field("Destination", Kind.ADDRESS, "a reference (WebDAV); one that leads outside the route is refused (400)"),
    Field("If", Kind.ADDRESS, "the resource of each tagged list (WebDAV); lock tokens and entity tags stay"),
    Field("Upload-Concat", Kind.ADDRESS, "each reference (tus); one that leads outside the route is refused (400)"),
)
"""Fields of a request."""
_KEEP_ALIVE = (
    "also read here: `timeout` says how long the service keeps an idle connection. With `timeout=0` or `max=0` it is not"
    " used again"
)
RESPONSE_FIELDS = (
    Field(
        "Connection",
        Kind.REMADE,
        "`close` or, for HTTP/1.0, `keep-alive`, for the client's connection; the headers that it names are removed",
    ),
    Field("Keep-Alive", Kind.DROPPED, _KEEP_ALIVE),
    Field("Proxy-Connection", Kind.DROPPED, ""),
    Field(
        "Proxy-Support",
        Kind.REMADE,
        "`Session-Based-Authentication` with a 401 that offers `NTLM` or another of the schemes above (RFC 4559 section 6)",
    ),
    Field("Proxy-Authenticate", Kind.DROPPED, ""),
    Field("Proxy-Authorization", Kind.DROPPED, ""),
    Field("TE", Kind.DROPPED, ""),
    Field("Alt-Svc", Kind.DROPPED, "it names a port of the service, to which clients would go past the gateway"),
    Field(
        "Trailer",
        Kind.REMADE,
        "unchanged for a client that sent `TE: trailers`, and the trailers of a chunked body with it, except those that frame, route or control a message; else none, and the trailers are dropped",
    ),
    Field("Upgrade", Kind.REMADE, "with a 101 that the client requested, and with 426, which requires it"),
    Field(
        "Transfer-Encoding",
        Kind.REMADE,
        "`chunked` where the length is not known; any other coding of the service but `identity` is 502; for an HTTP/1.0 client the end of the connection ends the body",
    ),
    Field(
        "Content-Length",
        Kind.REPLACED,
        "the same number; none with 204 and 1xx, nor beside a `Transfer-Encoding`; an impossible one is 502",
    ),
    Field("X-Request-ID", Kind.REPLACED, "the id of the request"),
    Field("X-Correlation-Id", Kind.REPLACED, "the same value as `X-Request-ID`"),
    Field(
        "WWW-Authenticate",
        Kind.ADDRESS,
        "`resource_metadata` (RFC 9728), and the `realm` of `Bearer` where it is a URL, as of container registries, and each reference in the `domain` of `Digest`; also read here: with `NTLM` or another of the schemes above the connection to the service belongs to one client connection",
    ),
    Field(
        "Persistent-Auth",
        Kind.READ,
        "also read here: with `true` the connection to the service belongs to one client connection",
    ),
    Field("Content-Type", Kind.READ, "also read here: `text/event-stream` has no idle limit"),
    Field("Date", Kind.READ, "added where the service sends none"),
    Field("Location", Kind.ADDRESS, "a reference"),
    Field(
        "Set-Cookie",
        Kind.ADDRESS,
        "`Path` and `Domain`; each cookie separately. A cookie whose name begins with `__Host-` stays as it is, since browsers take it only with `Path=/`. A `Domain` that covers a name of the service and not the client's host is removed. One with the name of the gateway's own cookie is dropped",
    ),
    Field("Content-Location", Kind.ADDRESS, "a reference"),
    Field("Link", Kind.ADDRESS, "each `<reference>`, and `anchor`; also in a 103"),
    Field("Refresh", Kind.ADDRESS, "the reference after the seconds"),
    Field("Service-Worker-Allowed", Kind.ADDRESS, "a path"),
    Field("SourceMap", Kind.ADDRESS, "a reference"),
    Field("X-SourceMap", Kind.ADDRESS, "a reference"),
    Field("Operation-Location", Kind.ADDRESS, "a reference, of an operation that lasts"),
    Field("Azure-AsyncOperation", Kind.ADDRESS, "a reference, of an operation that lasts"),
    Field("X-Pingback", Kind.ADDRESS, "a reference"),
    Field("Reporting-Endpoints", Kind.ADDRESS, "each string"),
    Field("Report-To", Kind.ADDRESS, "each `url` in the JSON"),
    Field("Content-Security-Policy", Kind.ADDRESS, "each source that names a host, and `report-uri`"),
    Field("Content-Security-Policy-Report-Only", Kind.ADDRESS, "as `Content-Security-Policy`"),
    Field("Speculation-Rules", Kind.ADDRESS, "each string"),
    Field("Upload-Concat", Kind.ADDRESS, "each reference (tus)"),
    Field("HX-Redirect", Kind.ADDRESS, "a reference (htmx)"),
    Field("HX-Location", Kind.ADDRESS, "a reference, or JSON with one in `path`, `push` or `replace` (htmx)"),
    Field("HX-Push-Url", Kind.ADDRESS, "a reference (htmx)"),
    Field("HX-Replace-Url", Kind.ADDRESS, "a reference (htmx)"),
    Field("X-Inertia-Location", Kind.ADDRESS, "a reference (Inertia)"),
    Field("Turbolinks-Location", Kind.ADDRESS, "a reference (Turbolinks)"),
    Field("X-Pjax-Url", Kind.ADDRESS, "a reference (pjax)"),
    Field("X-Up-Location", Kind.ADDRESS, "a reference (Unpoly)"),
)
"""Fields of a response."""


def _names(fields: tuple[Field, ...], *kinds: Kind) -> frozenset[bytes]:
    return frozenset(field.name.lower().encode() for field in fields if not kinds or field.kind in kinds)


REQUEST_NAMES = _names(REQUEST_FIELDS)
"""In lower case, as all names here."""
FORWARDING = _names(REQUEST_FIELDS, Kind.FORWARDING)
KEPT = _names(REQUEST_FIELDS, Kind.READ, Kind.ADDRESS)
"""Fields of a request that are read, and pass."""
RESPONSE_NAMES = _names(RESPONSE_FIELDS)
RESPONSE_ADDRESSES = _names(RESPONSE_FIELDS, Kind.ADDRESS)


def table(fields: tuple[Field, ...], receiver: str) -> Iterator[str]:
    """The lines of the document's table."""
    yield f"| header | passes | what the {receiver} gets |"
    yield "|---|---|---|"
    for field in fields:
        yield (
            f"| `{field.name}` | {field.kind.passes} | {field.text} |"
            if field.text
            else f"| `{field.name}` | {field.kind.passes} | |"
        )


CONNECTION_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade"))
"""What Connection says that is no name of a field."""
RawHeaders = Sequence[tuple[bytes, bytes]]
Line = tuple[bytes, bytes, bytes]
"""A field as (name in lower case, name, value)."""


def split_list(value: bytes) -> list[bytes]:
    """The members of a comma-separated field value, in lower case."""
    # There may be thousands: no step of Python for each.
    return list(filter(None, map(bytes.strip, value.lower().split(b","))))


def joined_lists(before: bytes | None, value: bytes) -> bytes:
    """Two values of one list field as one value (RFC 9110 section 5.3)."""
    return value if before is None else before + b", " + value


_TIMEOUT = re.compile(rb"(?:^|[,; \t])timeout[ \t]*=[ \t]*\"?([0-9]{1,9})(?![0-9])", re.IGNORECASE)
_LAST = re.compile(rb"(?:^|[,; \t])(?:timeout|max)[ \t]*=[ \t]*\"?0+(?![0-9])", re.IGNORECASE)
"""A `Keep-Alive` that leaves the connection no time, or no further request."""
_CONNECTION_SCHEMES = rb"ntlm|negotiate|kerberos|nego2|credssp"
"""The schemes of Windows: RFC 4559 section 6, [MS-N2HT], and those of WinRM."""
_AUTHORIZES_CONNECTION = re.compile(rb"(?:%b)(?=[ \t,]|$)" % _CONNECTION_SCHEMES, re.IGNORECASE)
_OFFERS_CONNECTION = re.compile(rb"(?:^|,)[ \t]*(?:%b)(?=[ \t,]|$)" % _CONNECTION_SCHEMES, re.IGNORECASE)


def authorizes_connection(authorization: bytes) -> bool:
    """Whether an Authorization authenticates the connection that it is sent on (RFC 4559 section 6)."""
    return _AUTHORIZES_CONNECTION.match(authorization) is not None


def offers_connection(challenges: bytes) -> bool:
    """Whether a WWW-Authenticate offers a scheme that authenticates the connection."""
    return _OFFERS_CONNECTION.search(challenges) is not None


def _with(found: list[T] | None, item: T) -> list[T]:
    # A new list for each would take quadratic time: a response may have thousands of fields of one name.
    if found is None:
        return [item]
    found.append(item)
    return found


class ResponseHeaders:
    """The fields of a response: the lines that pass, and what framing and rewriting need."""

    __slots__ = (
        "addresses",
        "binds_connection",
        "close",
        "codings",
        "content_type",
        "has_date",
        "keep_alive",
        "keep_alive_timeout",
        "lengths",
        "lines",
        "relayed",
        "trailer",
        "upgrade",
    )

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Read `fields`, each as (whole line, name). Lines are kept as they came."""
        self.binds_connection = False
        """Whether it offers, ends or confirms an authentication of the connection itself, such as NTLM."""
        self.close = False
        self.has_date = False
        self.keep_alive = False
        self.keep_alive_timeout: int | None = None
        """Seconds after which the service closes the connection if it idles, by its `Keep-Alive: timeout`."""
        self.codings: list[bytes] | None = None
        self.lengths: list[bytes] | None = None
        self.content_type: bytes | None = None
        self.trailer: bytes | None = None
        """The names of trailer fields that it announces."""
        self.upgrade: bytes | None = None
        self.lines: list[bytes] = []
        self.addresses: list[int] | None = None
        """Positions in `lines` of the fields that carry addresses."""
        self.relayed: object | None = None
        """The head that a client last got for these fields; the writer of it knows whether it fits another."""
        named: set[bytes] = set()
        for line, name in fields:
            lower = name.lower()
            if lower not in RESPONSE_NAMES:
                # A look-alike of a known name is dropped, as in requests: the next reader may take it for that.
                if b"_" not in lower or lower.replace(b"_", b"-") not in RESPONSE_NAMES:
                    self.lines.append(line)
            else:
                self._note(lower, line, line[len(name) + 1 :].strip(b" \t\r\n"), named)
        if self.codings is not None and (self.lengths is not None or [c.lower() for c in self.codings] != [b"chunked"]):
            # Another reader may see the end of the body elsewhere, so nothing follows it (RFC 9112 section 6.3).
            self.close = True
        if named:
            self.has_date = self.has_date and b"date" not in named
            self.lines = [line for line in self.lines if field_name(line) not in named]
            self.addresses = [i for i, line in enumerate(self.lines) if field_name(line) in RESPONSE_ADDRESSES]

    def _note(self, lower: bytes, line: bytes, value: bytes, named: set[bytes]) -> None:
        if lower == b"content-length":
            self.lengths = _with(self.lengths, value)
        elif lower == b"content-type":
            self.content_type = value
            self.lines.append(line)
        elif lower == b"connection":
            options = set(split_list(value))
            self.close = self.close or b"close" in options
            self.keep_alive = self.keep_alive or b"keep-alive" in options
            named |= options - CONNECTION_OPTIONS
        elif lower == b"keep-alive":
            timeout = _TIMEOUT.search(value)
            self.keep_alive_timeout = int(timeout[1]) if timeout is not None else None
            self.close = self.close or _LAST.search(value) is not None
        elif lower == b"set-cookie" and session_cookie.is_set_by(value):
            return  # a service signs nobody in or out
        elif lower in RESPONSE_ADDRESSES:
            if lower == b"www-authenticate":
                self.binds_connection = self.binds_connection or offers_connection(value)
            self.addresses = _with(self.addresses, len(self.lines))
            self.lines.append(line)
        elif lower == b"transfer-encoding":
            self.codings = _with(self.codings, value)
        elif lower == b"persistent-auth":
            self.binds_connection = self.binds_connection or value.lower() != b"false"
            self.lines.append(line)
        elif lower == b"date":
            self.has_date = True
            self.lines.append(line)
        elif lower == b"trailer":
            self.trailer = joined_lists(self.trailer, value)
        elif lower == b"upgrade":
            self.upgrade = joined_lists(self.upgrade, value)

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is Server-Sent Events: no silence limit then."""
        return self.content_type is not None and self.content_type[:17].lower() == b"text/event-stream"
