"""What each path leads to, and how loosely a server may read a path. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Generic, TypeVar
from urllib.parse import unquote

T = TypeVar("T")

_PARAMETERS = re.compile(r";[^/]*")
_EMPTY_SEGMENTS = re.compile(r"[/\\]+(?:\.(?:[/\\]+|$))*")
"""Slashes, with the segments between them that lead nowhere: empty ones and `.`."""
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
    """A path as the least strict servers read it: unescaped, without parameters, empty and `.` segments, case folded."""
    for _ in range(_MOST_DECODINGS):
        if "%" not in path:
            break
        path = unquote(path, "latin-1")
    return _EMPTY_SEGMENTS.sub("/", _PARAMETERS.sub("", path)).lower()
