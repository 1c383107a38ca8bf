"""What the OpenAPI descriptions of all native paths share. Loaded when the document is first read, and pure.

Each package that has paths describes them in a module `openapi` of its own, with these parts; the gateway joins them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tentaculo.model.failure import Failure
from tentaculo.server.query_parameters import Parameter

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


class Description(NamedTuple):
    """What one package adds to the document."""

    paths: Mapping[str, JsonObject]
    """Path item objects by path."""
    schemas: Mapping[str, JsonObject]
    """JSON Schemas by name, below `#/components/schemas/`."""


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


def operation(
    summary: str,
    responses: Mapping[int, JsonObject],
    *,
    id_: str,
    failures: Iterable[Failure] = (),
    security: Sequence[str] = (),
    parameters: Sequence[Parameter] = (),
    schemas: Mapping[Failure, JsonObject] | None = None,
    **members: Any,
) -> JsonObject:
    """The description of one method of a path.

    `failures` are those of its own; those of any request, and of the token where `security` names schemes, are added.
    `schemas` has those of refusals with more members than `Problem`. `members` are further members of the operation.
    """
    special = {failure.status: schema for failure, schema in (schemas or {}).items()}
    possible = (*ALWAYS_POSSIBLE, *(NEEDS_TOKEN if security else ()), *failures)
    described: JsonObject = {str(status): one for status, one in responses.items()}
    for status in sorted({failure.status for failure in possible}):
        words = sorted({failure.error for failure in possible if failure.status == status})
        titles = list(dict.fromkeys(failure.title for failure in possible if failure.status == status))
        content = _error_content(special.get(status) or problem(words))
        described[str(status)] = response(". ".join(titles) + ".", content, _HEADERS.get(status))
    found: JsonObject = {
        "operationId": id_,
        "summary": summary,
        "parameters": [query_parameter(one) for one in parameters if one.name != "ticket"],
        "responses": dict(sorted(described.items())),
        "security": [{name: []} for name in security],
    }
    return {**found, **members}


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


def document(version: str, parts: Iterable[Description]) -> JsonObject:
    """The whole document."""
    paths: JsonObject = {}
    schemas = dict(SCHEMAS)
    for part in parts:
        paths |= part.paths
        schemas |= part.schemas
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
