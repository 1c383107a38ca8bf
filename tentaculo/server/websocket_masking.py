"""Frames of a WebSocket client, masked as they must be (RFC 6455 section 5.1): aiohttp's reader takes them either way.

The mask is there for what stands between: without it a page could have its script's bytes taken for HTTP on the way.
"""

from __future__ import annotations

from aiohttp.http import WebSocketReader

_REFUSED = b"\xf0\x80"
"""The head of a frame with reserved bits: the reader ends the connection with 1002, as for an unmasked one is due."""


class MaskEnforcer:
    """Passes a client's bytes on to `reader`, frame by frame, up to the first frame that is not masked."""

    __slots__ = ("_head", "_left", "_reader")

    def __init__(self, reader: WebSocketReader) -> None:
        self._reader = reader
        self._left = 0  # bytes of a frame that are still to come
        self._head = b""  # the beginning of a frame whose length is not known yet

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Bytes from the client. Returns what the reader does: whether it is at its end, and what is left over."""
        data, self._head = self._head + data, b""
        position = self._left
        while position < len(data):
            head = data[position : position + 10]
            if len(head) > 1 and not head[1] & 0x80:
                self._reader.feed_data(data[:position])
                return self._reader.feed_data(_REFUSED)
            size = _frame_size(head)
            if not size:
                data, self._head = data[:position], data[position:]
                break
            position += size
        self._left = position - len(data)
        return self._reader.feed_data(data)

    def feed_eof(self) -> None:
        """The client has gone."""
        self._reader.feed_eof()


def _frame_size(head: bytes) -> int:
    """Bytes of a masked frame that begins with `head`; 0 while that does not tell."""
    length = head[1] & 0x7F if len(head) > 1 else 127
    extra = {126: 2, 127: 8}.get(length, 0)
    if len(head) < 2 + extra:
        return 0
    return 2 + extra + 4 + (int.from_bytes(head[2 : 2 + extra], "big") if extra else length)
