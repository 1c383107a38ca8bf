"""What is looked at in the frames of WebSocket clients before aiohttp's reader gets them.

They must be masked (RFC 6455 section 5.1), and the reader accepts them unmasked too. The mask protects proxies: without
it, the script of a page could send bytes that a proxy takes for HTTP. And the bytes of a message that has not ended wait in
the reader, which does not count them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from aiohttp.http import WebSocketReader

_REFUSED = b"\xf0\x80"
"""The head of a frame with reserved bits, for which the reader closes with 1002. An unmasked frame asks for the same."""
# Masked frames of up to 125 bytes, by their length. One search reads a run of them: a step of Python for each frame of
# six bytes would cost a hundred times as much for each byte as large frames do. The groups begin where the last frame
# begins that ends a message, and the last one that does not.
_SMALL_FRAMES = re.compile(
    b"(?:(?:([\x80-\x87])|([\x00-\x07])|[^\x00-\x07\x80-\x87])(?:%b))+"
    % b"|".join(b"%b.{%d}" % (re.escape(bytes((0x80 | size,))), 4 + size) for size in range(126)),
    re.DOTALL,
)
_CONTINUES = 2
"""The group for a frame that more of its message follow."""
_FINAL, _CONTROL = 0x80, 0x08
"""Bits in the first byte of a frame: the last one of its message, and no part of a message."""


class MaskEnforcer:
    """Passes the bytes of a client on to `reader`, up to the first frame that is not masked."""

    __slots__ = ("_count", "_counted", "_head", "_is_open", "_left", "_reader")

    def __init__(self, reader: WebSocketReader, count: Callable[[int], None]) -> None:
        """`count` gets how many bytes of a message have arrived that has not ended; 0 once none has begun."""
        self._reader = reader
        self._count = count
        self._counted = 0
        self._is_open = False  # whether more fragments of a message are to come
        self._left = 0  # bytes of a frame that are still to come
        self._head = b""  # the beginning of a frame whose length is not known yet

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Bytes from the client. Returns what the reader does: whether it is at its end, and what is left over."""
        data, self._head = self._head + data, b""
        position = self._left
        complete = -1 if self._is_open or position > len(data) else position  # where a message has ended
        while position < len(data):
            if (small := _SMALL_FRAMES.match(data, position)) is not None:
                position = small.end()
                last = small.lastindex
                if last is not None:  # else there are control frames only
                    self._is_open = last == _CONTINUES
                if not self._is_open:
                    complete = position
                elif (ends := small.start(1)) > complete:
                    complete = ends
                continue
            head = data[position : position + 10]
            if len(head) > 1 and not head[1] & 0x80:
                self._reader.feed_data(data[:position])
                return self._reader.feed_data(_REFUSED)
            size = _frame_size(head)
            if not size:
                data, self._head = data[:position], data[position:]
                break
            position += size
            if head[0] & _CONTROL == 0:
                self._is_open = head[0] < _FINAL
                if not self._is_open and position <= len(data):
                    complete = position
        self._left = position - len(data)
        unfinished = 0
        if self._is_open or self._left or self._head:
            unfinished = self._counted + len(data) if complete < 0 else len(data) - complete
        if unfinished != self._counted:
            self._counted = unfinished
            self._count(unfinished)
        return self._reader.feed_data(data)

    def feed_eof(self) -> None:
        """The client has gone."""
        self._reader.feed_eof()


def _frame_size(head: bytes) -> int:
    """The size of a masked frame that begins with `head`; 0 while the head is incomplete."""
    length = head[1] & 0x7F if len(head) > 1 else 127
    extra = {126: 2, 127: 8}.get(length, 0)
    if len(head) < 2 + extra:
        return 0
    return 2 + extra + 4 + (int.from_bytes(head[2 : 2 + extra], "big") if extra else length)
