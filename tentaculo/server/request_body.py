"""Bounded bodies of native requests, and their decoding as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from tentaculo.model.failure import Failure, Problem
from tentaculo.net.memory import MemoryBudget, exhausted
from tentaculo.net.tcp import time_limit
from tentaculo.server.connection import ClientConnection

READ_SECONDS = 10.0
"""How long a body may take to arrive."""
SMALL_BODY = 16 * 1024
"""Bytes of a body that may arrive although the gateway holds as much as it may."""
MAX_JSON_BYTES = 64 * 1024
"""Largest body that `read_json_body` accepts."""

T = TypeVar("T")
_SPACE = b" \t\r\n"
_JSON = ("application/json",)


async def expect_later(request: web.Request) -> None:
    """The `expect_handler` of every native route, which does nothing.

    `read_body` sends `100 Continue` itself, so that a refused request does not upload its body first. Another expectation
    has no effect (RFC 9110 section 10.1.1).
    """


def check_coding(coding: str | None) -> None:
    """Raise `Problem` (415) when the body has a content coding; `coding` is the value of Content-Encoding."""
    if coding is not None and coding.strip().lower() not in ("", "identity"):
        detail = "The body must not be compressed."
        raise Problem(Failure.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept-Encoding": "identity"})


async def read_body(request: web.Request, limit: int, *, array_limit: int | None = None) -> bytes:
    """The whole body, at most `limit` bytes.

    A body that begins with `[` may have `array_limit` bytes, where that is given. Raises `Problem`: 413 as soon as the
    body is known to be larger, 408 when it takes longer than `READ_SECONDS`, 400 when its framing is broken, 503 when the
    gateway holds as many bytes as it may.
    """
    if request.content_length is not None and request.content_length > max(limit, array_limit or 0):
        raise _too_large(max(limit, array_limit or 0))
    if request.version >= HttpVersion11 and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    body, owner = bytearray(), object()
    # Not so where aiohttp's own server runs the application.
    memory = request.protocol.memory if isinstance(request.protocol, ClientConnection) else MemoryBudget()
    try:
        async with time_limit(READ_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                memory.hold(owner, len(body))
                if len(body) > SMALL_BODY and memory.is_exhausted:
                    raise exhausted()
                if array_limit is not None and chunk.strip(_SPACE):
                    # The first character decides, once: each byte is looked at one time.
                    limit, array_limit = (array_limit if is_array(chunk) else limit), None
                if len(body) > limit:
                    raise _too_large(limit)
        return bytes(body)
    except TimeoutError:
        raise Problem(Failure.REQUEST_TIMEOUT, f"The body took longer than {READ_SECONDS:g} s to arrive.") from None
    except web.RequestPayloadError:
        raise Problem(Failure.BAD_REQUEST, "The body's framing is broken.") from None
    finally:
        memory.release(owner)
        # The traceback of a refusal holds this frame until the response is sent.
        body.clear()


def check_size(body: bytes, limit: int, array_limit: int | None) -> None:
    """Raise `Problem` (413) for a whole body that `read_body` would refuse. `array_limit` is at least `limit`."""
    most = array_limit if array_limit is not None and is_array(body) else limit
    if len(body) > most:
        raise _too_large(most)


def is_array(body: bytes) -> bool:
    """Whether a JSON text is an array, as far as its first character says."""
    return body.lstrip(_SPACE).startswith(b"[")


def _too_large(limit: int) -> Problem:
    return Problem(Failure.BODY_TOO_LARGE, f"The body may have at most {limit} bytes.")


async def read_json_body(request: web.Request, shape: type[T], media_types: Sequence[str] = _JSON) -> T:
    """The body decoded as `shape`: a msgspec Struct that forbids unknown fields, or an object or a list of any.

    Raises `Problem`: 415 unless the media type is one of `media_types` (a web page cannot send such a one to another
    origin without a CORS preflight) and the body is uncompressed, 400 when it does not match `shape`, and as `read_body`
    does with the limit `MAX_JSON_BYTES`.
    """
    if request.content_type not in media_types or hdrs.CONTENT_TYPE not in request.headers:
        accepted = " or ".join(media_types)
        raise Problem(Failure.UNSUPPORTED_MEDIA_TYPE, f"Send {accepted}.", headers={"Accept": ", ".join(media_types)})
    check_coding(request.headers.get(hdrs.CONTENT_ENCODING))
    body = await read_body(request, MAX_JSON_BYTES)
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Problem(Failure.BAD_REQUEST, f"The body does not fit: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    # msgspec names the field and the expected type, and quotes at most a few characters of the body.
    if isinstance(error, msgspec.ValidationError):
        text = str(error).replace("`$.", "`")
        return "".join(c if c.isprintable() else " " for c in text)[:200] + "."
    return "it is not JSON."
