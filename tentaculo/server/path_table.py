"""What each path leads to, and how loosely a server may read a path. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

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
_SEGMENT = re.compile(r"\{(\w+)\}")


class PathTable(Generic[T]):
    """What each path leads to: whole paths, whole paths with changing segments, and prefixes."""

    __slots__ = ("_exact", "_found", "_longest", "_patterns")

    def __init__(self) -> None:
        self._exact: dict[str, T] = {}
        self._patterns: list[tuple[re.Pattern[str], T]] = []
        self._found: dict[str, T] = {}
        self._longest = 0

    def add(self, path: str, found: T, *, is_exact: bool, fold: Callable[[str], str] = str) -> None:
        """Add what a prefix, or a whole path if it `is_exact`, leads to; the first one of a path stays.

        `fold` was applied to `path` and to what it is matched with.
        """
        if not is_exact:
            prefix = path.rstrip("/") or "/"
            self._found.setdefault(prefix, found)
            self._longest = max(self._longest, len(prefix))
        elif "{" in path:
            pattern = "".join(
                "[^/]+" if number % 2 else re.escape(fold(part)) for number, part in enumerate(_SEGMENT.split(path))
            )
            self._patterns.append((re.compile(pattern), found))
        else:
            self._exact.setdefault(path, found)

    def find(self, path: str) -> T | None:
        """The route of the whole path, else of the longest prefix of whole segments."""
        if path in self._exact:
            return self._exact[path]
        for pattern, found in self._patterns:
            if pattern.fullmatch(path) is not None:
                return found
        # However long a path is, only the start of it can be a prefix.
        prefix = path[: self._longest + 1]
        if prefix != path:
            prefix = prefix[: prefix.rfind("/")]
        while prefix:
            if prefix in self._found:
                return self._found[prefix]
            cut = prefix.rfind("/")
            prefix = prefix[:cut] if cut > 0 else ""
        return self._found.get("/")


def fill(template: str, pattern: str, path: str) -> str:
    """`template` with each `{name}` replaced by the segment of `path` at which `pattern` has it."""
    values = {
        name[1]: value
        for written, value in zip(pattern.split("/"), path.split("/"), strict=False)
        if (name := _SEGMENT.fullmatch(written)) is not None
    }
    return _SEGMENT.sub(lambda name: values.get(name[1], name[0]), template)


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
