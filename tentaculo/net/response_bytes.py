"""Whole answers as bytes, for those who write to the client's socket themselves, and what they tell aiohttp's server.

Used by the proxied path and for requests that never became one; native handlers return aiohttp's own responses.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol

from tentaculo.model.failure import Problem


class Rendered(Protocol):
    """A problem in the form its caller asked for."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def content_type(self) -> str:
        """Of the body."""

    @property
    def body(self) -> bytes:
        """The whole body."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Everything but Content-Type and Content-Length."""


class Render(Protocol):
    """Renders a problem for an Accept header's value."""

    def __call__(self, problem: Problem, accept: bytes | None, *, request_id: str | None) -> Rendered:
        """The answer."""


def response_bytes(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    minor: int = 1,
    keep_alive: bool = False,
    with_body: bool = True,
) -> bytes:
    """A whole HTTP/1.1 answer for a client of HTTP/1.`minor`.

    `with_body` false is for HEAD: the length stays, the body goes. Raises ValueError where a header holds a line end
    or NUL: some repeat what a client sent, and one answer must never become two.
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
