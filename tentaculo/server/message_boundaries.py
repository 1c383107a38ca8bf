"""Where one request ends and the next begins in what a client sends, followed without parsing any of it.

aiohttp's parser takes bytes and returns requests, and does not say which bytes made which. Fed in pieces that end where
a head or a body of known length does, it says so: what is wrong with a request then takes none with it that came
before, and what an upgrade leaves over is known. However it is cut, the parser sees the same bytes.
"""

from __future__ import annotations

import sys

SLICE = 16 * 1024
"""Bytes of a piece in which nothing ends, so that what is not payload in a chunked body can be counted."""
HEAD_END = b"\r\n\r\n"


class MessageBoundaries:
    """Follows one connection. For each piece: `cut`, feed it, then tell by one of the other methods what came of it."""

    __slots__ = ("_due", "_partial", "is_at_start")

    def __init__(self) -> None:
        self._due = 0  # bytes of a body that are still to come
        self._partial = b""  # the last bytes of a head, or of a chunked body, that has not ended
        self.is_at_start = True
        """Whether the next byte is surely the first of a request."""

    def __repr__(self) -> str:
        return f"<Seams {'at a start' if self.is_at_start else f'{self._due} due'}>"

    @property
    def has_begun(self) -> bool:
        """Whether part of a head has come, or of a chunked body."""
        return bool(self._partial)

    def skip_empty_lines(self, data: bytes, position: int) -> int:
        """Where the request before which `position` is begins (RFC 9112 section 2.2)."""
        while data.startswith(b"\r\n", position):
            position += 2
        return position

    def cut(self, data: bytes, position: int) -> int:
        """Where the piece of `data` that begins at `position` ends."""
        if self._due:
            return min(position + self._due, len(data))
        # An empty line ends a head and a chunked body alike; one within a chunk makes one more piece, and no harm.
        limit = min(position + SLICE, len(data))
        if self._partial:
            # The empty line may have begun in what came before.
            found = (self._partial + data[position : position + 3]).find(HEAD_END)
            if found >= 0:
                return position + found + 4 - len(self._partial)
        found = data.find(HEAD_END, position, limit)
        return limit if found < 0 else found + 4

    def went_on(self, piece: bytes) -> None:
        """No request began in `piece`, and no chunked body ended in it."""
        if self._due:
            self._due -= len(piece)
            self.is_at_start = not self._due
        elif piece:
            self._partial = (self._partial + piece)[-3:]
            self.is_at_start = False

    def ended(self, piece: bytes) -> None:
        """A request without a body, or the rest of a chunked one, ended in `piece`."""
        # No part of a head ends with an empty line.
        self.is_at_start = (self._partial + piece).endswith(HEAD_END)
        self._partial = b"" if self.is_at_start else piece[-3:]

    def began(self, due: int | None) -> None:
        """A body has begun, of which `due` bytes are still to come; None where it is chunked."""
        self._due = due or 0
        self._partial = b""
        self.is_at_start = False

    def lost(self) -> None:
        """The parser keeps bytes back, or gives the connection away: nothing more is known."""
        self._due = sys.maxsize
        self.is_at_start = False
