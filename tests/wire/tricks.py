"""Answers whose end two readers may see in different places, with what looks like another answer behind or in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from tests.wire.ambiguities import CHUNKS, CODINGS, LENGTHS
from tests.wire.readers import FIELD, BrokenError, IncompleteError, read_chunks

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Poison: 1\r\n\r\npoison"
STATUSES = (b"200 OK", b"204 No Content", b"304 Not Modified", b"404 Not Found")
STARTS = (
    b"HTTP/1.1 ",
    b"HTTP/1.0 ",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 ",
    b"HTTP/1.1 103 Early Hints\r\nContent-Length: 60\r\n\r\nHTTP/1.1 ",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nHTTP/1.1 ",
    b"\r\nHTTP/1.1 ",
    b"HTTP/2.0 ",
    b"HTTP/1.1  ",
)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2}) [\t -~]*")


@dataclass(frozen=True, slots=True)
class Trick:
    """One ambiguous answer."""

    method: bytes = b"GET"
    start: bytes = STARTS[0]
    status: bytes = STATUSES[0]
    length: str = "valid"
    coding: str = "none"
    body: str = "none"
    """The name of a chunk form, or `none` for `hello`."""
    line_end: bytes = b"\r\n"
    apart: bool = False
    """Whether the poison is a segment of its own, behind the answer."""

    def pieces(self) -> list[bytes]:
        """What the upstream sends, in segments."""
        body = CHUNKS[self.body](POISON) if self.body in CHUNKS else b"hello"
        count = b"%d" % len(body)
        lines = [line.replace(b"N", count) if b"Content" in line else line for line in LENGTHS[self.length]]
        end = self.line_end
        head = self.start + self.status + end + b"".join(line + end for line in (*lines, *CODINGS[self.coding])) + end
        answer = head if self.method == b"HEAD" and self.apart else head + body
        return [answer, POISON] if self.apart else [answer + POISON]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an upstream clearly answered."""

    kind: str
    """`whole`, `until close`, `incomplete` or `broken`."""
    status: int = 0
    body: bytes = b""


def read_answer(raw: bytes, method: bytes) -> Meaning:
    """The final answer at the start of `raw`, strictly but for what docs/limits.md says of old servers."""
    try:
        status, fields, position = _read_final_head(raw)
        lengths = [value for name, value in fields if name == b"content-length"]
        codings = [value for name, value in fields if name == b"transfer-encoding"]
        names = {name.strip().lower() for value in codings for name in value.split(b",")}
        if not names <= {b"chunked", b"identity"}:
            raise BrokenError("head")
        if len(lengths) == 1:
            lengths = [length.strip() for length in lengths[0].split(b",")]
        if lengths and (len(set(lengths)) > 1 or re.fullmatch(rb"[0-9]{1,18}", lengths[0]) is None):
            raise BrokenError("head")
        if method == b"HEAD" or status in (204, 304):
            return Meaning("whole", status)
        if b"chunked" in names:
            return Meaning("whole", status, read_chunks(raw, position, padded=True)[0])
        if not lengths:
            return Meaning("until close", status, raw[position:])
        end = position + int(lengths[0])
        if end > len(raw):
            raise IncompleteError("body")
        return Meaning("whole", status, raw[position:end])
    except (BrokenError, IncompleteError) as error:
        return Meaning(error.word)


def _read_final_head(raw: bytes) -> tuple[int, list[tuple[bytes, bytes]], int]:
    position = 0
    while True:
        end = raw.find(b"\r\n\r\n", position)
        if end < 0:
            raise IncompleteError("head")
        first, *lines = raw[position:end].split(b"\r\n")
        status = _STATUS_LINE.fullmatch(first)
        matches = [FIELD.fullmatch(line) for line in lines]
        if status is None or None in matches:
            raise BrokenError("head")
        position = end + 4
        code = int(status[2])
        if code == 101:
            raise BrokenError("head")  # nobody asked for another protocol
        if code >= 200:
            fields = [(match[1].lower(), match[2]) for match in matches if match is not None]
            return code, fields, position


def tricks() -> Iterator[Trick]:
    """Every length with every coding, every chunk form, each with the other things in turn: thousands."""
    bodies, count = ["none", *CHUNKS], 0
    for length, coding in product(LENGTHS, CODINGS):
        for method in (b"GET", b"HEAD" if count % 4 else b"POST"):
            count += 1
            start = STARTS[0] if count % 3 else STARTS[count // 3 % len(STARTS)]
            yield Trick(method, start, STATUSES[count % 4], length, coding, bodies[count % 17], apart=count % 2 == 0)
    for body, status, start, apart in product(CHUNKS, STATUSES[:2], STARTS[:3], (False, True)):
        yield Trick(b"GET", start, status, "none", "chunked", body, apart=apart)
    for body, length, start, apart in product(CHUNKS, ("none", "long"), STARTS[:2], (False, True)):
        yield Trick(b"GET", start, length=length, body=body, apart=apart)
    ends, framings = (b"\n", b"\r", b"\r\r\n", b"\n\r"), product(("valid", "none"), ("chunked", "none"))
    for end, (length, coding), method in product(ends, framings, (b"GET", b"HEAD")):
        yield Trick(method, length=length, coding=coding, body="plain", line_end=end)
    for start, status, method, apart in product(STARTS, STATUSES, (b"GET", b"HEAD", b"POST"), (False, True)):
        yield Trick(method, start, status, apart=apart)
