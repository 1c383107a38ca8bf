"""One response, from bytes to its head and its body: strict, incremental, and without I/O."""

from __future__ import annotations

import msgspec

from tentaculo.net.header_fields import ResponseHeaders
from tentaculo.net.http1 import (
    HEAD_END,
    ChunkedReader,
    Framing,
    Head,
    Http1Error,
    find_head,
    frame_response,
    parse_head,
)

MAX_INTERIM = 256 * 1024
"""Bytes of interim (1xx) heads in response to one request, and one more for each `INTERIM_COST` bytes of the request."""
INTERIM_COST = 64
MANY = 1 << 62
"""Bytes of a body whose length nothing says."""
MAX_BEYOND = 1024
"""Bytes kept of what came behind a response; the rest is dropped, since the first of them says all."""


MOST, LONGEST = 64, 2048
"""Heads that are remembered, and bytes of each; when there are more, all are forgotten."""


class CachedHead(msgspec.Struct, frozen=True, eq=False):
    """A final head as it was read: the same bytes in response to the same method mean the same again."""

    method: str
    raw: bytes
    head: Head
    fields: ResponseHeaders
    framing: Framing
    length: int
    size: int
    """Bytes of the whole response where its body has a length, else -1."""
    body_at: int
    """Bytes of the head."""
    leaves_connection: bool
    """Whether the connection can take another request after such a response."""


class ResponseHeadCache:
    """The memory that all connections to one upstream share."""

    __slots__ = ("_known", "last")

    def __init__(self) -> None:
        self._known: dict[bytes, CachedHead] = {}
        self.last: CachedHead | None = None
        """The head that was found or remembered last."""

    def __repr__(self) -> str:
        return f"<ResponseHeadCache: {len(self._known)}>"

    def find(self, method: str, data: bytes) -> CachedHead | None:
        """The head at the start of `data`, if it was remembered for `method`."""
        found = self._known.get(data[: data.find(HEAD_END) + len(HEAD_END)])
        if found is None or found.method != method:
            return None
        self.last = found
        return found

    def remember(self, known: CachedHead) -> None:
        """Keep a head that has been read."""
        if len(known.raw) > LONGEST:
            return
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[known.raw] = self.last = known


