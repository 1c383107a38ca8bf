"""The JSON body of an admin call: asked for by its media type, bounded, and judged whole."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from aiohttp import hdrs, web

from tentaculo.model.failure import Failure, Problem

READ_SECONDS = 10.0
"""How long a body may take to arrive."""
MOST_BYTES = 64 * 1024

T = TypeVar("T")


async def read_json_body(request: web.Request, shape: type[T]) -> T:
    """The body as `shape`, a msgspec Struct that forbids unknown fields.

    Raises `Problem`: 415 unless it says it is plain `application/json` (a web page cannot send that to another origin
    without asking), 413 where it is too large, 408 where it takes too long, 400 where it does not fit.
    """
    if request.content_type != "application/json" or hdrs.CONTENT_TYPE not in request.headers:
        raise Problem(Failure.UNSUPPORTED_MEDIA_TYPE, "Send application/json.", headers={"Accept": "application/json"})
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() not in ("", "identity"):
        detail = "The body is taken uncompressed."
        raise Problem(Failure.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept-Encoding": "identity"})
    body = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise Problem(Failure.BODY_TOO_LARGE, f"The body may have {MOST_BYTES} bytes.")
    except TimeoutError:
        raise Problem(Failure.REQUEST_TIMEOUT, f"The body took longer than {READ_SECONDS:g} s to arrive.") from None
    except web.RequestPayloadError:
        raise Problem(Failure.BAD_REQUEST, "The body's framing is broken.") from None
    try:
        return msgspec.json.decode(bytes(body), type=shape)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Problem(Failure.BAD_REQUEST, f"The body does not fit: {_words(error)}") from None


def _words(error: Exception) -> str:
    # The library's words name the member and what it should be, and at most a few characters of what came.
    if isinstance(error, msgspec.ValidationError):
        text = str(error).replace("`$.", "`")
        return "".join(c if c.isprintable() else " " for c in text)[:200] + "."
    return "it is not JSON."
