"""The parts of the OpenAPI operations of the write API. Loaded when the document is first read, and pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from tentaculo.model.failure import Failure
from tentaculo.server.openapi import (
    JsonObject,
    Operation,
    json_content,
    object_of,
    problem,
    reference,
    response,
)

_TEXT: Final[JsonObject] = {"type": "string"}
_TABLE: Final[JsonObject] = {"type": "object", "description": "As in the configuration file."}
_PARAMETERS: Final[Mapping[str, JsonObject]] = {
    "name": {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    },
    "number": {
        "name": "number",
        "in": "path",
        "required": True,
        "description": "Place in the list; the first is 0.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 999_999},
    },
}
_IF_MATCH: Final[JsonObject] = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "description": "The ETag of the configuration that is changed, or * for any.",
    "schema": {"type": "string", "pattern": r'^(\*|"[!-~]*")$'},
}
_ETAG: Final = {"ETag": {"description": "The generation, for If-Match.", "schema": _TEXT}}
_READ: Final = (Failure.ORIGIN_DENIED, Failure.CHANGES_FAULTY, Failure.CHANGES_NOT_KEPT, Failure.STOPPING)
_WRITE: Final = (
    *_READ,
    *(Failure.NOT_FOUND, Failure.SET_BY_ENVIRONMENT, Failure.GENERATION_CHANGED, Failure.IF_MATCH_REQUIRED),
    *(Failure.CONFIGURATION_REJECTED, Failure.STORE_UNAVAILABLE),
)
_BODY: Final = (Failure.BODY_TOO_LARGE, Failure.UNSUPPORTED_MEDIA_TYPE)


_SWITCH: Final = object_of(
    {
        "for": {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 366 * 86400},
                {"type": "string", "pattern": "^[1-9][0-9]{0,2}[smh]?$"},
            ],
            "description": "Seconds, or a time such as 90s, 30m, 1h, 2d; for good without it.",
        },
        "reason": {"type": "string", "maxLength": 200, "pattern": "^[ -~]*$"},
    },
    optional=("for", "reason"),
)
_ENDPOINT: Final = object_of(
    {"url": _TEXT, "weight": {"type": "integer", "minimum": 1, "maximum": 1000}}, optional=("weight",)
)
BODIES: Final[Mapping[str, JsonObject]] = {
    "table": _TABLE,
    "tables": {"type": "array", "items": _TABLE},
    "switch": _SWITCH,
    "endpoint": _ENDPOINT,
    "endpoints": {"type": "array", "items": _ENDPOINT},
    "apprise": object_of({"url": _TEXT}),
}
"""The schemas of bodies."""


def read_operation(id_: str, summary: str, path: str, schema: str) -> Operation:
    """That of a path that shows what is served."""
    parameters = _parameters_of(path)
    return Operation(
        id_,
        summary,
        {200: response("It.", json_content(reference(schema)), _ETAG)},
        failures=(*_READ, Failure.NOT_FOUND) if parameters else _READ,
        parameters=parameters,
        schemas=_schemas(),
    )


def change_operation(id_: str, summary: str, path: str, body: str | None, status: int) -> Operation:
    """That of a change; `body` is a key of `BODIES`, None where it has no body."""
    return Operation(
        id_,
        summary,
        {status: response("What changed.", json_content(reference("AdminChange")), _ETAG)},
        failures=(*_WRITE, *(_BODY if body is not None else ())),
        parameters=[*_parameters_of(path), _IF_MATCH],
        refusals={Failure.CONFIGURATION_REJECTED: _faulty()},
        body=None if body is None else json_content(BODIES[body]),
        schemas=_schemas(),
    )


def _parameters_of(path: str) -> list[JsonObject]:
    return [_PARAMETERS[name] for name in re.findall(r"\{(\w+)\}", path)]


def _faulty() -> JsonObject:
    fault = object_of({"path": _TEXT, "message": _TEXT})
    members = {"properties": {"faults": {"type": "array", "items": fault, "minItems": 1}}, "required": ["faults"]}
    return {"allOf": [problem([Failure.CONFIGURATION_REJECTED.error]), members]}


def _schemas() -> dict[str, JsonObject]:
    override = object_of(
        {
            "enabled": {"type": "boolean"},
            "since": reference("Time"),
            "until": reference("Time"),
            "by": _TEXT,
            "reason": _TEXT,
        }
    )
    names = {"type": "array", "items": _TEXT}
    origin = {"type": "object", "additionalProperties": _TEXT, "description": "Where each value is from."}
    faults = {"type": "array", "items": object_of({"path": _TEXT, "message": _TEXT})}
    restart = {"type": "array", "items": object_of({"key": _TEXT, "reason": _TEXT})}
    changes = object_of(
        {
            **dict.fromkeys(("added", "removed", "changed", "kept", "changed_keys"), names),
            "needs_restart": restart,
        }
    )
    return {
        "AdminChange": object_of(
            {
                "generation": _TEXT,
                "revision": {"type": "integer"},
                "changed": {"type": "boolean"},
                "keys": names,
                "changes": changes,
            },
            optional=("changes",),
        ),
        "AdminConfiguration": object_of(
            {
                "generation": _TEXT,
                "revision": {"type": "integer"},
                "changed_at": {"anyOf": [reference("Time"), {"type": "null"}]},
                "changed_by": {"type": ["string", "null"]},
                "config": _TABLE,
                "from": origin,
                "changes": {"type": "object"},
                "overrides": {"type": "object", "additionalProperties": override},
                "not_applied": faults,
            }
        ),
        "AdminService": object_of(
            {
                "generation": _TEXT,
                "name": _TEXT,
                "config": _TABLE,
                "endpoints": {"type": "array", "items": {"type": "object"}},
                "from": origin,
                "override": {"anyOf": [override, {"type": "null"}]},
            }
        ),
    }
