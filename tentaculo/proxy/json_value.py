"""One value of a JSON document: where it is, set without touching another byte, and read from a copy of a response.

The documents come from clients and services. They are validated by msgspec, in C, and no more than one level is walked
here: the cost is some nanoseconds a byte.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

_MOST_MEMBERS: Final = 1000
"""Members of one object that are walked. A larger one is taken for no object of a request."""
_MOST_COLONS: Final = 10_000
"""Colons of a document in which a place is looked for: each may be a member, and a member takes far longer than a byte."""
_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)

_as_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_as_text = msgspec.json.Decoder(str).decode


def pointer_steps(pointer: str) -> tuple[str, ...]:
    """The names in a JSON pointer (RFC 6901)."""
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])


class JsonValue:
    """A place in a JSON object: an existing value, or one to be inserted. It belongs to the body it was found in."""

    __slots__ = ("_body", "_end", "_name", "_start", "value")

    def __init__(self, body: bytes, start: int, end: int, name: str | None, value: Any) -> None:
        self._body = body
        self._start = start
        self._end = end
        self._name = name
        """Name of the member that is missing, with which it is inserted; None where it exists."""
        self.value = value
        """The value there; None where it is null or missing."""

    @classmethod
    def find(cls, body: bytes, steps: Sequence[str]) -> JsonValue | None:
        """The place at `steps`, of which only the last may be missing.

        None where the body is no JSON object, holds the name twice, has too many members, or something else than an
        object on the way.
        """
        if body.count(b":") > _MOST_COLONS:
            return None
        start, end = 0, len(body)
        try:
            for place, step in enumerate(steps):
                opened, found = _member(body, start, end, step)
                if found is None:
                    return None if place + 1 < len(steps) else cls(body, opened, opened, step, None)
                start, end = found
            return cls(body, start, end, None, msgspec.json.decode(body[start:end]))
        except (ValueError, RecursionError):
            return None

    def set(self, text: str) -> bytes:
        """The body with `text` at this place. Every other byte is as it was."""
        value = json.dumps(text).encode()
        if self._name is not None:
            is_empty = self._body[_after_space(self._body, self._start)] == ord("}")
            value = json.dumps(self._name).encode() + b":" + value + (b"" if is_empty else b",")
        return b"".join((self._body[: self._start], value, self._body[self._end :]))


def with_texts(text: str, names: Sequence[str], change: Callable[[str], str]) -> str:
    """A JSON object with each of its members `names` as `change` makes it of the text there; all else is as it was."""
    body = text.encode("utf-8", "surrogateescape")
    for name in names:
        found = JsonValue.find(body, (name,))
        if found is not None and isinstance(found.value, str) and (changed := change(found.value)) != found.value:
            body = found.set(changed)
    return body.decode("utf-8", "surrogateescape")


def _after_space(body: bytes, start: int) -> int:
    match = _SPACE.match(body, start)
    assert match is not None
    return match.end()


def _member(body: bytes, start: int, end: int, name: str) -> tuple[int, tuple[int, int] | None]:
    """Where the members of the object at `start` begin, and where the value of the member `name` is, if there is one.

    Raises ValueError for what is no object, or has a member twice. Two readers would see different values then.
    """
    members = _as_members(memoryview(body)[start:end])
    if len(members) > _MOST_MEMBERS:
        raise ValueError("too many members")
    position = opened = _after_space(body, start) + 1
    found = None
    for known, raw in members.items():
        key = _STRING.match(body, _after_space(body, position))
        if key is None or _as_text(key[0]) != known:
            raise ValueError("a member twice")
        position = _after_space(body, _after_space(body, key.end()) + 1)
        value_end = position + len(memoryview(raw))
        if known == name:
            found = position, value_end
        position = _after_space(body, value_end) + 1
    # The value of a member that is there twice is the last one, whose length may happen to end another value.
    if members and (body[position - 1 : position] != b"}" or _after_space(body, position) < end):
        raise ValueError("a member twice")
    return opened, found


MOST_READ: Final = 64 * 1024
"""Bytes of a response that are copied, and bytes that they may become when they are decompressed."""

_MOST_GZIP_MEMBERS: Final = 100
"""Members of gzip that are read: all that follow one are copied for it."""


class ResponseCopy:
    """A response's body, as long as it is no more than 64 KiB."""

    __slots__ = ("_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, pieces: Sequence[bytes]) -> None:
        """Take what has arrived next."""
        for piece in pieces:
            if self._size <= MOST_READ:
                self._pieces.append(piece)
            self._size += len(piece)
        if self._size > MOST_READ:
            self._pieces.clear()  # the whole body is larger than what is read

    def document(self, encoding: bytes) -> Any:
        """What the whole body says in JSON; None where it is larger, or no JSON. `encoding` is its Content-Encoding."""
        if not 0 < self._size <= MOST_READ:
            return None
        data = b"".join(self._pieces)
        try:
            if encoding in (b"gzip", b"x-gzip", b"deflate"):
                data = _decompressed(data)
            elif encoding not in (b"", b"identity"):
                return None
            return _decoded(data)
        except (ValueError, RecursionError, zlib.error):
            return None


def _decompressed(data: bytes) -> bytes:
    """All members of gzip, or one stream of zlib. Raises ValueError where they are cut, too many or become too large."""
    whole = b""
    for _ in range(_MOST_GZIP_MEMBERS):
        reader = zlib.decompressobj(zlib.MAX_WBITS | 32)
        whole += reader.decompress(data, MOST_READ + 1 - len(whole))
        if not reader.eof or len(whole) > MOST_READ:
            raise ValueError("cut or too large")
        data = reader.unused_data
        if not data:
            return whole
    raise ValueError("too many members")


def _decoded(data: bytes) -> Any:
    """JSON, also with the NaN and Infinity that Python's `json` writes. Raises ValueError."""
    try:
        return msgspec.json.decode(data)
    except ValueError:
        return json.loads(data)


def value_at(document: Any, steps: Sequence[str]) -> Any:
    """What a decoded document has at `steps`; None where it has nothing there. A step into a list is a number."""
    for step in steps:
        if isinstance(document, dict):
            document = document.get(step)
        elif isinstance(document, list) and step.isascii() and step.isdigit() and len(step) < 6:
            document = document[int(step)] if int(step) < len(document) else None
        else:
            return None
    return document
