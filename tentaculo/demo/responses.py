"""Answers that a service of the demonstration can give: canned JSON, and an echo of what arrived."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NoReturn
from uuid import uuid4

from aiohttp import web

from tentaculo.demo.services import NAME, TOKEN_HEADER, Handler

ECHO_TEXT = 4096
"""Bytes of a body up to which the echo repeats it as text."""

Reply = Callable[[web.Request, Any], Mapping[str, Any]]
"""Makes an answer from a request and its JSON body (None where there is none)."""


def moment() -> str:
    """The time, as the services write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def new_id(kind: str) -> str:
    """A fresh id, such as `task-1f2e3d4c`."""
    return f"{kind}-{uuid4().hex[:8]}"


def canned(answers: Mapping[str, Mapping[str, Any] | Reply], *, status: int = 200) -> tuple[web.RouteDef, ...]:
    """Routes from a table: `"GET /tasks"` to the answer, or to a function that makes it."""
    return tuple(
        web.get(path, _replying(answer, status))
        if method == "GET"
        else web.route(method, path, _replying(answer, status))
        for (method, path), answer in ((key.split(" ", 1), answer) for key, answer in answers.items())
    )


def _replying(answer: Mapping[str, Any] | Reply, status: int) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        body = await _json(request)
        content = answer(request, body) if callable(answer) else answer
        return web.json_response({"service": request.app[NAME], **content}, status=status)

    return handle


async def _json(request: web.Request) -> Any:
    if request.content_type != "application/json" or not request.can_read_body:
        return None
    try:
        return await request.json()
    except (ValueError, RecursionError):
        _refuse("the body is not JSON")


def _refuse(why: str) -> NoReturn:
    raise web.HTTPBadRequest(text=why)


def text_of(body: Any, key: str, default: str) -> str:
    """`body[key]` where that is text, else `default`."""
    value = body.get(key) if isinstance(body, dict) else None
    return value if isinstance(value, str) else default


async def echo(request: web.Request) -> web.Response:
    """What arrived, as it arrived: the raw target, every header in order, the body's size and digest.

    The token is the one thing not repeated.
    """
    digest, size, start = sha256(), 0, b""
    async for chunk in request.content.iter_any():
        digest.update(chunk)
        size += len(chunk)
        start += chunk[: max(0, ECHO_TEXT + 1 - len(start))]
    hidden = TOKEN_HEADER.lower()
    answer = {
        "service": request.app[NAME],
        "method": request.method,
        "target": request.raw_path,
        "path": request.path,
        "query": [list(pair) for pair in request.query.items()],
        "headers": [[k, "(present)" if k.lower() == hidden else v] for k, v in request.headers.items()],
        "body": {"bytes": size, "sha256": digest.hexdigest()},
    }
    if 0 < size <= ECHO_TEXT:
        answer["body"] = {**answer["body"], "text": start.decode(errors="replace")}  # type: ignore[dict-item]
    return web.json_response(answer, dumps=lambda value: json.dumps(value, indent=1))


def echoes(*paths: str) -> tuple[web.RouteDef, ...]:
    """The echo, at each path and for every method."""
    return tuple(web.route("*", path, echo) for path in paths)
