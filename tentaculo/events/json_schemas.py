"""JSON Schemas of events, made from the declarations that are checked. Loaded for the API documents only, and pure.

Only keywords that draft 7 has too: AsyncAPI 3.0 knows no later ones.
"""

from __future__ import annotations

from collections.abc import Mapping

from tentaculo.events.cloud_events import INT32, VERSION
from tentaculo.events.hub import CONTROL, End
from tentaculo.events.query import POSITION_SCHEMA
from tentaculo.events.schemas import CANONICAL, DEPTH, KEY_LENGTH, NAME_LENGTH, JsonKind, Schema
from tentaculo.events.websocket import ERRORS
from tentaculo.model.clock import CorrectedTime
from tentaculo.model.event import MAX_EVENT_ID
from tentaculo.model.health import GATEWAY_NAME
from tentaculo.server.openapi import JsonObject, object_of, reference

_END = r"$(?!\n)"
"""Python's validators let `$` match before a line feed at the end, which ECMAScript's, as the standard asks, do not."""
_PRINTABLE = r"[^\u0000-\u001f\u007f-\u009f]"
_TEXT: JsonObject = {"type": "string"}
_FLAG: JsonObject = {"type": "boolean"}
_OBJECT: JsonObject = {"type": "object"}
_NULL: JsonObject = {"type": "null"}
CURSOR: JsonObject = {"type": "string", "pattern": f"^[0-9a-f]{{12}}-[0-9]{{1,16}}{_END}"}
ANY: JsonObject = {}
_TYPE_NAMES: Mapping[JsonKind, str] = {
    kind: "array" if kind is JsonKind.LIST else kind.name.lower() for kind in JsonKind
}


def type_of(kind: JsonKind) -> JsonObject:
    """The schema of any value of a kind."""
    return {"type": _TYPE_NAMES[kind]}


def schema_name(schema: Schema) -> str:
    """The name of a canonical event in the documents: `system.alert` is SystemAlert."""
    return "".join(part.capitalize() for part in schema.type.split("."))


def canonical_fields(schema: Schema) -> JsonObject:
    """The fields of a canonical event as a producer sends them: the gateway adds a timestamp that is missing."""
    text = f"The fields of `{schema.type}` ({schema.nature.value}), at most {schema.max_bytes} bytes as compact JSON."
    return {
        "type": "object",
        "description": f"{text} `timestamp`, in milliseconds since 1970, is added if it is missing.",
        "properties": {name: type_of(kind) for name, kind in schema.fields.items()},
        "required": [name for name in schema.fields if name != "timestamp"],
    }


def _canonical_data(member: str) -> list[JsonObject]:
    """What the value of `member` must be, by the type that stands beside it."""
    return [
        {
            "if": {"properties": {"type": {"const": schema.type}}, "required": ["type"]},
            "then": {"properties": {member: reference(schema_name(schema))}, "required": [member]},
        }
        for schema in CANONICAL.values()
    ]


def canonical_broadcast(schema: Schema) -> JsonObject:
    """A canonical event as clients of the WebSocket get it."""
    names = ["type", "source", "event_id", *schema.fields]
    fields = {name: type_of(kind) for name, kind in schema.fields.items()}
    return {
        "type": "object",
        "properties": {"type": {"const": schema.type}, "source": _TEXT, "event_id": reference("EventId"), **fields},
        "required": names,
    }


def broadcast_name(schema: Schema) -> str:
    """The name of `canonical_broadcast`."""
    return f"{schema_name(schema)}Broadcast"


