"""How servers read requests: one as RFC 9112 says and no other way, and several as careless ones are known to do.

Written without a look at the gateway's own parsers: where they agree with this, two have read the standard alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%b) ([!-~\x80-\xff]+) HTTP/1\.([01])" % _TOKEN)
FIELD = re.compile(rb"(%b):[ \t]*((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)[ \t]*" % _TOKEN)
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED))
MOST_DIGITS = 18
"""Of a length: what is longer is over any limit."""
MOST_CHUNK = 2**64


class BrokenError(Exception):
    """Not a request by RFC 9112. `where` is `head` or `body`."""

    word = "broken"

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where


class IncompleteError(Exception):
    """The bytes end before the message. `where` is `head` or `body`."""

    word = "incomplete"

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where


@dataclass
class Message:
    """A request as a reader understood it."""

    method: bytes
    target: bytes
    minor: int
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    end: int = 0
    """Position behind it."""

    def values(self, name: bytes) -> list[bytes]:
        """Every value of a field, in order; `name` in lower case."""
        return [value for key, value in self.fields if key.lower() == name]

    @property
    def stays(self) -> bool:
        """Whether its sender means to use the connection again (RFC 9112 section 9.3)."""
        options = [option.strip().lower() for value in self.values(b"connection") for option in value.split(b",")]
        if b"close" in options:
            return False
        return self.minor == 1 or b"keep-alive" in options


@dataclass
class Reading:
    """What a reader made of one connection's bytes."""

    messages: list[Message] = field(default_factory=list)
    tail: str = "open"
    """`open` at the end of a message, `closed` behind one that was to be the last, else `broken head`, `broken body`,
    `incomplete head` or `incomplete body`."""
    last: Message | None = None
    """The one whose body is broken or incomplete."""


# -- the strict reader ---------------------------------------------------------------------------------------------


def read_head(raw: bytes, start: int) -> Message:
    """The head at `start`, strictly. Raises `BrokenError` and `IncompleteError`."""
    while raw.startswith((b"\r\n", b"\n"), start):
        start = raw.index(b"\n", start) + 1  # RFC 9112 section 2.2: empty lines before a request line are skipped
    end = raw.find(b"\r\n\r\n", start)
    lines = raw[start : end if end >= 0 else len(raw)].split(b"\r\n")
    if end < 0 and not raw[start:]:
        raise IncompleteError("head")
    whole = lines if end >= 0 else lines[:-1]
    if any(b"\n" in line or b"\r" in line.removesuffix(b"\r" if end < 0 else b"") for line in lines):
        raise BrokenError("head")
    first = _REQUEST_LINE.fullmatch(whole[0]) if whole else None
    if whole and first is None:
        raise BrokenError("head")
    fields = []
    for line in whole[1:]:
        match = FIELD.fullmatch(line)
        if match is None:
            raise BrokenError("head")
        fields.append((match[1], match[2]))
    if end < 0 or first is None:
        raise IncompleteError("head")
    return Message(first[1], first[2], int(first[3]), fields, end=end + 4)


def read_framing(message: Message) -> int | None:
    """Length of the body, None for a chunked one. Raises `BrokenError`."""
    codings, lengths = message.values(b"transfer-encoding"), message.values(b"content-length")
    if codings:
        if lengths or message.minor == 0 or len(codings) != 1 or codings[0].lower() != b"chunked":
            raise BrokenError("head")
        return None
    if not lengths:
        return 0
    if len(lengths) != 1 or re.fullmatch(rb"[0-9]{1,%d}" % MOST_DIGITS, lengths[0]) is None:
        raise BrokenError("head")
    return int(lengths[0])


def read_chunks(raw: bytes, position: int, *, padded: bool = False) -> tuple[bytes, int]:
    """Payload of a chunked body and the position behind it, strictly. Raises `BrokenError` and `IncompleteError`.

    `padded` allows blanks behind a chunk size, which old servers send in responses.
    """
    payload = b""
    while True:
        line, position = _line(raw, position)
        if padded:
            line = line.rstrip(b" \t")
        match = _CHUNK.fullmatch(line)
        size = int(match[1], 16) if match is not None else MOST_CHUNK
        if size >= MOST_CHUNK:
            raise BrokenError("body")
        if not size:
            break
        end = position + size
        if not b"\r\n".startswith(raw[end : end + 2]):
            raise BrokenError("body")
        if end + 2 > len(raw):
            raise IncompleteError("body")
        payload, position = payload + raw[position:end], end + 2
    while True:
        line, position = _line(raw, position)
        if not line:
            return payload, position
        if FIELD.fullmatch(line) is None:
            raise BrokenError("body")


