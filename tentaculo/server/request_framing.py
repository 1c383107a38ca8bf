"""Message boundaries and request lines in the bytes of a client: what must be known before aiohttp's parser reads them.

aiohttp's parser takes bytes and returns requests, without the positions at which they end. It is therefore fed in
pieces that end where a head or a body ends. An error in one request then loses no earlier request, and the bytes behind
an upgrade are known. The parser still sees every byte, in order.

The parser knows a fixed list of methods, and only ASCII in a target. RFC 9112 allows any method token, and many clients
send UTF-8. Such a request line is replaced by one that the parser accepts, and the message gets the original line back.
The parser also accepts several blanks in a row, which is refused here. It alone reads the header fields.
"""

from __future__ import annotations

import re
import sys
from typing import NamedTuple, Self

from tentaculo.model.failure import Failure, Problem

SLICE = 16 * 1024
"""Bytes of a piece in which nothing ends, so that what is not payload in a chunked body can be counted."""
HEAD_END = b"\r\n\r\n"
_EMPTY_LINES = tuple(b"\r\n" * count for count in (1024, 32, 1))
# Compared by the block: one by one, each empty line would take as long as hundreds of other bytes.


class MessageBoundaries:
    """Follows one connection. For each piece: `cut` it, feed it to the parser, then call the method for the result."""

    __slots__ = ("_due", "is_at_start", "partial")

    def __init__(self) -> None:
        self._due = 0  # bytes of a body that are still to come
        self.partial = b""
        """The last bytes of a head, or of a chunked body, that has not ended."""
        self.is_at_start = True
        """Whether the next byte is certainly the first of a request."""

    def __repr__(self) -> str:
        return f"<MessageBoundaries {'at a start' if self.is_at_start else f'{self._due} due'}>"

    @property
    def is_lost(self) -> bool:
        """Whether it is not known where requests begin and end."""
        return self._due > sys.maxsize // 2

    def skip_empty_lines(self, data: bytes, position: int) -> int:
        """Where the request before which `position` is begins (RFC 9112 section 2.2)."""
        for block in _EMPTY_LINES:
            while data.startswith(block, position):
                position += len(block)
        return position

    def cut(self, data: bytes, position: int) -> int:
        """Where the piece of `data` that begins at `position` ends."""
        if self._due:
            return min(position + self._due, len(data))
        # An empty line ends a head and a chunked body alike; one within a chunk makes one more piece, and no harm.
        limit = min(position + SLICE, len(data))
        if self.partial:
            # The empty line may have begun in what came before.
            found = (self.partial + data[position : position + 3]).find(HEAD_END)
            if found >= 0:
                return position + found + 4 - len(self.partial)
        found = data.find(HEAD_END, position, limit)
        return limit if found < 0 else found + 4

    def continued(self, piece: bytes) -> None:
        """No request began in `piece`, and no chunked body ended in it."""
        if self._due:
            self._due -= len(piece)
            self.is_at_start = not self._due
        elif piece:
            self.partial = (self.partial + piece)[-3:]
            self.is_at_start = False

    def ended(self, piece: bytes) -> None:
        """A request without a body, or the rest of a chunked one, ended in `piece`."""
        # No part of a head ends with an empty line.
        self.is_at_start = (self.partial + piece).endswith(HEAD_END)
        self.partial = b"" if self.is_at_start else piece[-3:]

    def began(self, due: int | None) -> None:
        """A body has begun, of which `due` bytes are still to come; None where it is chunked."""
        self._due = due or 0
        self.partial = b""
        self.is_at_start = False

    def lost(self) -> None:
        """The parser holds bytes back, or another reader takes the connection: boundaries are unknown from here."""
        self._due = sys.maxsize
        self.is_at_start = False


_STANDARD = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"))
is_usual = re.compile(rb"(?:%b) [!-~]+ HTTP/1\.[01]\r\n" % b"|".join(sorted(_STANDARD))).match
"""Whether a request that begins with some bytes has a line that is valid and that the parser takes."""
# No longer than what a log line and a server's own table of methods take.
_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}) ((?:/|(?i:https?)://)[\x21-\x7e\x80-\xff]*) HTTP/1\.[01]\r\n")
_BEGINNING = re.compile(rb"\r\Z|[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}(?: |\Z)")
_OTHER_VERSION = re.compile(rb" HTTP/(?!1\.[01]\r)[0-9]\.[0-9]\r\n\Z")
_HIGH = re.compile(rb"[\x80-\xff]")


class RequestLine(NamedTuple):
    """A request line that aiohttp's parser would refuse."""

    method: str
    target: str
    """As it came."""
    plain: bytes
    """The same line as the parser takes it: GET for a method it may not know, and escapes for what is not ASCII."""
    length: int
    """Bytes of the line that `plain` replaces."""

    @classmethod
    def find(cls, data: bytes) -> Self | None:
        """The line at the start of `data`, where a request begins, if it is one of these; None leaves it as it is.

        Raises `Problem` for one that the parser would take although it must not, and for another version of HTTP.
        """
        if is_usual(data):
            return None
        match = _LINE.match(data)
        if match is None:
            _check(data[: data.find(b"\r\n") + 2])
            return None
        method, target = match.groups()
        is_known = method in _STANDARD
        # `get` is another method than GET, but not every server knows that.
        if (is_known and target.isascii()) or (not is_known and method.upper() in _STANDARD):
            return None
        try:
            text = target.decode("utf-8")
        except UnicodeDecodeError:
            return None
        escaped = _HIGH.sub(lambda byte: b"%%%02X" % byte[0][0], target)
        line = match[0]
        plain = (method if is_known else b"GET") + b" " + escaped + line[len(method) + len(target) + 1 :]
        return cls(method.decode("ascii"), text, plain, len(line))


def is_unfinished(data: bytes, position: int) -> bool:
    """Whether what begins at `position` may become a request line that has not ended yet."""
    return data.find(b"\n", position) < 0 and _BEGINNING.match(data, position) is not None


def _check(line: bytes) -> None:
    if b"  " in line:
        # Where a server takes each blank for a separator, the target begins elsewhere.
        raise Problem(Failure.BAD_REQUEST, "The request line holds more than one blank in a row.")
    if _OTHER_VERSION.search(line) is not None:
        raise Problem(Failure.HTTP_VERSION)
