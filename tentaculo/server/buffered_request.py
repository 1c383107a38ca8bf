"""A request that has arrived whole, and another that begins like it: what need not be parsed again.

Clients send the same fields time and again, and often the same request. aiohttp's parser judges them once for each
connection.
"""

from __future__ import annotations

import re
from typing import Any

from aiohttp import StreamReader
from aiohttp.http import HttpVersion
from aiohttp.streams import EMPTY_PAYLOAD

from tentaculo.net.header_fields import RawHeaders
from tentaculo.server.request_framing import HEAD_END

MAX_REMEMBERED = 4096
"""Bytes of the last request's head that are remembered for each connection."""
# Not OPTIONS and TRACE, whose fields are changed on their way, nor what is no path.
_LINE = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE) (/[!-~]*) HTTP/1\.1\r\n")


class BufferedBody:
    """A body that has arrived whole, as a stream that is at its end."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __repr__(self) -> str:
        return f"<Content: {len(self._data)} bytes>"

    def is_eof(self) -> bool:
        """All of it is here."""
        return True

    def read_nowait(self, n: int = -1) -> bytes:
        """All of it, each time."""
        return self._data

    async def readany(self) -> bytes:
        """All of it, each time."""
        return self._data


class BufferedRequest:
    """A request that has arrived whole, with what of aiohttp's request the proxied path asks for."""

    __slots__ = ("content", "keep_alive", "method", "protocol", "raw_headers", "raw_path", "remembered", "version")

    def __init__(
        self,
        method: str,
        target: str,
        version: HttpVersion,
        raw_headers: RawHeaders,
        content: StreamReader | BufferedBody,
        protocol: object,
        *,
        keep_alive: bool,
    ) -> None:
        self.method = method
        self.raw_path = target
        self.version = version
        self.raw_headers = raw_headers
        self.keep_alive = keep_alive
        self.content = content
        self.protocol: Any = protocol
        self.remembered: object | None = None
        """What the proxy decided about it, for a request that repeats it."""

    def __repr__(self) -> str:
        return f"<Arrival {self.method} {self.raw_path!r}>"

    def like_it(self, content: BufferedBody) -> BufferedRequest:
        """The same request with another body of the same length."""
        other = BufferedRequest(
            *(self.method, self.raw_path, self.version, self.raw_headers, content, self.protocol),
            keep_alive=self.keep_alive,
        )
        other.remembered = self.remembered
        return other


class RepeatedHead:
    """The last request of a connection, by the bytes of its head: another that begins alike need not be parsed.

    Its fields were judged by aiohttp's parser. Where they come again behind another usual request line, only that line
    is new, and it is read here.
    """

    __slots__ = ("_arrival", "_block", "_head", "_length")

    def __init__(self, head: bytes, line: int, length: int, arrival: BufferedRequest) -> None:
        """`line` is the length of the request line with its end, `length` that of the body."""
        self._head = head
        self._block = head[line:]
        self._length = length
        self._arrival = arrival

    def __repr__(self) -> str:
        return f"<Known {self._arrival!r}>"

    @classmethod
    def learn(cls, data: bytes, arrival: BufferedRequest, length: int) -> RepeatedHead | None:
        """From a request that was parsed, if `data` is nothing but its head and its body of `length` bytes."""
        line = _LINE.match(data)
        size = data.find(HEAD_END) + len(HEAD_END)
        is_usual = line is not None and size <= MAX_REMEMBERED and size + length == len(data)
        return cls(data[:size], line.end(), length, arrival) if line is not None and is_usual else None

    def read(self, data: bytes) -> BufferedRequest | None:
        """The request that `data` is, whole and alone; None where it must be parsed."""
        head, arrival = self._head, self._arrival
        if data.startswith(head) and len(data) == len(head) + self._length:
            return arrival.like_it(BufferedBody(data[len(head) :])) if self._length else arrival
        line = _LINE.match(data)
        if line is None:
            return None
        begin = line.end()
        if not data.startswith(self._block, begin):
            return None
        begin += len(self._block)
        if len(data) != begin + self._length:
            return None
        method, target = line.groups()
        # Both are ASCII, and the rest is as it was.
        return BufferedRequest(
            method.decode(),
            target.decode(),
            arrival.version,
            arrival.raw_headers,
            BufferedBody(data[begin:]) if self._length else EMPTY_PAYLOAD,
            arrival.protocol,
            keep_alive=arrival.keep_alive,
        )
