"""The AsyncAPI description of `/ws` and `/events/stream`. Loaded when the document is first read, and pure.

A message of the stream is one frame: its payload is the JSON of `data`, and its name is the field `event`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tentaculo.config.schema import Config
from tentaculo.events import stream, websocket
from tentaculo.events.json_schemas import SCHEMAS, STREAM_SCHEMAS, broadcast_name, schema_name
from tentaculo.events.schemas import CANONICAL, Schema
from tentaculo.server.openapi import SCHEMAS as SHARED_SCHEMAS
from tentaculo.server.openapi import (
    SECURITY_SCHEMES,
    TOKEN_OR_TICKET,
    JsonObject,
    object_of,
    reference,
)
from tentaculo.server.query_parameters import Parameter

_ANY_OBJECT: JsonObject = {"type": "object"}
_SENT = {
    **{
        broadcast_name(schema): f"A {schema.type} that another client or a producer sent."
        for schema in CANONICAL.values()
    },
    "Broadcast": "Another event that was ingested with `broadcast`.",
    "Connected": "The first message.",
    "SocketError": "The last message of the client was not accepted.",
    "SocketReset": "In place of history: the position is not one of this log, and live events follow.",
}
"""What a client of the WebSocket gets beside its echoes."""
_FRAMES = {
    "StoredEvent": ("event", "An event. The field `event` has its type, unless that is a name of the stream's own."),
    "StreamStart": ("start", "The first frame: the log, and the position at which the stream begins."),
    "StreamReset": ("reset", "In place of `start`: the position is not one of this log, and the stream begins now."),
    "StreamEnd": ("end", "The last frame."),
}


def describe(config: Config, version: str) -> JsonObject:
    """The whole document for a gateway with this configuration."""
    received = {schema_name(schema): _canonical(schema) for schema in CANONICAL.values()}
    received["OtherObject"] = _message("Any other JSON object: it is only echoed.", _ANY_OBJECT)
    sent = {name: _message(text, reference(name)) for name, text in _SENT.items()}
    sent["Echo"] = _message("The client's own message, unchanged.", _ANY_OBJECT)
    frames = {name: _message(text, reference(name), name=event) for name, (event, text) in _FRAMES.items()}
    security = _security(TOKEN_OR_TICKET) if config.auth.enabled else []
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tentáculo Link",
            "version": version,
            "description": "What the gateway's streams carry. `/tentaculo/openapi.json` describes the other paths.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "socket": _server("ws", [] if config.auth.open_websocket else security),
            "stream": _server("http", security),
        },
        "channels": {
            "socket": {
                "address": "/ws",
                "title": "Events as a WebSocket",
                "description": f"A message may have {config.limits.events_body} bytes. Binary frames are refused.",
                "servers": [{"$ref": "#/servers/socket"}],
                "messages": _references("messages", [*received, *sent]),
                "bindings": {"ws": {"method": "GET", "query": _query(websocket.PARAMETERS), "bindingVersion": "0.1.0"}},
            },
            "stream": {
                "address": "/events/stream",
                "title": "The log as Server-Sent Events",
                "description": (
                    "The field `id` of a frame is the position from which a client resumes. Comments are heartbeats,"
                    f" one after {stream.HEARTBEAT_SECONDS:g} s without an event."
                ),
                "servers": [{"$ref": "#/servers/stream"}],
                "messages": _references("messages", frames),
            },
        },
        "operations": {
            "receiveMessages": _operation("receive", "socket", received, "What a client sends."),
            "sendMessages": _operation("send", "socket", sent, "What a client gets."),
            "sendFrames": {
                **_operation("send", "stream", frames, "What a reader of the stream gets."),
                "bindings": {"http": {"method": "GET", "query": _query(stream.PARAMETERS), "bindingVersion": "0.3.0"}},
            },
        },
        "components": {
            "messages": {**received, **sent, **frames},
            "schemas": {**SHARED_SCHEMAS, **SCHEMAS, **STREAM_SCHEMAS},
            "securitySchemes": {name: _scheme(name, scheme) for name, scheme in SECURITY_SCHEMES.items()},
        },
    }


def _canonical(schema: Schema) -> JsonObject:
    """The flat form of a canonical event, as a client sends it."""
    flat: JsonObject = {"properties": {"type": {"const": schema.type}}, "required": ["type"]}
    text = f"A {schema.type}: it is echoed, stored, and sent to every other client."
    return _message(text, {"allOf": [flat, reference(schema_name(schema))]})


def _message(summary: str, payload: JsonObject, *, name: str | None = None) -> JsonObject:
    return {**({"name": name} if name else {}), "summary": summary, "payload": payload}


def _server(protocol: str, security: Sequence[JsonObject]) -> JsonObject:
    variable: JsonObject = {"description": "Host and port of the gateway.", "default": "127.0.0.1:8000"}
    shape: JsonObject = {"host": "{host}", "protocol": protocol, "variables": {"host": variable}}
    return {**shape, "security": list(security)} if security else shape


def _security(names: Sequence[str]) -> list[JsonObject]:
    return [{"$ref": f"#/components/securitySchemes/{name}"} for name in names]


def _scheme(name: str, scheme: JsonObject) -> JsonObject:
    # A key in a header or a query is an apiKey in OpenAPI, and an httpApiKey in AsyncAPI.
    return {**scheme, "type": "httpApiKey"} if scheme["type"] == "apiKey" else dict(scheme)


def _references(section: str, names: Mapping[str, object] | Sequence[str]) -> JsonObject:
    return {name: {"$ref": f"#/components/{section}/{name}"} for name in names}


def _operation(action: str, channel: str, messages: Mapping[str, object], summary: str) -> JsonObject:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }


def _query(parameters: Sequence[Parameter]) -> JsonObject:
    properties = {one.name: {"description": one.description, **one.schema} for one in parameters}
    return object_of(properties, optional=list(properties))