_NAME: JsonObject = {
    "type": "string",
    "description": f"1 to {NAME_LENGTH} printable characters, at least one of them not a space.",
    "minLength": 1,
    "maxLength": NAME_LENGTH,
    "pattern": rf"^ *[^\u0000-\u0020\u007f-\u00a0]{_PRINTABLE}*{_END}",
}
_KEY: JsonObject = {
    "type": "string",
    "description": f"The producer's own name of the event: 1 to {KEY_LENGTH} printable characters.",
    "minLength": 1,
    "maxLength": KEY_LENGTH,
    "pattern": f"^{_PRINTABLE}+{_END}",
}
_STORED: JsonObject = object_of(
    {
        "event_id": reference("EventId"),
        "source": _TEXT,
        "type": _TEXT,
        "severity": {"type": ["string", "null"]},
        "payload": _OBJECT,
        "metadata": _OBJECT,
        "broadcast": _FLAG,
        "canonical": _FLAG,
        "received_at": reference("Time"),
        "timestamp": {"type": "integer", "description": "Milliseconds since 1970, as the producer stated them."},
        "corrected": reference("CorrectedTime"),
        "key": _TEXT,
    },
    optional=("timestamp", "corrected", "key"),
    description="An event as readers of the log get it.",
)
_CONTROL_CHANNEL: JsonObject = {"const": CONTROL}
_CLOUD_EVENT: JsonObject = {
    "type": "object",
    "description": "A CloudEvent 1.0 in the JSON format. All other attributes are kept as metadata.",
    "properties": {
        "specversion": {"const": VERSION},
        "id": reference("Key"),
        "source": reference("Source"),
        "type": reference("Name"),
        "time": {"anyOf": [{"type": "string", "format": "date-time"}, _NULL]},
        "subject": {"type": ["string", "null"], "minLength": 1},
        "dataschema": {"type": ["string", "null"], "minLength": 1},
        "datacontenttype": {"type": ["string", "null"], "minLength": 1},
        "broadcast": {"enum": [True, False, "true", "false", None]},
        "data": ANY,
        "data_base64": {
            "type": ["string", "null"],
            "contentEncoding": "base64",
            "pattern": f"^([A-Za-z0-9+/]{{4}})*([A-Za-z0-9+/]{{2}}==|[A-Za-z0-9+/]{{3}}=)?{_END}",
        },
    },
    "required": ["specversion", "id", "source", "type"],
    "propertyNames": {"pattern": f"^([a-z0-9]+|data_base64){_END}"},
    "additionalProperties": {
        "anyOf": [
            {"type": ["string", "boolean", "null"]},
            {"type": "integer", "minimum": -INT32, "exclusiveMaximum": INT32},
        ]
    },
    "if": {"properties": {"data_base64": {"type": "string"}}, "required": ["data_base64"]},
    "then": {"not": {"required": ["data"]}},
}

SCHEMAS: Mapping[str, JsonObject] = {
    "EventId": {
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_EVENT_ID,
        "description": "Grows with each event, on all workers and machines.",
    },
    "Name": _NAME,
    "Key": _KEY,
    "Source": {"allOf": [reference("Name"), {"not": {"const": GATEWAY_NAME}}]},
    "Position": POSITION_SCHEMA,
    "IngestEvent": {
        "type": "object",
        "description": f"An event as a producer sends it, nested at most {DEPTH} levels. Other members are ignored.",
        "properties": {
            "source": reference("Source"),
            "type": reference("Name"),
            "payload": _OBJECT,
            "broadcast": {"type": "boolean", "default": False},
            "metadata": {"type": ["object", "null"]},
            "key": {"anyOf": [reference("Key"), _NULL]},
        },
        "required": ["source", "type", "payload"],
        "allOf": _canonical_data("payload"),
    },
    "CloudEvent": _CLOUD_EVENT,
    "CorrectedTime": object_of(
        {name: {"type": "integer"} for name in CorrectedTime._fields},
        description="When it happened by the gateway's clock: at `ms` since 1970, or at most `width_ms` before it.",
    ),
    "StoredEvent": _STORED,
    **{schema_name(schema): canonical_fields(schema) for schema in CANONICAL.values()},
}
"""The schemas of both documents."""

STREAM_SCHEMAS: Mapping[str, JsonObject] = {
    **{broadcast_name(schema): canonical_broadcast(schema) for schema in CANONICAL.values()},
    "Broadcast": {
        "type": "object",
        "description": "An event, flat: the fields of its payload, and the gateway's own `type`, `source` and `event_id`.",
        "properties": {
            "type": {**_TEXT, "not": {"enum": list(CANONICAL)}},
            "source": _TEXT,
            "event_id": reference("EventId"),
            "channel": {"not": _CONTROL_CHANNEL},
        },
        "required": ["type", "source", "event_id", "timestamp"],
    },
    "Connected": object_of({"channel": _CONTROL_CHANNEL, "type": {"const": "connected"}, "client_id": _TEXT}),
    "SocketError": object_of(
        {
            "channel": _CONTROL_CHANNEL,
            "type": {"const": "error"},
            "error": {"enum": list(ERRORS)},
            "detail": _TEXT,
            "errors": {"type": "array", "items": object_of({"field": _TEXT, "message": _TEXT})},
        },
        optional=("errors",),
    ),
    "SocketReset": object_of(
        {
            "channel": _CONTROL_CHANNEL,
            "type": {"const": "reset"},
            "detail": _TEXT,
            "name": _TEXT,
            "position": CURSOR,
        }
    ),
    "StreamStart": object_of({"name": _TEXT, "position": CURSOR}),
    "StreamReset": object_of({"reason": _TEXT, "name": _TEXT, "position": CURSOR}),
    "StreamEnd": object_of({"reason": {"enum": [end.value for end in End]}}),
}
"""The schemas of what `/ws` and `/events/stream` carry."""
