"""The OpenAPI document of the native routes, and the parts by which each route describes its operation. Pure.

A route states a function that returns its `Operation`. It is called when the document is first read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tentaculo.model.failure import Failure
from tentaculo.server.access_control import TICKET_PATHS
from tentaculo.server.query_parameters import Parameter

if TYPE_CHECKING:
    from tentaculo.config.accepted_tokens import AuthSettings
    from tentaculo.server.native_routes import NativeRoute

JsonObject = dict[str, Any]

TOKEN = ("token", "bearer")
"""Names of the security schemes of which one is needed where a path takes no ticket."""
TOKEN_OR_TICKET = (*TOKEN, "ticket")
SECURITY_SCHEMES: Mapping[str, JsonObject] = {
    "token": {"type": "apiKey", "in": "header", "name": "X-VX11-Token"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "A ticket of `POST /auth/ticket`. It works once, within 60 seconds.",
    },
}
ALWAYS_POSSIBLE = (
    *(Failure.BAD_REQUEST, Failure.BAD_TARGET, Failure.REQUEST_TIMEOUT, Failure.TARGET_TOO_LONG),
    *(Failure.HEADERS_TOO_LARGE, Failure.INTERNAL, Failure.OVERLOADED),
)
"""Failures of a request to any native path."""
NEEDS_TOKEN = (Failure.AUTH_REQUIRED, Failure.FORBIDDEN)


class Operation(msgspec.Struct, frozen=True):
    """What one method of a path does. Who may send it is the route's `access`."""

    id: str
    """The name of the operation, which no other one has."""
    summary: str
    responses: Mapping[int, JsonObject]
    """What is no refusal, by status."""
    failures: Sequence[Failure] = ()
    """Those of its own. Those of any request, and of the token, are added."""
    parameters: Sequence[Parameter | JsonObject] = ()
    refusals: Mapping[Failure, JsonObject] = {}
    """The schemas of refusals with more members than `Problem`."""
    refusal_contents: Mapping[int, JsonObject] = {}
    """Contents that the refusals of a status may have too."""
    body: JsonObject | None = None
    """The content of the request's body."""
    description: str = ""
    schemas: Mapping[str, JsonObject] = {}
    """The schemas to which it refers, by name, below `#/components/schemas/`."""


def reference(name: str) -> JsonObject:
    """A schema that is described by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def object_of(properties: Mapping[str, JsonObject], *, optional: Sequence[str] = (), **members: Any) -> JsonObject:
    """The schema of an object that has these members, those in `optional` perhaps, and no other."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": dict(properties),
        "required": required,
        "additionalProperties": False,
        **members,
    }


def json_content(schema: JsonObject, media_type: str = "application/json") -> JsonObject:
    """The content of a body of one media type."""
    return {media_type: {"schema": schema}}


def response(description: str, content: JsonObject, headers: Mapping[str, JsonObject] | None = None) -> JsonObject:
    """A response with the headers that every response has, and these."""
    return {"description": description, "headers": {**_IDS, **(headers or {})}, "content": content}


def operation_object(operation: Operation, *, security: Sequence[str], may_refuse_tokens: bool) -> JsonObject:
    """The operation object. Where `security` names schemes, one of them is needed."""
    special = {failure.status: schema for failure, schema in operation.refusals.items()}
    possible = (*ALWAYS_POSSIBLE, *(NEEDS_TOKEN if may_refuse_tokens else ()), *operation.failures)
    described: JsonObject = {str(status): one for status, one in operation.responses.items()}
    for status in sorted({failure.status for failure in possible}):
        words = sorted({failure.error for failure in possible if failure.status == status})
        titles = list(dict.fromkeys(failure.title for failure in possible if failure.status == status))
        content = _error_content(special.get(status) or problem(words)) | operation.refusal_contents.get(status, {})
        described[str(status)] = response(". ".join(titles) + ".", content, _HEADERS.get(status))
    return {
        "operationId": operation.id,
        "summary": operation.summary,
        **({"description": operation.description} if operation.description else {}),
        # A ticket is a security scheme.
        "parameters": [
            query_parameter(one) if isinstance(one, Parameter) else one
            for one in operation.parameters
            if not (isinstance(one, Parameter) and one.name == "ticket")
        ],
        **({"requestBody": {"required": True, "content": operation.body}} if operation.body is not None else {}),
        "responses": dict(sorted(described.items())),
        "security": [{name: []} for name in security],
    }


def query_parameter(parameter: Parameter) -> JsonObject:
    """The parameter object."""
    schema: JsonObject = dict(parameter.schema)
    if parameter.is_list:
        schema = {"type": "array", "items": schema}
    return {
        "name": parameter.name,
        "in": "query",
        "description": parameter.description,
        "allowEmptyValue": True,
        "schema": schema,
    }


def problem(words: Sequence[str]) -> JsonObject:
    """The schema of a refusal whose `error` is one of `words`."""
    return {"allOf": [reference("Problem"), {"properties": {"error": {"enum": list(words)}}}]}


def _error_content(schema: JsonObject) -> JsonObject:
    # A browser that prefers HTML gets a page for people.
    return {**json_content(schema, "application/problem+json"), "text/html": {"schema": {"type": "string"}}}


_TEXT: JsonObject = {"type": "string"}
_IDS: Mapping[str, JsonObject] = {
    "X-Request-ID": {"description": "The id of the request.", "schema": _TEXT},
    "X-Correlation-Id": {"description": "The same.", "schema": _TEXT},
}
_RETRY: JsonObject = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}}
_HEADERS: Mapping[int, Mapping[str, JsonObject]] = {
    401: {"WWW-Authenticate": {"schema": _TEXT}},
    415: {"Accept-Post": {"description": "The media types that are accepted.", "schema": _TEXT}},
    503: _RETRY,
}

SCHEMAS: Mapping[str, JsonObject] = {
    "Problem": {
        "type": "object",
        "description": "A refusal of the gateway (RFC 9457). Programs test `error`.",
        "properties": {
            "type": {"const": "about:blank"},
            "title": _TEXT,
            "status": {"type": ["integer", "string"], "description": "The status code; `rejected` for an event."},
            "error": {"enum": sorted(failure.error for failure in Failure)},
            "status_code": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": _TEXT,
            "request_id": _TEXT,
        },
        "required": ["type", "title", "status", "error", "status_code"],
    },
    "Time": {
        "type": "string",
        "format": "date-time",
        "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z$",
    },
}
"""The schemas that several packages use."""


def document(version: str, routes: Iterable[NativeRoute], auth: AuthSettings) -> JsonObject:
    """The whole document: those of `routes` that are described."""
    paths: dict[str, JsonObject] = {}
    schemas = dict(SCHEMAS)
    for route in routes:
        if route.describe is None:
            continue
        operation, access = route.describe(), route.access
        schemes = TOKEN_OR_TICKET if route.path in TICKET_PATHS else TOKEN
        paths.setdefault(route.path, {})[route.method.lower()] = operation_object(
            operation,
            security=schemes if auth.enabled and not auth.opens(access) else (),
            may_refuse_tokens=auth.enabled and access.opened_by != "always",
        )
        schemas |= operation.schemas
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tentáculo Link",
            "version": version,
            "description": "The gateway's own paths. `/tentaculo/asyncapi.json` describes what streams carry.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        # Relative to the document, so that it is right behind another proxy too.
        "servers": [{"url": ".."}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": dict(SECURITY_SCHEMES)},
    }
