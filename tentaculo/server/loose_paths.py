"""How loosely a server may read a path. Pure."""

from __future__ import annotations

import re

# `%u0061` is an escape to IIS.
_ESCAPE = re.compile(rb"%(?:[uU]00)?([0-9A-Fa-f]{2})")
_OVERLONG = re.compile(rb"(?:[\xc0\xc1]|\xe0[\x80\x81]|\xf0\x80[\x80\x81])[\x80-\xbf]")
"""An ASCII character in more bytes of UTF-8 than it needs, which strict readers refuse."""
_FULL_WIDTH = {0xFF00 + n: 0x20 + n for n in range(1, 0x5F)}
"""The full-width forms of ASCII, which Windows maps to it. The normalization of Unicode takes quadratic time."""
_PARAMETERS = re.compile(r";[^/]*")
_EMPTY_SEGMENTS = re.compile(r"[/\\](?:[/\\]|\.(?:[/\\]|$))+|\\")
"""Slashes, with the segments between them that lead nowhere: empty ones and `.`. No match is one plain slash."""
# Windows ignores dots and blanks at the end of a name, and `$` of many expressions matches before a line's end.
_TRAILING = re.compile(r"(?<=[^\s./\\])[\s.]+(?=[/\\]|$)")
_TRAILING_PARENT = re.compile(r"(?<=[/\\]\.\.)[\s.]+(?=[/\\]|$)")
_MOST_DECODINGS = 3
"""How often the servers behind each other on the way to a service may decode a path."""


def loosest(path: str) -> str:
    """A whole path as the least strict servers read it: they ignore a slash at its end too."""
    return read_loosely(path).rstrip("/") or "/"


def read_loosely(path: str) -> str:
    """A path as the least strict servers read it.

    It is unescaped, overlong and full-width characters are their plain ones, parameters, empty and `.` segments and what
    ends a segment in blanks or dots are gone, and case is folded. The time is in proportion to the length.
    """
    if "%" in path or not path.isascii():
        raw = path.encode("utf-8", "surrogateescape")
        for _ in range(_MOST_DECODINGS):
            before, raw = raw, _unescape(raw)
            if raw is before:
                break
        raw = _OVERLONG.sub(lambda found: bytes(((found[0][-2] & 3) << 6 | found[0][-1] & 63,)), raw)
        path = raw.decode("utf-8", "replace").translate(_FULL_WIDTH)
    path = _TRAILING_PARENT.sub("", _TRAILING.sub("", _PARAMETERS.sub("", path)))
    return _EMPTY_SEGMENTS.sub("/", path).casefold()


def _unescape(raw: bytes) -> bytes:
    """`raw` without its escapes; itself if it has none. `urllib` takes a step of Python for each `%`."""
    parts = _ESCAPE.split(raw)
    if len(parts) == 1:
        return raw
    characters = bytes.fromhex(b"".join(parts[1::2]).decode())
    parts[1::2] = [characters[i : i + 1] for i in range(len(characters))]
    return b"".join(parts)