def _line(raw: bytes, position: int) -> tuple[bytes, int]:
    end = raw.find(b"\n", position)
    rest = raw[position : end + 1 if end >= 0 else len(raw)]
    line = rest.removesuffix(b"\r\n") if end >= 0 else rest.removesuffix(b"\r")
    if b"\r" in line or b"\n" in line:
        raise BrokenError("body")
    if end < 0:
        raise IncompleteError("body")
    return line, end + 1


def read_strictly(raw: bytes) -> Reading:
    """Every request in `raw` that its sender clearly made."""
    reading = Reading()
    position = 0
    while position < len(raw):
        message = None
        try:
            message = read_head(raw, position)
            if len(message.values(b"host")) != 1 and (message.minor == 1 or message.values(b"host")):
                raise BrokenError("head")
            read_body(raw, message)
        except (BrokenError, IncompleteError) as error:
            reading.tail = f"{error.word} {error.where}"
            reading.last = message if error.where == "body" else None
            return reading
        reading.messages.append(message)
        position = message.end
        if not message.stays:
            reading.tail = "closed"
            return reading
    return reading


def read_body(raw: bytes, message: Message) -> None:
    """Read the body behind a head, strictly. Raises `BrokenError` and `IncompleteError`."""
    length = read_framing(message)
    start = message.end
    if length is None:
        message.body, message.end = read_chunks(raw, start)
        return
    message.body, message.end = raw[start : start + length], start + length
    if message.end > len(raw):
        raise IncompleteError("body")


# -- the careless ones ---------------------------------------------------------------------------------------------


class Habits(NamedTuple):
    """How a careless reader decides."""

    coding_wins: bool
    """Transfer-Encoding over Content-Length, or the other way round."""
    first_length: bool
    """The first of several lengths, or the last."""
    lone_cr: bool
    """Whether a CR alone ends a line."""


HABITS = tuple(Habits(*bits) for bits in product((False, True), repeat=3))


def read_carelessly(raw: bytes, habits: Habits) -> Iterator[tuple[bytes, bytes]]:
    """Method and target of each request, as a reader with these habits splits `raw`."""
    newline = re.compile(rb"\r\n|\n|\r" if habits.lone_cr else rb"\r?\n")
    empty = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}" if habits.lone_cr else rb"\n\r?\n")
    position = 0
    while True:
        while raw[position : position + 1] in (b"\r", b"\n", b" ", b"\t"):
            position += 1
        end = empty.search(raw, position)
        if end is None:
            return
        lines = newline.split(raw[position : end.start()])
        first = lines[0].split()
        if len(first) < 2:
            return
        yield first[0], first[1]
        lengths, is_chunked = _careless_framing(lines[1:])
        position = end.end()
        if is_chunked and (habits.coding_wins or not lengths):
            position = _skip_chunks(raw, position)
        elif lengths:
            position += lengths[0 if habits.first_length else -1]


def _careless_framing(lines: list[bytes]) -> tuple[list[int], bool]:
    lengths, is_chunked, name = [], False, b""
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            value = line
        else:
            name, _, value = line.partition(b":")
            name = name.strip(b" \t\x0b\x0c\0").lower().replace(b"_", b"-")
        if name == b"content-length":
            lengths += [int(digits) for digits in re.findall(rb"[0-9]{1,18}", value)]
        elif name == b"transfer-encoding" and b"chunked" in value.lower():
            is_chunked = True
    return lengths, is_chunked


_ANY_SIZE = re.compile(rb"[ \t+\-\x0b\x0c]*(?:0x)?([0-9a-f]*)", re.IGNORECASE)


def _skip_chunks(raw: bytes, position: int) -> int:
    while True:
        end = raw.find(b"\n", position)
        if end < 0:
            return len(raw)
        match = _ANY_SIZE.match(raw, position, end)
        size = int((match[1] if match is not None else b"") or b"0", 16)
        position = end + 1
        if not size:
            break
        position += size
        while raw[position : position + 1] in (b"\r", b"\n"):
            position += 1
    while (end := raw.find(b"\n", position)) >= 0:
        line, position = raw[position:end].strip(), end + 1
        if not line:
            return position
    return len(raw)


Reader = Callable[[bytes], list[tuple[bytes, bytes]]]


def careless_readers() -> list[Reader]:
    """One for each combination of habits."""

    def reader(habits: Habits) -> Reader:
        return lambda raw: list(read_carelessly(raw, habits))

    return [reader(habits) for habits in HABITS]
