"""The header fields of a request, classified once. Pure.

Field lines are forwarded as the received bytes. Hop-by-hop fields and the fields that Connection names are removed
before the gateway adds its own, so that a client cannot name those (RFC 9110 section 7.6.1). The table
is in `header_fields.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tentaculo.model.failure import Failure, Problem
from tentaculo.net.header_fields import (
    CONNECTION_OPTIONS,
    FORWARDING,
    KEPT,
    REQUEST_NAMES,
    Line,
    RawHeaders,
    authorizes_connection,
    joined_lists,
    split_list,
)
from tentaculo.net.http1 import Http1Error, parse_length
from tentaculo.net.session_cookie import take_out

ForwardedFields = dict[bytes, bytes]
"""The forwarding fields, such as X-Forwarded-For, by name in lower case."""

_OUTER_PREFIX = re.compile(r"(?:/[^/\\?#\s,;\"<>\x00-\x20\x7f]+)+")


_MOST_PREFIXES = 16
"""Commas of an X-Forwarded-Prefix at most: no more proxies are behind each other."""


class RequestHeaders:
    """The fields of a request: the lines that are forwarded, and the values that the gateway reads.

    Values are raw bytes without surrounding blanks, None where absent.
    """

    __slots__ = (
        "accept",
        "authorization",
        "binds_connection",
        "cached_head",
        "caller",
        "codings",
        "expect",
        "framing",
        "has_addresses",
        "host",
        "length",
        "lines",
        "max_forwards",
        "named",
        "origin",
        "provenance",
        "repeats_authorization",
        "session_cookies",
        "size",
        "te_trailers",
        "token",
        "trailer",
        "upgrade",
        "valid_host",
        "via",
        "wants_upgrade",
    )

    def __init__(self, raw: RawHeaders) -> None:
        """Read `raw` once. This decides which fields are forwarded; `proxy/request_head.py` adds the gateway's own."""
        self.lines: list[Line] = []
        self.size = 0
        self.accept: bytes | None = None
        self.authorization: bytes | None = None
        self.binds_connection = False
        """Whether Authorization authenticates the connection that it is sent on, such as NTLM."""
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
        self.has_addresses = False
        """Whether a field carries addresses, which are mapped for the service."""
        self.repeats_authorization = False
        self.session_cookies: dict[bytes, bytes] | None = None
        """The gateway's own cookies by name; they are not in `lines`."""
        self.te_trailers = False
        self.trailer: bytes | None = None
        """The names of trailer fields that it announces."""
        self.wants_upgrade = False
        self.caller: Any = None
        """Who sent these fields, by the last token check of them, kept by the access control."""
        self.framing: tuple[int, int | None, bool] | None = None
        """Minor version, Content-Length and whether the body is chunked, once validated."""
        self.valid_host: bytes | None = None
        """The Host value, once validated."""
        self.cached_head: object | None = None
        """The upstream's request head made from these fields, kept by the proxy."""
        lines = self.lines
        size = 0
        for name, value in raw:
            size += len(name) + len(value)
            lower = name.lower()
            if lower not in REQUEST_NAMES:
                # `X_Real_IP` becomes X-Real-IP in CGI-like servers: a name that differs from a listed one in `_` only is dropped.
                if b"_" not in lower or lower.replace(b"_", b"-") not in REQUEST_NAMES:
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
                self.repeats_authorization = self.authorization is not None
                self.authorization = joined_lists(self.authorization, value)
                self.binds_connection = authorizes_connection(self.authorization)
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
            case b"trailer":
                self.trailer = joined_lists(self.trailer, value)
            case b"via":
                self.via = [*(self.via or ()), value]
            case b"destination" | b"if" | b"upload-concat":
                self.has_addresses = True
            case b"max-forwards":
                self.max_forwards = value
            case b"cookie":
                value, found = take_out(value)
                for own, text in found.items():
                    self.session_cookies = self.session_cookies or {}
                    if self.session_cookies.setdefault(own, text) != text:
                        self.session_cookies[own] = b""
                if found and not value:
                    return
            case _ if lower in FORWARDING:
                known = self.provenance = self.provenance or {}
                known[lower] = joined_lists(known.get(lower), value)
        if lower in KEPT:
            self.lines.append((lower, name, value))

    def _note_connection(self, value: bytes) -> None:
        named = set(split_list(value))
        self.wants_upgrade = self.wants_upgrade or b"upgrade" in named
        named -= CONNECTION_OPTIONS
        if named:
            self.named = named if self.named is None else self.named | named

    def drop_named(self) -> None:
        """Remove the fields that Connection names. Done once, before anything of ours is added."""
        if self.named is not None:
            named = self.named
            self.lines = [line for line in self.lines if line[0] not in named]
            if b"authorization" in named:
                self.authorization = None
            if b"expect" in named:
                self.expect = None
            if b"trailer" in named:
                self.trailer = None


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


def outer_prefix(known: Mapping[bytes, bytes]) -> str:
    """The prefix in a trusted proxy's X-Forwarded-Prefix, the parts of a list joined; empty where it is no path.

    A value such as `//evil.example` would turn a path into the name of another host.
    """
    stated = known.get(b"x-forwarded-prefix")
    if stated is None or stated.count(b",") > _MOST_PREFIXES:
        return ""
    parts = stated.decode("utf-8", "surrogateescape").split(",")
    prefix = "".join([part.strip().rstrip("/") for part in parts])
    return prefix if _OUTER_PREFIX.fullmatch(prefix) is not None else ""
