"""Request lines that RFC 9112 allows and aiohttp's parser does not: any method token, and UTF-8 in the target.

llhttp knows a fixed list of methods and only ASCII in a target. Such a line is put in words that it knows before it
is parsed, and what was really said is put back into the message. The fields behind it are judged by the one parser.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Self

_STANDARD = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"))
# No longer than what a log line and a server's own table of methods take.
_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}) (/[\x21-\x7e\x80-\xff]*) HTTP/1\.[01]\r\n")
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
        """The line at the start of `data`, where a request begins, if it is one of these; None leaves it as it is."""
        if is_usual(data):
            return None
        match = _LINE.match(data)
        if match is None:
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
    """Whether a request that begins with `data` has, as far as a quick look tells, a line that the parser takes."""
    return data[: data.find(b" ", 0, 8)] in _STANDARD and data.isascii()
