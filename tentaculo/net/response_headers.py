"""The header fields of an upstream's response, classified once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tentaculo.net.header_table import RESPONSE_ADDRESSES, RESPONSE_NAMES
from tentaculo.net.http1 import field_name

RawHeaders = Sequence[tuple[bytes, bytes]]
Line = tuple[bytes, bytes, bytes]
"""A field as (name in lower case, name, value)."""


def split_list(value: bytes) -> list[bytes]:
    """The members of a comma-separated field value, in lower case."""
    return [item.strip().lower() for item in value.split(b",") if item.strip()]


def joined_lists(before: bytes | None, value: bytes) -> bytes:
    """Two values of one list field as one value (RFC 9110 section 5.3)."""
    return value if before is None else before + b", " + value


_TIMEOUT = re.compile(rb"(?:^|[,; \t])timeout[ \t]*=[ \t]*\"?([0-9]{1,9})(?![0-9])", re.IGNORECASE)
_BINDS_CONNECTION = re.compile(rb"(?:^|,)[ \t]*(?:ntlm|negotiate)(?=[ \t,]|$)", re.IGNORECASE)


def binds_connection(value: bytes) -> bool:
    """Whether a WWW-Authenticate or Authorization names a scheme that authenticates the connection (RFC 4559 section 6)."""
    return _BINDS_CONNECTION.search(value) is not None


class ResponseHeaders:
    """The fields of an answer: the lines that pass, and what framing and rewriting need."""

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
        """Whether it offers or ends an authentication of the connection itself: NTLM, Negotiate."""
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
            self.lengths = [*(self.lengths or ()), value]
        elif lower == b"content-type":
            self.content_type = value
            self.lines.append(line)
        elif lower == b"connection":
            for option in split_list(value):
                if option == b"close":
                    self.close = True
                elif option == b"keep-alive":
                    self.keep_alive = True
                elif option != b"upgrade":
                    named.add(option)
        elif lower == b"keep-alive":
            timeout = _TIMEOUT.search(value)
            self.keep_alive_timeout = int(timeout[1]) if timeout is not None else None
        elif lower in RESPONSE_ADDRESSES:
            self.addresses = [*(self.addresses or ()), len(self.lines)]
            self.lines.append(line)
        elif lower == b"transfer-encoding":
            self.codings = [*(self.codings or ()), value]
        elif lower == b"www-authenticate":
            self.binds_connection = self.binds_connection or binds_connection(value)
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
