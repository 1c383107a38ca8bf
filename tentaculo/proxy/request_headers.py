"""What happens to each header, both ways. Pure: the inbound head is read, never changed; an outbound one is built.

Field lines pass as the bytes that came. Hop-by-hop fields, and whatever Connection names, are gone before ours are
added, so that a client cannot name ours (RFC 9110 section 7.6.1). `docs/headers.md` tells the same story for users.
"""

from __future__ import annotations

from tentaculo.model.failure import Failure, Problem
from tentaculo.net.http1 import Http1Error, parse_length
from tentaculo.net.response_headers import HOP_BY_HOP, Line, RawHeaders, joined_lists, split_list
from tentaculo.proxy.head_cache import CachedRequestHead
from tentaculo.proxy.header_rules import HeaderRules
from tentaculo.security.tokens import TokenCheck

# What says where a request came from is the gateway's to say.
_PROVENANCE = frozenset(
    (
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-real-ip",
        b"x-request-id",
    )
)
_CAPTURED = frozenset(
    (
        b"accept",
        b"authorization",
        b"content-length",
        b"expect",
        b"host",
        b"max-forwards",
        b"origin",
        b"via",
        b"x-vx11-token",
    )
)
_REQUEST_SPECIAL = HOP_BY_HOP | _PROVENANCE | _CAPTURED
# Captured, and replaced by what the gateway makes of them.
_REQUEST_REPLACED = frozenset((b"host", b"content-length", b"expect", b"x-vx11-token", b"authorization"))


class RequestHeaders:
    """The fields of a request: the lines that pass, and what the gateway needs to know.

    Values are raw bytes without surrounding blanks, None where absent.
    """

    __slots__ = (
        "accept",
        "authorization",
        "codings",
        "expect",
        "framing",
        "good_host",
        "host",
        "length",
        "lines",
        "max_forwards",
        "named",
        "origin",
        "passed",
        "provenance",
        "size",
        "te_trailers",
        "token",
        "upgrade",
        "verdict",
        "via",
        "wants_upgrade",
    )

    def __init__(self, raw: RawHeaders) -> None:
        """Read `raw` once. Which fields pass is decided here; which are added, in `outbound.py`."""
        self.lines: list[Line] = []
        self.size = 0
        self.accept: bytes | None = None
        self.authorization: bytes | None = None
        self.codings: list[bytes] | None = None
        self.expect: bytes | None = None
        self.host: bytes | None = None
        self.length: bytes | None = None
        self.max_forwards: bytes | None = None
        self.origin: bytes | None = None
        self.token: bytes | None = None
        self.upgrade: bytes | None = None
        self.named: set[bytes] | None = None
        self.via: list[bytes] | None = None
        self.provenance: dict[bytes, bytes] | None = None
        self.te_trailers = False
        self.wants_upgrade = False
        self.verdict: TokenCheck | None = None
        """What became of the tokens in these fields, once that was asked."""
        self.framing: tuple[int, int | None, bool] | None = None
        """Minor version, length and coding, once they were judged."""
        self.good_host: bytes | None = None
        """The host, once it was judged."""
        self.passed: CachedRequestHead | None = None
        """How these fields last went to an upstream; who keeps it knows whether it fits again."""
        lines = self.lines
        size = 0
        for name, value in raw:
            size += len(name) + len(value)
            lower = name.lower()
            if lower not in _REQUEST_SPECIAL:
                # `X_Real_IP` becomes X-Real-IP in CGI-like servers: a look-alike of a known name is dropped.
                if b"_" not in lower or lower.replace(b"_", b"-") not in _REQUEST_SPECIAL:
                    lines.append((lower, name, value))
            else:
                self._note(lower, name, value)
        self.size = size + 4 * len(raw)

    def _note(self, lower: bytes, name: bytes, value: bytes) -> None:
        match lower:
            # Repeated ones are joined: a second Host, length, token or Origin fails its check, whichever one a server
            # would have taken.
            case b"host":
                self.host = joined_lists(self.host, value)
            case b"connection":
                self._note_connection(value)
            case b"accept":
                self.accept = joined_lists(self.accept, value)
            case b"x-vx11-token":
                self.token = joined_lists(self.token, value)
            case b"authorization":
                self.authorization = joined_lists(self.authorization, value)
            case b"content-length":
                self.length = joined_lists(self.length, value)
            case b"transfer-encoding":
                self.codings = [*(self.codings or ()), value]
            case b"expect":
                self.expect = joined_lists(self.expect, value)
            case b"origin":
                self.origin = joined_lists(self.origin, value)
            case b"upgrade":
                self.upgrade = joined_lists(self.upgrade, value)
            case b"te":
                self.te_trailers = self.te_trailers or b"trailers" in split_list(value)
            case b"via":
                self.via = [*(self.via or ()), value]
            case b"max-forwards":
                self.max_forwards = value
            case _ if lower in _PROVENANCE:
                known = self.provenance = self.provenance or {}
                known[lower] = joined_lists(known.get(lower), value)
        if lower in _CAPTURED and lower not in _REQUEST_REPLACED:
            self.lines.append((lower, name, value))

    def _note_connection(self, value: bytes) -> None:
        for option in split_list(value):
            if option == b"upgrade":
                self.wants_upgrade = True
            elif option not in (b"keep-alive", b"close"):
                self.named = self.named or set()
                self.named.add(option)

    def drop_named(self) -> None:
        """Remove the fields that Connection names. Done once, before anything of ours is added."""
        if self.named is not None:
            named = self.named
            self.lines = [line for line in self.lines if line[0] not in named]
            if b"authorization" in named:
                self.authorization = None
            if b"expect" in named:
                self.expect = None


