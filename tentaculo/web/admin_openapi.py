"""The OpenAPI description of the write API. Loaded when the document is first read, and pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

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

_TEXT: Final[JsonObject] = {"type": "string"}
_TABLE: Final[JsonObject] = {"type": "object", "description": "As in the configuration file."}
_NAME: Final[JsonObject] = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
}
_NUMBER: Final[JsonObject] = {
    "name": "number",
    "in": "path",
    "required": True,
    "description": "Place in the list; the first is 0.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 999_999},
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


def describe(*, is_guarded: bool) -> Description:
    """The paths; `is_guarded` says whether the gateway asks for tokens."""
    security = TOKEN if is_guarded else ()
    service, override = (
        "/tentaculo/admin/services/{name}",
        object_of(
            {
                "enabled": {"type": "boolean"},
                "since": reference("Time"),
                "until": reference("Time"),
                "by": _TEXT,
                "reason": _TEXT,
            }
        ),
    )

    def read(summary: str, id_: str, schema: str, parameters: Sequence[JsonObject] = ()) -> JsonObject:
        failures = (*_READ, Failure.NOT_FOUND) if parameters else _READ
        shown = {200: response("It.", json_content(reference(schema)), _ETAG)}
        return _with_parameters(operation(summary, shown, id_=id_, failures=failures, security=security), parameters)

    def write(
        summary: str, id_: str, parameters: Sequence[JsonObject], body: JsonObject | None = None, status: int = 200
    ) -> JsonObject:
        done = {status: response("What changed.", json_content(reference("AdminChange")), _ETAG)}
        members = {} if body is None else {"requestBody": {"required": True, "content": json_content(body)}}
        failures = (*_WRITE, *(_BODY if body is not None else ()))
        schemas = {Failure.CONFIGURATION_REJECTED: _faulty()}
        found = operation(summary, done, id_=id_, failures=failures, security=security, schemas=schemas)
        return _with_parameters({**found, **members}, (*parameters, _IF_MATCH))

    def listed(noun: str, path: str, item: JsonObject, parameters: Sequence[JsonObject]) -> dict[str, JsonObject]:
        title = noun.title().replace(" ", "")
        return {
            path: {
                "put": write(f"Replace all {noun}s.", f"replace{title}s", parameters, {"type": "array", "items": item}),
                "post": write(f"Add one to the {noun}s.", f"add{title}", parameters, item, 201),
            },
            f"{path}/{{number}}": {
                "delete": write(f"Remove one of the {noun}s.", f"remove{title}", (*parameters, _NUMBER))
            },
        }

    switch = object_of(
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
    endpoint = object_of(
        {"url": _TEXT, "weight": {"type": "integer", "minimum": 1, "maximum": 1000}}, optional=("weight",)
    )
    paths: dict[str, JsonObject] = {
        "/tentaculo/admin/config": {
            "get": read("The configuration that is served.", "readConfiguration", "AdminConfiguration")
        },
        "/tentaculo/admin/changes": {"delete": write("Take back all changes.", "undoChanges", ())},
        service: {
            "get": read("One service.", "readService", "AdminService", (_NAME,)),
            "put": write("Add or replace a service.", "replaceService", (_NAME,), _TABLE),
            "patch": write("Merge keys into a service (RFC 7396).", "mergeService", (_NAME,), _TABLE),
            "delete": write("Remove a service.", "removeService", (_NAME,)),
        },
        f"{service}/enable": {"post": write("Switch a service on.", "enableService", (_NAME,), switch)},
        f"{service}/disable": {"post": write("Switch a service off.", "disableService", (_NAME,), switch)},
        f"{service}/override": {"delete": write("End what was switched for a time.", "endOverride", (_NAME,))},
        f"{service}/undo": {"post": write("Take back the changes of a service.", "undoService", (_NAME,))},
        **listed("route", f"{service}/routes", _TABLE, (_NAME,)),
        **listed("endpoint", f"{service}/endpoints", endpoint, (_NAME,)),
        "/tentaculo/admin/alerts/webhooks/{name}": {
            "put": write("Add or replace a receiver of webhooks.", "replaceWebhook", (_NAME,), _TABLE),
            "patch": write("Merge keys into a receiver of webhooks.", "mergeWebhook", (_NAME,), _TABLE),
            "delete": write("Remove a receiver of webhooks.", "removeWebhook", (_NAME,)),
        },
        "/tentaculo/admin/alerts/apprise/{name}": {
            "put": write("Add or replace an Apprise channel.", "replaceApprise", (_NAME,), object_of({"url": _TEXT})),
            "delete": write("Remove an Apprise channel.", "removeApprise", (_NAME,)),
        },
        **listed("maintenance plan", "/tentaculo/admin/maintenance", _TABLE, ()),
    }
    return Description(paths, _schemas(override))


def _with_parameters(found: JsonObject, parameters: Sequence[JsonObject]) -> JsonObject:
    return {**found, "parameters": [*found["parameters"], *parameters]}


def _faulty() -> JsonObject:
    fault = object_of({"path": _TEXT, "message": _TEXT})
    members = {"properties": {"faults": {"type": "array", "items": fault, "minItems": 1}}, "required": ["faults"]}
    return {"allOf": [problem([Failure.CONFIGURATION_REJECTED.error]), members]}


def _schemas(override: JsonObject) -> dict[str, JsonObject]:
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
