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
    problem,
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
    reload = operation(
        "Reads the configuration again. Whole or not at all. The token needs the scope `admin`.",
        {200: response("What has changed.", json_content(reference("Reload")))},
        id_="reload",
        failures=[Failure.CONFIGURATION_REJECTED, Failure.STARTING, Failure.STOPPING],
        security=TOKEN if is_guarded else (),
        schemas={Failure.CONFIGURATION_REJECTED: _rejected()},
    )
    last = operation(
        "Which configuration is served since when, and what became of the last reload. The token needs the scope `admin`.",
        {200: response("It.", json_content(reference("LastReload")))},
        id_="lastReload",
        security=TOKEN if is_guarded else (),
    )
    tokens = operation(
        "The accepted tokens, without their hashes. The token needs the scope `admin`.",
        {200: response("The tokens.", json_content(reference("Tokens")))},
        id_="listTokens",
        security=TOKEN if is_guarded else (),
    )
    return Description(
        {
            "/auth/ticket": {"post": issue},
            "/tentaculo/admin/reload": {"get": last, "post": reload},
            "/tentaculo/admin/tokens": {"get": tokens},
            "/tentaculo/warnings": {"get": listed},
        },
        {
            "Ticket": ticket,
            "EarlyWarning": _warning(),
            "EarlyWarnings": _warnings(),
            "Fault": object_of({"path": {"type": "string"}, "message": {"type": "string"}}),
            "Reload": _reload(),
            "LastReload": _last_reload(),
            "Tokens": _tokens(),
        },
    )


def _last_reload() -> JsonObject:
    text: JsonObject = {"type": "string"}
    attempt: dict[str, JsonObject] = {
        "by": text,
        "at": reference("Time"),
        "accepted": {"type": "boolean"},
        "reason": {"type": ["string", "null"], "description": "Why nothing was changed."},
        "faults": {"type": "array", "items": reference("Fault")},
    }
    generation: JsonObject = {"type": "integer", "minimum": 1, "description": "That of the start is 1."}
    served: dict[str, JsonObject] = {"generation": generation, "by": text, "at": reference("Time")}
    return object_of({**served, "last_reload": object_of(attempt)})


def _tokens() -> JsonObject:
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
    return object_of({"tokens": rows, "problem": problem})


def _reload() -> JsonObject:
    names = {"type": "array", "items": {"type": "string"}}
    restart = object_of({"key": {"type": "string"}, "reason": {"type": "string"}})
    return object_of(
        {
            "generation": {"type": "integer", "minimum": 1, "description": "That of the start is 1."},
            "by": {"type": "string"},
            "at": reference("Time"),
            **{key: {**names, "description": "Names of services."} for key in ("added", "removed", "changed", "kept")},
            "changed_keys": {**names, "description": "Changed settings outside services that hold now."},
            "needs_restart": {
                "type": "array",
                "items": restart,
                "description": "Changed settings that hold after the next start.",
            },
            "warnings": names,
        }
    )


def _rejected() -> JsonObject:
    members = {
        "generation": {"type": "integer", "minimum": 1},
        "faults": {"type": "array", "items": reference("Fault")},
    }
    rejected = problem([Failure.CONFIGURATION_REJECTED.error])
    return {"allOf": [*rejected["allOf"], {"properties": members, "required": list(members)}]}


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
