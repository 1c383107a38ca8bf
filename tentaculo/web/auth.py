"""`POST /auth/ticket`: a credential that a browser can put into the address of an EventSource or a WebSocket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from aiohttp import web

from tentaculo.model import access
from tentaculo.server.caller import SENDER
from tentaculo.server.native_routes import NativeRoute, json_response
from tentaculo.server.openapi import Operation, json_content, object_of, reference, response


def routes(issue: Callable[[str], Awaitable[str]], lifetime: int, now: Callable[[], datetime]) -> list[NativeRoute]:
    """The route. `issue` makes a ticket for the token with a fingerprint that works for `lifetime` seconds; the dispatcher has checked the token."""

    async def give(request: web.Request) -> web.Response:
        expires_at = now() + timedelta(seconds=lifetime)
        # Every native response has `Cache-Control: no-store`, unless its handler sets another one.
        return json_response(
            {"ticket": await issue(request[SENDER].caller.token), "expires_in": lifetime, "expires_at": expires_at}, 201
        )

    return [NativeRoute("POST", "/auth/ticket", give, access.EVERY_TOKEN, _describe)]


def _describe() -> Operation:
    ticket = object_of(
        {
            "ticket": {"type": "string"},
            "expires_in": {"type": "integer", "description": "Seconds."},
            "expires_at": reference("Time"),
        }
    )
    return Operation(
        "issueTicket",
        "A ticket for an EventSource or a WebSocket, which cannot send a token.",
        {201: response("It works once.", json_content(reference("Ticket")))},
        schemas={"Ticket": ticket},
    )
