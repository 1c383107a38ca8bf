"""Receives the heartbeats of services: `POST /vx11/heartbeat/<service>`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from tentaculo.model.failure import Failure, Problem
from tentaculo.server.request_body import expect_later, read_body

MAX_BYTES = 4096
"""Largest body of a heartbeat, in bytes."""
_EXPECTED = 'A heartbeat may say {"status": "ok", "message": "…"} and more, one JSON object, or nothing.'


class _HeartbeatBody(msgspec.Struct):
    status: str | None = None
    message: str | None = None


def routes(names: Mapping[str, str], beat: Callable[[str, bytes], None]) -> list[web.RouteDef]:
    """One route for each key of `names`, which maps a service's name and its aliases to its name.

    `beat` receives the service's name and the body: a JSON object, or empty.
    """

    def handler(service: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def take(request: web.Request) -> web.Response:
            beat(service, await _read_status(request))
            response: dict[str, Any] = {"status": "received", "service": service}
            return web.Response(body=msgspec.json.encode(response), content_type="application/json")

        return take

    return [
        web.post(f"/vx11/heartbeat/{name}", handler(service), expect_handler=expect_later)
        for name, service in names.items()
    ]


async def _read_status(request: web.Request) -> bytes:
    """The body of a heartbeat. Raises `Problem` unless it is empty or a small JSON object."""
    body = await read_body(request, MAX_BYTES)
    if not body:
        return b""
    if request.content_type != "application/json":
        raise Problem(Failure.UNSUPPORTED_MEDIA_TYPE, f"{_EXPECTED} Its media type is application/json.")
    try:
        msgspec.json.decode(body, type=_HeartbeatBody)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Problem(Failure.BAD_REQUEST, _EXPECTED) from None
    return body
