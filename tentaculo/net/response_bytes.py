"""Responses that the gateway writes to the socket itself: their bytes, and what aiohttp's server is given instead.

The gateway writes refusals and preflights this way. Native handlers return aiohttp's own responses.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter


def response_bytes(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    minor: int = 1,
    keep_alive: bool = False,
    with_body: bool = True,
) -> bytes:
    """A whole HTTP/1.1 response for a client of HTTP/1.`minor`.

    `with_body` false is for HEAD: the length stays, the body is left out. Raises ValueError where a header holds a line
    end or NUL. Some headers repeat text of a client, which must not start a second response.
    """
    lines = [f"HTTP/1.1 {status} {_reason(status)}\r\n", date_line().decode("ascii")]
    lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
    if status != HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(body)}\r\n")
    if not keep_alive:
        lines.append("Connection: close\r\n")
    elif minor == 0:
        lines.append("Connection: keep-alive\r\n")
    text = "".join(lines)
    if "\0" in text or not text.count("\r") == text.count("\n") == len(lines):
        raise ValueError("a response header holds a line end or NUL")
    head = text.encode("latin-1", "replace") + b"\r\n"
    return head + body if with_body else head


def date_line() -> bytes:
    """The Date field for a response that is sent now, as a whole line."""
    return _date_line(int(time.time()))


@lru_cache(maxsize=1)
def _date_line(second: int) -> bytes:
    return f"Date: {formatdate(second, usegmt=True)}\r\n".encode("ascii")


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


class SentResponse(web.StreamResponse):
    """Says that the response has been written already, and whether the connection stays open.

    The two methods that aiohttp's server calls on a response do nothing, so one instance serves every request.
    """

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._stays = keep_alive

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open."""
        return self._stays

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Nothing is left to prepare."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


SENT_STAYS = SentResponse(keep_alive=True)
SENT_CLOSES = SentResponse(keep_alive=False)
