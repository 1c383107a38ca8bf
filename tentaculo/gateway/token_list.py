"""`GET /tentaculo/admin/tokens`: the accepted tokens, as `tentaculo token list` shows them. Never a hash."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from aiohttp import web

from tentaculo.gateway.admin_routes import require_caller
from tentaculo.model import access
from tentaculo.security.tokens import Tokens, token_row
from tentaculo.server.native_routes import NativeRoute, json_response
from tentaculo.server.openapi import JsonObject, Operation, json_content, object_of, reference, response


class TokenList:
    """The handler."""

    def __init__(
        self,
        tokens: Callable[[], Tokens],
        last_uses: Callable[[], Awaitable[Mapping[str, int]]],
        problem: Callable[[], str | None],
        now: Callable[[], datetime],
    ) -> None:
        """`last_uses` gives the seconds since the last use of each token that was used, by fingerprint; `problem` why
        those of other processes are not known."""
        self._tokens = tokens
        self._last_uses = last_uses
        self._problem = problem
        self._now = now

    async def get(self, request: web.Request) -> web.Response:
        """Respond with the list. Raises `Problem` (403) without tokens."""
        require_caller(request)
        uses = await self._last_uses()
        now = self._now()
        rows = [token_row(one, uses.get(fingerprint), now) for one, fingerprint, _ in self._tokens().listed]
        response = json_response({"tokens": rows, "problem": self._problem()})
        response.headers["Cache-Control"] = "no-store"
        return response


def routes(
    tokens: Callable[[], Tokens],
    last_uses: Callable[[], Awaitable[Mapping[str, int]]],
    problem: Callable[[], str | None],
    now: Callable[[], datetime],
) -> list[NativeRoute]:
    """The route; the parameters are those of `TokenList`."""
    return [
        NativeRoute(
            "GET", "/tentaculo/admin/tokens", TokenList(tokens, last_uses, problem, now).get, access.ADMIN, _describe
        )
    ]


def _describe() -> Operation:
    text: JsonObject = {"type": "string"}
    maybe: JsonObject = {"type": ["string", "null"]}
    moment: JsonObject = {**maybe, "description": "A time in UTC, to the second."}
    row: dict[str, JsonObject] = {
        "name": text,
        "id": text,
        "scopes": {"type": ["array", "null"], "items": text, "description": "null is every scope but `admin`."},
        "created": moment,
        "expires": moment,
        "expired": {"type": "boolean"},
        "last_used_at": moment,
        "source": {**text, "description": "Where the token is from."},
    }
    rows: JsonObject = {"type": "array", "items": object_of(row)}
    problem: JsonObject = {**maybe, "description": "Why uses at other processes, and before the start, are not known."}
    return Operation(
        "listTokens",
        "The accepted tokens, without their hashes. The token needs the scope `admin`.",
        {200: response("The tokens.", json_content(reference("Tokens")))},
        schemas={"Tokens": object_of({"tokens": rows, "problem": problem})},
    )
