"""The syntax of HTTP/1.1 (RFC 9112): request targets, and responses from bytes to values. Pure.

A target is taken apart without changing a byte of it. Routing, authorisation and forwarding all use this one view. A
path that another server might read as a different one (`..` in any encoding, backslashes, NUL) is refused, so that no
request bypasses the rules of a route.

Of a response only what RFC 9112 allows is read; anything else is an `Http1Error`, so that nothing malformed is ever
relayed. aiohttp's own response parser is lenient by design (bare LF, obs-fold, padded chunk sizes), which is right for a
client and wrong for an intermediary.
"""

from __future__ import annotations

import re
from enum import IntEnum
from ipaddress import ip_address

import msgspec

from tentaculo.model.failure import Failure, Problem

# One cheap look decides whether a path needs the careful one.
_SUSPECT = re.compile(r"[.%\\#\x00-\x20\x7f]")
_REFUSED = re.compile(r"[\\#\x00-\x20\x7f]")
# Beside the plain escapes: overlong UTF-8, and the `%u` escapes that some servers still decode.
_SEPARATOR = r"(?:/|%(?:2f|5c|c0%af|c1%9c|e0%80%af|e0%81%9c|f0%80%80%af|f0%80%81%9c|u002f|u005c))"
_DOT = r"(?:\.|%(?:2e|c0%ae|e0%80%ae|f0%80%80%ae|u002e))"
# Between two slashes that every server reads as such, in the two spellings that RFC 3986 makes equal.
_PLAIN_DOT = r"(?<=/)(?:\.|%2e)(?:/|$)"
# `..;x` is a dot segment to servers that read path parameters.
_DOT_SEGMENT = re.compile(rf"{_SEPARATOR}(?!{_PLAIN_DOT}){_DOT}{{1,2}}(?=;|%3b|{_SEPARATOR}|$)", re.IGNORECASE)
_ENCODED_DOTS = ("%2e", "%ae", "%u002e")
"""With what each spelling of an encoded dot ends, in lower case."""
_PORT = "[0-5]?[0-9]{0,4}|6(?:[0-4][0-9]{3}|5(?:[0-4][0-9]{2}|5(?:[0-2][0-9]|3[0-5])))"
# No name is longer (RFC 1035 section 2.3.4), and what is remembered per host stays small. The characters of a name are
# those of RFC 3986 and all that are not ASCII, as the others of ASCII: a class with all of Unicode takes 2 ms to compile.
_AUTHORITY = re.compile(
    rf"(?:\[[0-9A-Fa-f:.]{{2,45}}\]|[^\x00-\x20\"#,/:<>?@\[\\\]^`{{|}}\x7f]{{1,255}})(?::(?:{_PORT}))?"
)


class Target(msgspec.Struct, frozen=True):
    """A request target."""

    path: str
    """Starts with `/`, or is `*`; escapes and bytes as they came (bytes outside UTF-8 as surrogates)."""
    query: str
    """With its `?`, or empty. Byte for byte."""
    authority: str | None
    """Of an absolute-form target; it wins over Host."""


def parse_target(method: str, raw: str) -> Target:
    """Take the raw request target apart. Raises `Problem` (400) for what must not be forwarded."""
    authority = None
    if raw[:1] != "/":
        if raw == "*" and method == "OPTIONS":
            return Target("*", "", None)
        authority, raw = _split_absolute(raw)
        if not raw and method == "OPTIONS":
            return Target("*", "", authority)  # RFC 9112 section 3.2.4
        if not raw.startswith("/"):
            raw = "/" + raw
    path, query = raw, ""
    if "?" in raw:
        mark = raw.index("?")
        path, query = raw[:mark], raw[mark:]
    if _SUSPECT.search(path) is not None:
        check_path(path)
    if "#" in query:
        raise Problem(Failure.BAD_TARGET, "A request target has no fragment.")
    return Target(path, query, authority)


def split_path(tail: str) -> tuple[str, str]:
    """The path, and the query and fragment behind it."""
    cut = min((i for i in (tail.find("?"), tail.find("#")) if i >= 0), default=len(tail))
    return tail[:cut], tail[cut:]


