"""Early warnings as JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from tentaculo.model import access
from tentaculo.model.early_warning import EarlyWarning, outcome_sentence, sentence
from tentaculo.server.native_routes import NativeRoute, json_response


def warning_shape(warning: EarlyWarning) -> dict[str, Any]:
    """One warning. Values of latencies are in seconds."""
    return {
        "service": warning.service,
        "signal": warning.signal,
        "rule": warning.rule,
        "text": sentence(warning),
        "opened_at": warning.opened_at,
        "level": warning.level,
        "usual": warning.usual,
        "limit": warning.limit,
        "expected_at": warning.expected_at,
        "earliest_at": warning.earliest_at,
        "latest_at": warning.latest_at,
        "outcome": warning.outcome,
        "outcome_text": outcome_sentence(warning),
        "ended_at": warning.ended_at,
    }


def routes(read: Callable[[Sequence[str] | None], Awaitable[Sequence[EarlyWarning]]]) -> list[NativeRoute]:
    """The route `/tentaculo/warnings`. `read` raises `Problem` (503) without a database."""

    async def show(_: web.Request) -> web.Response:
        return json_response({"warnings": [warning_shape(one) for one in await read(None)]})

    return [NativeRoute("GET", "/tentaculo/warnings", show, access.STATUS)]
