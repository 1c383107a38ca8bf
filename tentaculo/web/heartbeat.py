"""Where services call that are known by their heartbeats: `POST /vx11/heartbeat/<service>`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from tentaculo.model.failure import Failure, Problem

MOST = 4096
"""Bytes of what a heartbeat may say."""
_FORM = 'A heartbeat may say {"status": "ok", "message": "…"} and more, one JSON object, or nothing.'


class _Said(msgspec.Struct):
    status: str | None = None
    message: str | None = None


def routes(names: Mapping[str, str], beat: Callable[[str, bytes], None]) -> list[web.RouteDef]:
    """A route for each of `names`: a service's own and its aliases, to its own.

    `beat` takes a service's name and what it said: a JSON object, or nothing.
    """

    def handler(service: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def take(request: web.Request) -> web.Response:
            beat(service, await _said(request))
            answer: dict[str, Any] = {"status": "received", "service": service}
            return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

        return take

    return [web.post(f"/vx11/heartbeat/{name}", handler(service)) for name, service in names.items()]


async def _said(request: web.Request) -> bytes:
    """What the service said. Raises `Problem` for anything but nothing and a small JSON object."""
    body = await request.read()
    if not body:
        return b""
    if request.content_type != "application/json":
        raise Problem(Failure.UNSUPPORTED_MEDIA_TYPE, f"{_FORM} Its media type is application/json.")
    if len(body) > MOST:
        raise Problem(Failure.BODY_TOO_LARGE, f"A heartbeat may have {MOST} bytes.")
    try:
        msgspec.json.decode(body, type=_Said)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Problem(Failure.BAD_REQUEST, _FORM) from None
    return body
