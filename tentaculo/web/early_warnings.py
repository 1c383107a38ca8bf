"""Early warnings as JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from tentaculo.model import access
from tentaculo.model.early_warning import SIGNALS, EarlyWarning, outcome_sentence, sentence
from tentaculo.model.failure import Failure
from tentaculo.server.native_routes import NativeRoute, json_response
from tentaculo.server.openapi import Operation, json_content, object_of, reference, response


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

    return [NativeRoute("GET", "/tentaculo/warnings", show, access.STATUS, _describe)]


def _describe() -> Operation:
    value = {"type": "number", "description": "In seconds where the signal is a latency."}
    time = {"anyOf": [reference("Time"), {"type": "null"}]}
    warning = object_of(
        {
            "service": {"type": "string"},
            "signal": {
                "type": "string",
                "description": "A latency, or `gauge:` (`gauge_low:` with a lower limit) and the path of a number in the"
                " health response.",
                "pattern": f"^({'|'.join(SIGNALS)}|gauge(_low)?:.*)$",
            },
            "rule": {"enum": ["trend", "level"]},
            "text": {"type": "string", "description": "Why it opened."},
            "opened_at": reference("Time"),
            "level": value,
            "usual": value,
            "limit": value,
            **dict.fromkeys(("expected_at", "earliest_at", "latest_at"), time),
            "outcome": {"enum": ["open", "reached", "ended", "unknown"]},
            "outcome_text": {"type": "string"},
            "ended_at": time,
        }
    )
    warnings = {"type": "array", "items": reference("EarlyWarning"), "maxItems": 200}
    return Operation(
        "listWarnings",
        "The early warnings of the last 90 days and those that are open, the newest 200, the newest first.",
        {200: response("The warnings.", json_content(reference("EarlyWarnings")))},
        failures=[Failure.STORE_UNAVAILABLE],
        schemas={"EarlyWarning": warning, "EarlyWarnings": object_of({"warnings": warnings})},
    )
