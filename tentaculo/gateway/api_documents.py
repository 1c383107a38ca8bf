"""`/tentaculo/openapi.json` and `/tentaculo/asyncapi.json`: the native paths, and what their streams carry.

Each is made from the declarations of the packages at its first request, since a gateway that nobody asks needs neither.
They are open, as the documentation is: they show limits and no names, addresses or tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any

import msgspec
from aiohttp import hdrs, web

from tentaculo import __version__
from tentaculo.config.schema import Config
from tentaculo.model import access
from tentaculo.server.native_routes import BodyResponse, NativeRoute, declared, is_known
from tentaculo.server.openapi import document


def openapi(config: Config, routes: Iterable[NativeRoute]) -> dict[str, Any]:
    """The OpenAPI document of a gateway with this configuration and these native routes."""
    return document(__version__, routes, config.auth)


def asyncapi(config: Config) -> dict[str, Any]:
    """The AsyncAPI document of a gateway with this configuration."""
    from tentaculo.events.asyncapi import describe

    return describe(config, __version__)


def routes(config: Config) -> list[NativeRoute]:
    """The two routes."""
    return [
        NativeRoute(
            "GET",
            "/tentaculo/openapi.json",
            _Document(lambda app: openapi(config, declared(app))).handle,
            access.EVERYBODY,
            None,
        ),
        NativeRoute(
            "GET", "/tentaculo/asyncapi.json", _Document(lambda _: asyncapi(config)).handle, access.EVERYBODY, None
        ),
    ]


class _Document:
    """A document that does not change while the process runs."""

    def __init__(self, make: Callable[[web.Application], dict[str, Any]]) -> None:
        self._make = make
        self._body = b""
        self._tag = ""

    async def handle(self, request: web.Request) -> web.Response:
        """Respond with the document, or with 304 where the client has it."""
        if not self._body:
            # In a thread: the modules take some milliseconds to load.
            body = await asyncio.to_thread(lambda: msgspec.json.encode(self._make(request.app)))
            self._body, self._tag = body, f'"{sha256(body).hexdigest()[:32]}"'
        headers = {hdrs.ETAG: self._tag, hdrs.CACHE_CONTROL: "no-cache"}
        if is_known(request, self._tag):
            return web.Response(status=304, headers=headers)
        return BodyResponse(body=self._body, content_type="application/json", headers=headers)