def check_path(path: str) -> None:
    """Raise `Problem` (400) if `path` holds a `..` segment in any encoding, a backslash, NUL, `#` or a control byte.

    A plain `.` segment passes: it does not change the path, and apt requests `/./Packages` (RFC 3986 section 6.2.2.3).
    """
    if _REFUSED.search(path) is not None or "%00" in path:
        raise Problem(Failure.BAD_TARGET, "The path holds a character that is not allowed there.")
    # Most paths hold no dot in any spelling, which a look for a few strings finds faster than the expression does.
    lower = path.lower()
    if "." not in path and not any(dot in lower for dot in _ENCODED_DOTS):
        return
    if _DOT_SEGMENT.search(path if path[:1] == "/" else "/" + path) is not None:
        raise Problem(Failure.BAD_TARGET, "The path holds a dot segment.")


def is_authority(text: str) -> bool:
    """Whether `text` is a host with an optional port: no user information, path, comma or space."""
    return _AUTHORITY.fullmatch(text) is not None


def is_address(name: str) -> bool:
    """Whether `name`, a host without a port, is an IP address; IPv6 in brackets or without."""
    if not name or (name[0] != "[" and not name[-1].isdigit() and ":" not in name):
        return False
    try:
        ip_address(name.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return False
    return True


def _split_absolute(raw: str) -> tuple[str, str]:
    scheme, mark, rest = raw.partition("://")
    if not mark or scheme.lower() not in ("http", "https"):
        raise Problem(Failure.BAD_TARGET, "The request target is in a form that is not supported.")
    cut = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
    authority, path = rest[:cut], rest[cut:]
    if not is_authority(authority):
        raise Problem(Failure.BAD_TARGET, "The request target names no valid host.")
    return authority, path


HEAD_END = b"\r\n\r\n"
MAX_CHUNK_LINE = 1024
"""Bytes of a chunk-size line, its extensions included (RFC 9112 section 7.1.1 asks for a limit)."""
MAX_TRAILERS = 8 * 1024
"""Bytes of a trailer section."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
# Bound to the start of a line: from every byte of a long line without a colon, the search would be quadratic.
_FIELD_LINE = re.compile(rb"^(([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t\x20-\x7e\x80-\xff]*\r\n)", re.MULTILINE)
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
# A quote that stays open is refused: to a reader that looks for its end, the chunk would begin elsewhere.
_EXTENSION = rb"[\t ]*;[\t ]*%b(?:[\t ]*=[\t ]*(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)
_CHUNK_START = re.compile(rb"0{0,99}([0-9A-Fa-f]{1,15})(?:%b)*\r\n" % _EXTENSION)
# Some servers pad the size with blanks. In a request that is refused: two servers may read it in two ways.
_PADDED_CHUNK_START = re.compile(rb"0{0,99}([0-9A-Fa-f]{1,15})(?:%b)*[\t ]*\r\n" % _EXTENSION)
_KNOWN_CODINGS = frozenset((b"chunked", b"identity"))
_VERSION_START = b"HTTP/1."
# Chunks of up to 15 bytes without extensions, and a run of them. A run is read by two searches instead of a step for
# each chunk, so that a body in chunks of one byte does not cost a hundred times as much as another.
_SMALL = b"|".join(rb"%b\r\n.{%d}\r\n" % (b"[%x%X]" % (size, size), size) for size in range(1, 16))
_SMALL_CHUNK = re.compile(_SMALL, re.DOTALL)
_SMALL_CHUNKS = re.compile(b"(?:%b)+" % _SMALL, re.DOTALL)
_SMALL_COST = 8
"""Small chunks of a run that cost as much as one step."""


class Http1Error(Exception):
    """What arrived is not HTTP/1.1 as RFC 9112 defines it; the text says what, and names no bytes of it."""


class HeadTooLargeError(Http1Error):
    """The head is over its limit."""


class Framing(IntEnum):
    """How the end of a response's body is known (RFC 9112 section 6.3)."""

    NONE = 0
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3


class Head(msgspec.Struct, frozen=True):
    """The head of a response: syntax only."""

    minor: int
    """0 for HTTP/1.0, 1 for HTTP/1.1."""
    status: int
    reason: bytes
    fields: list[tuple[bytes, bytes]]
    """Each field as (its whole line with CRLF, its name), in order, byte for byte."""


def find_head(buffer: bytes, limit: int) -> int:
    """The length of the head at the start of `buffer` with its empty line, or -1 while it is incomplete.

    Raises `Http1Error` as soon as what is there cannot become a response, and `HeadTooLargeError` over `limit` bytes.
    """
    end = buffer.find(HEAD_END)
    if 0 <= end <= limit - 4:
        return end + 4
    start = buffer[:7]
    if start != _VERSION_START[: len(start)]:
        raise Http1Error("it does not begin with an HTTP/1 status line")
    newline = buffer.find(b"\n")
    if newline >= 0 and buffer[newline - 1] != 13:
        # No empty line with CRLF follows: the gateway would wait for it until the time limit.
        raise Http1Error("the status line is malformed")
    if end >= 0 or len(buffer) > limit:
        raise HeadTooLargeError("the head is too large")
    return -1


def parse_head(head: bytes) -> Head:
    """Take one complete head apart (status line, field lines, empty line). Raises `Http1Error`."""
    line = _STATUS_LINE.match(head)
    if line is None:
        raise Http1Error("the status line is malformed")
    fields = _FIELD_LINE.findall(head, line.end())
    # findall skips what does not match: everything was read only if the lengths add up.
    if line.end() + sum([len(field[0]) for field in fields]) + 2 != len(head):
        raise Http1Error("a header line is malformed")
    return Head(line[1] == b"1", int(line[2]), line[3] or b"", fields)


def field_name(line: bytes) -> bytes:
    """The name of a whole field line, in lower case."""
    return line[: line.index(b":")].lower()


def parse_length(values: list[bytes]) -> int:
    """The one Content-Length that `values` state. Raises `Http1Error` if it is not plain digits or they differ."""
    first = values[0]
    if not first.isdigit() or len(first) > 18 or any(value != first for value in values):
        raise Http1Error("the Content-Length is not valid")
    return int(first)


def frame_response(
    method: str, status: int, minor: int, lengths: list[bytes] | None, codings: list[bytes] | None
) -> tuple[Framing, int]:
    """How a response's body ends, and its length where that is known (RFC 9112 section 6.3).

    `lengths` and `codings` are the values of Content-Length and Transfer-Encoding as they came, None where absent.
    Chunks win over a length, `identity` says nothing, and a coding or length that is repeated counts once: old servers
    send all of these. The connection must not be used again then, nor where this raises `Http1Error`.
    """
    names = [name.strip().lower() for value in codings or () for name in value.split(b",")]
    if not _KNOWN_CODINGS.issuperset(names):
        raise Http1Error("its Transfer-Encoding is not supported")
    if lengths is not None and len(lengths) == 1:
        lengths = [length.strip(b" \t") for length in lengths[0].split(b",")]
    length = parse_length(lengths) if lengths is not None else 0
    if method == "HEAD" or status in (204, 304) or status < 200:
        return Framing.NONE, 0
    if b"chunked" in names:
        return Framing.CHUNKED, 0
    if lengths is not None:
        return (Framing.LENGTH, length) if length else (Framing.NONE, 0)
    return Framing.CLOSE, 0


LAST_CHUNK = b"0\r\n\r\n"


def chunked(data: bytes, *, is_last: bool = False, trailers: bytes = b"") -> bytes:
    """`data` in the chunked coding (RFC 9112 section 7.1), with the end of the body if it `is_last`.

    `trailers` are whole lines.
    """
    coded = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
    return b"%b0\r\n%b\r\n" % (coded, trailers) if is_last else coded


class ChunkedReader:
    """Reads a chunked body (RFC 9112 section 7.1). Extensions are dropped.

    After `feed` returned the last payload, `done` is true, `trailers` holds the trailer fields, each as (whole line,
    name), and `rest` the bytes behind the body.
    """

    __slots__ = ("_left", "_line", "_start", "_trailers", "done", "rest", "steps", "trailers")

    def __init__(self, *, allows_padding: bool = False) -> None:
        """`allows_padding` accepts blanks behind the size of a chunk."""
        self._start = _PADDED_CHUNK_START if allows_padding else _CHUNK_START
        self._left = 0  # of the chunk's data and its CRLF; 0 while a line is awaited
        self._line = b""
        self._trailers = -1  # bytes of the trailer section so far; -1 before the last chunk
        self.done = False
        self.rest = b""
        self.trailers: list[tuple[bytes, bytes]] = []
        self.steps = 0
        """Steps that the last `feed` took: one for each line, eight small chunks in a row count as one."""

    def __repr__(self) -> str:
        return f"<ChunkedReader {'done' if self.done else f'{self._left} left'}>"

    def feed(self, data: bytes) -> list[bytes]:
        """The payload in `data`, in one piece; an empty list where there is none. Raises `Http1Error`."""
        self.steps = 0
        if self._line:
            data, self._line = self._line + data, b""
        payload: list[bytes] = []
        position, end = 0, len(data)
        while position < end and not self.done:
            if self._left > 2:
                piece = data[position : position + self._left - 2]
                payload.append(piece)
                position += len(piece)
                self._left -= len(piece)
            elif self._left:
                if data[position] != (13, 10)[2 - self._left]:
                    raise Http1Error("a chunk is not closed by CRLF")
                position += 1
                self._left -= 1
            elif self._trailers < 0 and (run := _SMALL_CHUNKS.match(data, position)) is not None:
                chunks = _SMALL_CHUNK.findall(data, position, run.end())
                payload.append(b"".join([chunk[3:-2] for chunk in chunks]))
                self.steps += 1 + len(chunks) // _SMALL_COST
                position = run.end()
            else:
                self.steps += 1
                position = self._read_chunk(data, position, payload) or self._read_line(data, position)
        return payload if len(payload) < 2 else [b"".join(payload)]

    def _read_chunk(self, data: bytes, position: int, payload: list[bytes]) -> int:
        """Read a chunk that has arrived whole, in one step. Returns the position behind it, 0 for anything else."""
        if self._trailers >= 0 or (match := self._start.match(data, position)) is None:
            return 0
        start = match.end()
        end = start + int(match[1], 16)
        if end == start or start - position > MAX_CHUNK_LINE or data[end : end + 2] != b"\r\n":
            return 0
        payload.append(data[start:end])
        return end + 2

    def _read_line(self, data: bytes, position: int) -> int:
        newline = data.find(b"\n", position)
        limit = MAX_CHUNK_LINE if self._trailers < 0 else MAX_TRAILERS
        if (newline if newline >= 0 else len(data)) - position > limit:
            raise Http1Error("a chunk-size line or a trailer is too long")
        if newline < 0:
            self._line = data[position:]
            return len(data)
        line = data[position:newline]
        if line[-1:] != b"\r":
            raise Http1Error("a line within the chunked body does not end with CRLF")
        if self._trailers >= 0:
            self._read_trailer(line[:-1])
        else:
            match = self._start.fullmatch(line + b"\n")
            if match is None:
                raise Http1Error("a chunk size is malformed")
            size = int(match[1], 16)
            if size:
                self._left = size + 2
            else:
                self._trailers = 0
        if self.done:
            self.rest = data[newline + 1 :]
        return newline + 1

    def _read_trailer(self, line: bytes) -> None:
        self._trailers += len(line)
        if self._trailers > MAX_TRAILERS:
            raise Http1Error("the trailers are too large")
        if not line:
            self.done = True
            return
        field = _FIELD_LINE.fullmatch(line + b"\r\n")
        if field is None:
            raise Http1Error("a trailer is malformed")
        self.trailers.append((field[1], field[2]))
