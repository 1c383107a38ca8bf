"""Request lines, as far as aiohttp's parser is too narrow for them or too lenient with them.

llhttp knows a fixed list of methods and only ASCII in a target, where RFC 9112 allows any method token and UTF-8 is
sent by many. Such a line is put in words that it knows before it is parsed, and what was really said is put back into
the message. It also takes several blanks for one, and this is refused. The fields behind a line are judged by the one
parser.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Self

from tentaculo.model.failure import Failure, Problem

_STANDARD = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"))
_USUAL = re.compile(rb"(?:%b) [!-~]+ HTTP/1\.[01]\r\n" % b"|".join(sorted(_STANDARD))).match
# No longer than what a log line and a server's own table of methods take.
_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}) ((?:/|(?i:https?)://)[\x21-\x7e\x80-\xff]*) HTTP/1\.[01]\r\n")
_BEGINNING = re.compile(rb"\r\Z|[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}(?: |\Z)")
_OTHER_VERSION = re.compile(rb" HTTP/(?!1\.[01]\r)[0-9]\.[0-9]\r\n\Z")
_HIGH = re.compile(rb"[\x80-\xff]")


class RequestLine(NamedTuple):
    """A line that aiohttp's parser would refuse."""

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


def is_usual(data: bytes) -> bool:
    """Whether a request that begins with `data` has a line that is well formed and that the parser takes."""
    return _USUAL(data) is not None


def is_unfinished(data: bytes, position: int) -> bool:
    """Whether what begins at `position` may become a request line that has not ended yet."""
    return data.find(b"\n", position) < 0 and _BEGINNING.match(data, position) is not None


def _check(line: bytes) -> None:
    if b"  " in line:
        # Where a server takes each blank for a separator, the target begins elsewhere.
        raise Problem(Failure.BAD_REQUEST, "The request line holds more than one blank in a row.")
    if _OTHER_VERSION.search(line) is not None:
        raise Problem(Failure.HTTP_VERSION)