class ResponseReader:
    """Reads the response to one request.

    `feed` it what arrives and pass on the payload it returns; `head` and `fields` stand once the final head is there,
    `is_whole` once the body is. A 101 ends the reading: what came behind it is in `beyond`.
    """

    __slots__ = (
        "_chunked",
        "_framing",
        "_heads",
        "_interim_size",
        "_is_plain",
        "_left",
        "_max_head",
        "_method",
        "_partial",
        "beyond",
        "fields",
        "head",
        "interim",
        "is_whole",
        "leaves_connection",
        "request_size",
        "steps",
        "trailers",
    )

    def __init__(self, method: str, max_head: int, heads: ResponseHeadCache) -> None:
        """`method` is the request's; `max_head` bounds each head in bytes; `heads` are those known of this upstream."""
        self._max_head = max_head
        self._heads = heads
        self._is_plain = False
        self.again(method)

    def again(self, method: str, size: int = 0) -> None:
        """Begin with the response to another request on the same connection, once the last one is whole.

        `size` is how many bytes of the request have been sent.
        """
        self._method = method
        self.request_size = size
        """Bytes of the request that have been sent so far."""
        self.head: Head | None = None
        self.fields: ResponseHeaders | None = None
        self.is_whole = False
        self.leaves_connection = False
        """Whether the connection can take another request after this response, once it is whole (RFC 9112 section 9.3)."""
        if not self._is_plain:
            self._begin_plain()

    def _begin_plain(self) -> None:
        """Forget what only a response leaves that did not come in one read, with a head that is known."""
        self._is_plain = True
        """Whether nothing of what follows differs from this."""
        self._partial = b""
        self._framing = Framing.NONE
        self._interim_size = 0  # of all of them, also of those that have been taken out
        self._left = 0
        self._chunked: ChunkedReader | None = None
        self.interim: list[Head] = []
        """1xx heads that have arrived; the reader of them takes them out."""
        self.trailers: list[tuple[bytes, bytes]] = []
        """The trailer fields of a chunked body that is whole, each as (whole line, name)."""
        self.steps = 0
        """Steps that the last `feed` took in a chunked body."""
        self.beyond = b""
        """Bytes behind the response: all of them after a 101, else the first few, which nobody asked for."""

    def __repr__(self) -> str:
        if self.head is None:
            return f"<ResponseReader in the head, {len(self._partial)} bytes>"
        return f"<ResponseReader {self.head.status}, {self._framing.name}, {'whole' if self.is_whole else 'partial'}>"

    @property
    def is_untouched(self) -> bool:
        """Whether not one byte of a response has arrived."""
        return self.head is None and not self._partial and not self._interim_size

    @property
    def left(self) -> int:
        """Bytes of the body that are still to come: many where its end is that of the connection, 0 where chunks say it."""
        return MANY if self._framing is Framing.CLOSE else self._left

    @property
    def is_switching(self) -> bool:
        """Whether the response is a 101."""
        return self.head is not None and self.head.status == 101

    def feed(self, data: bytes) -> list[bytes]:
        """Read `data`; returns the pieces of the body in it. Raises `Http1Error`; nothing more can be read then."""
        if self.head is None:
            known = None
            if self._is_plain:
                known = self._heads.last
                if known is None or known.method != self._method or not data.startswith(known.raw):
                    known = self._heads.find(self._method, data)
            if known is None:
                self._is_plain = False
                rest = self._read_heads(self._partial + data)
                if rest is None:
                    return []
                data = rest
            elif known.size == len(data):
                # The whole response at once.
                self.head, self.fields, self.is_whole = known.head, known.fields, True
                self.leaves_connection = known.leaves_connection
                return [data[known.body_at :]]
            else:
                self._is_plain = False
                self._begin_body(known)
                data = data[known.body_at :]
        if self.is_whole:
            self._keep_beyond(data)
            return []
        return self._read_body(data) if data else []

    def end(self) -> None:
        """The upstream has closed its side. Raises `Http1Error` unless that is how this body ends."""
        if self.head is None:
            raise Http1Error("the response ended within its head")
        if not self.is_whole:
            if self._framing is not Framing.CLOSE:
                raise Http1Error("the response ended before its length")
            self.is_whole = True

    def _read_heads(self, data: bytes) -> bytes | None:
        """Read heads up to the final one; returns what follows it, None while it is incomplete."""
        while data:
            end = find_head(data, self._max_head)
            if end < 0:
                break
            raw, data = data[:end], data[end:]
            head = parse_head(raw)
            if head.status >= 200 or head.status == 101:
                self._partial = b""
                self._begin_body(self._judge(raw, head))
                return data
            self.interim.append(head)
            self._interim_size += end
            if self._interim_size > MAX_INTERIM + self.request_size // INTERIM_COST:
                raise Http1Error("there are too many interim responses")
        self._partial = data
        return None

    def _judge(self, raw: bytes, head: Head) -> CachedHead:
        fields = ResponseHeaders(head.fields)
        framing, length = frame_response(self._method, head.status, head.minor, fields.lengths, fields.codings)
        size = len(raw) + length if framing is Framing.LENGTH else -1
        # A coding in an HTTP/1.0 response is a faulty framing (RFC 9112 section 6.1).
        stays = head.minor == 1 or (fields.keep_alive and fields.codings is None)
        stays = stays and not fields.close and head.status != 101 and framing is not Framing.CLOSE
        known = CachedHead(self._method, raw, head, fields, framing, length, size, len(raw), stays)
        self._heads.remember(known)
        return known

    def _begin_body(self, known: CachedHead) -> None:
        self.head, self.fields, self.leaves_connection = known.head, known.fields, known.leaves_connection
        self._framing, self._left = known.framing, known.length
        if self._framing is Framing.NONE:
            self.is_whole = True
        elif self._framing is Framing.CHUNKED:
            self._chunked = ChunkedReader(allows_padding=True)

    def _read_body(self, data: bytes) -> list[bytes]:
        if self._framing is Framing.LENGTH:
            if len(data) < self._left:
                self._left -= len(data)
                return [data]
            self.is_whole = True
            left, self._left = self._left, 0
            if len(data) == left:
                return [data]
            self._keep_beyond(data[left:])
            return [data[:left]]
        if self._chunked is None:
            return [data]
        payload = self._chunked.feed(data)
        self.steps = self._chunked.steps
        if self._chunked.done:
            self.is_whole = True
            self.trailers = self._chunked.trailers
            self._keep_beyond(self._chunked.rest)
        return payload

    def _keep_beyond(self, data: bytes) -> None:
        self._is_plain = False
        beyond = self.beyond + data
        self.beyond = beyond if self.is_switching else beyond[:MAX_BEYOND]
        if beyond:
            self.leaves_connection = False
