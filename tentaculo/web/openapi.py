"""The OpenAPI description of the paths of this package. Loaded when the document is first read, and pure."""

from __future__ import annotations

from tentaculo.model.early_warning import SIGNALS
from tentaculo.model.failure import Failure
from tentaculo.server.openapi import (
    TOKEN,
    Description,
    JsonObject,
    json_content,
    object_of,
    operation,
    reference,
    response,
)


def describe(*, is_guarded: bool) -> Description:
    """The paths; `is_guarded` says whether the gateway asks for tokens."""
    ticket = object_of(
        {
            "ticket": {"type": "string"},
            "expires_in": {"type": "integer", "description": "Seconds."},
            "expires_at": reference("Time"),
        }
    )
    issue = operation(
        "A ticket for an EventSource or a WebSocket, which cannot send a token.",
        {201: response("It works once.", json_content(reference("Ticket")))},
        id_="issueTicket",
        security=TOKEN if is_guarded else (),
    )
    listed = operation(
        "The early warnings of the last 90 days and those that are open, the newest 200, the newest first.",
        {200: response("The warnings.", json_content(reference("EarlyWarnings")))},
        id_="listWarnings",
        failures=[Failure.STORE_UNAVAILABLE],
        security=TOKEN if is_guarded else (),
    )
    return Description(
        {"/auth/ticket": {"post": issue}, "/tentaculo/warnings": {"get": listed}},
        {"Ticket": ticket, "EarlyWarning": _warning(), "EarlyWarnings": _warnings()},
    )


def _warnings() -> JsonObject:
    return object_of({"warnings": {"type": "array", "items": reference("EarlyWarning"), "maxItems": 200}})


def _warning() -> JsonObject:
    value = {"type": "number", "description": "In seconds where the signal is a latency."}
    time = {"anyOf": [reference("Time"), {"type": "null"}]}
    return object_of(
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
