"""A whole response as bytes, for code that writes to the client's socket itself.

The gateway writes its refusals and preflights this way; native handlers return aiohttp's own responses.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus


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

    `with_body` false is for HEAD: the length stays, the body goes. Raises ValueError where a header holds a line end
    or NUL: some repeat what a client sent, and one response must never become two.
    """
    lines = [f"HTTP/1.1 {status} {_reason(status)}\r\n", f"Date: {_date(int(time.time()))}\r\n"]
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


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