def request_length(fields: RequestHeaders, minor: int) -> tuple[int | None, bool]:
    """How a request's body is framed, as (Content-Length or None, chunked). Raises `Problem`.

    aiohttp's parser has refused most contradictions before; what it lets through is refused here: any coding but
    exactly `chunked`, a coding on HTTP/1.0 (RFC 9112 section 6.1).
    """
    if fields.codings is not None:
        if fields.length is not None or minor == 0:
            raise Problem(Failure.BAD_REQUEST, "Transfer-Encoding cannot stand beside Content-Length or in HTTP/1.0.")
        if len(fields.codings) != 1 or fields.codings[0].lower() != b"chunked":
            raise Problem(Failure.NOT_IMPLEMENTED, "The only Transfer-Encoding that is understood is chunked.")
        return None, True
    if fields.length is None:
        return None, False
    try:
        return parse_length([fields.length]), False
    except Http1Error:
        raise Problem(Failure.BAD_REQUEST, "The Content-Length is not valid.") from None


def header_block(fields: RequestHeaders, host: bytes, added: bytes, rules: HeaderRules) -> bytes:
    """The field lines that the upstream gets: Host, the client's fields, and then `added` and the route's own.

    `added` are whole lines, which give way to the route's own.
    """
    parts = [b"Host: ", host, b"\r\n"]
    extend = parts.extend
    if rules:
        for lower, name, value in fields.lines:
            if not rules.removes(lower):
                extend((name, b": ", value, b"\r\n"))
        added = rules.filter(added)
    else:
        for _, name, value in fields.lines:
            extend((name, b": ", value, b"\r\n"))
    extend((added, rules.block))
    return b"".join(parts)


def count_down(lines: list[Line], method: str) -> list[Line]:
    """`lines` with Max-Forwards one less, for the methods it is meant for (RFC 9110 section 7.6.2)."""
    if method not in ("TRACE", "OPTIONS"):
        return lines
    return [
        (lower, name, b"%d" % (int(value) - 1) if lower == b"max-forwards" and _is_count(value) else value)
        for lower, name, value in lines
    ]


def _is_count(value: bytes) -> bool:
    return value.isdigit() and len(value) < 10 and int(value) > 0
