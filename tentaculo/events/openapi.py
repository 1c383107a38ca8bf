"""The OpenAPI description of the events' paths. Loaded when the document is first read, and pure."""

from __future__ import annotations

from collections.abc import Mapping

from tentaculo.config.schema import Config
from tentaculo.events import correlations, history, ingest, stream
from tentaculo.events.json_schemas import CURSOR, SCHEMAS
from tentaculo.events.schemas import Nature
from tentaculo.model.event import StoreOutcome
from tentaculo.model.failure import Failure
from tentaculo.server.openapi import (
    TOKEN,
    TOKEN_OR_TICKET,
    Description,
    JsonObject,
    json_content,
    object_of,
    operation,
    problem,
    reference,
    response,
)

_TEXT: JsonObject = {"type": "string"}
_COUNT: JsonObject = {"type": "integer", "minimum": 0}
_LIST_OF_ERRORS: JsonObject = {"type": "array", "items": reference("FieldError"), "minItems": 1}
_EDGE: JsonObject = {
    "source": reference("EventId"),
    "target": reference("EventId"),
    "strength": {"type": "number", "minimum": 0},
    "by": _TEXT,
}
_ANY_EDGE: JsonObject = {"oneOf": [reference("StatedEdge"), reference("StatisticalEdge")]}
_OFFSET: JsonObject = {
    "low_ms": {"type": "integer"},
    "high_ms": {"type": ["integer", "null"]},
    "width_ms": {"type": ["integer", "null"]},
    "basis": {"type": "array", "items": {"enum": ["date", "stated"]}},
    "since": reference("Time"),
}
_STORED = [outcome.value for outcome in (StoreOutcome.DUPLICATE, StoreOutcome.CONFLICT)]
_SCHEMAS: Mapping[str, JsonObject] = {
    "FieldError": object_of({"field": _TEXT, "message": _TEXT, "index": _COUNT}, optional=("index",)),
    "Receipt": object_of(
        {
            "status": {"const": "received"},
            "source": reference("Source"),
            "type": reference("Name"),
            "id": reference("EventId"),
            "event_id": {**reference("EventId"), "description": "The same number as `id`."},
            "duplicate": {"const": True, "description": "This event was stored before."},
        },
        optional=("duplicate",),
    ),
    "BatchResult": object_of(
        {
            "status": {"enum": ["received", "partial"]},
            "results": {
                "type": "array",
                "description": "One for each event, in their order.",
                "items": {
                    "oneOf": [
                        object_of(
                            {
                                "status": {"enum": ["received", *_STORED]},
                                "id": reference("EventId"),
                                "event_id": reference("EventId"),
                            }
                        ),
                        object_of({"status": {"const": "rejected"}, "errors": _LIST_OF_ERRORS}),
                    ]
                },
            },
        }
    ),
    "Rejection": {
        "allOf": [
            problem([Failure.INVALID_EVENT.error]),
            {
                "properties": {
                    "status": {"const": "rejected"},
                    "reason": {"const": Failure.INVALID_EVENT.error},
                    "errors": _LIST_OF_ERRORS,
                },
                "required": ["reason", "errors"],
            },
        ]
    },
    "EventPage": object_of(
        {
            "events": {"type": "array", "items": reference("StoredEvent")},
            "next": {"anyOf": [CURSOR, {"type": "null"}]},
            "previous": {"anyOf": [CURSOR, {"type": "null"}]},
        },
        description="`next` and `previous` are cursors for `before` and `after`; the header Link has them as addresses.",
    ),
    "Cardinality": object_of(
        {
            "status": {"const": "ok"},
            "timestamp": reference("Time"),
            "window_seconds": _COUNT,
            "events": {
                "type": "object",
                "additionalProperties": object_of({"count": _COUNT, "rate_per_min": {"type": "number", "minimum": 0}}),
            },
            "total_events": _COUNT,
        }
    ),
    "Node": object_of(
        {
            "id": reference("EventId"),
            "type": _TEXT,
            "source": _TEXT,
            "timestamp": {"type": "integer", "description": "Milliseconds since 1970."},
            "clock": {"enum": ["received", "corrected"], "description": "Whether `timestamp` is the corrected time."},
            "severity": {"type": ["string", "null"]},
            "nature": {"enum": [*(nature.value for nature in Nature), None]},
            "width_ms": {"type": "integer", "description": "How much earlier it may have been."},
        },
        optional=("width_ms",),
    ),
    "StatedEdge": object_of({**_EDGE, "kind": {"const": "stated"}}),
    "StatisticalEdge": object_of(
        {
            **_EDGE,
            "kind": {"const": "statistical"},
            **dict.fromkeys(("incidents_with", "incidents", "other_windows_with", "other_windows"), _COUNT),
            **{name: {"type": "number", "minimum": 0, "maximum": 1} for name in ("p", "q")},
            "sentence": _TEXT,
        }
    ),
    "Clocks": object_of(
        {
            "status": {"const": "ok"},
            "timestamp": reference("Time"),
            "clocks": {
                "type": "array",
                "items": object_of(
                    {
                        "source": _TEXT,
                        **_OFFSET,
                        "endpoints": {"type": "array", "items": object_of({"endpoint": _TEXT, **_OFFSET})},
                    }
                ),
            },
        }
    ),
    "Correlations": object_of(
        {
            "status": {"const": "ok"},
            "timestamp": reference("Time"),
            "graph": object_of(
                {
                    "nodes": {"type": "array", "items": reference("Node")},
                    "edges": {"type": "array", "items": _ANY_EDGE, "maxItems": correlations.MOST_EDGES},
                    "total_nodes": _COUNT,
                    "total_edges": _COUNT,
                }
            ),
        }
    ),
}
_LAST_EVENT_ID: JsonObject = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The last `id` that the client got. It counts more than `since`.",
    "schema": reference("Position"),
}


def describe(config: Config) -> Description:
    """The paths of events in a gateway with this configuration."""
    is_guarded = config.auth.enabled
    token, ticket = (TOKEN, TOKEN_OR_TICKET) if is_guarded else ((), ())
    paths = {
        "/events/ingest": {"post": _ingest(config, token)},
        "/events": {"get": _history(token)},
        "/events/stream": {"get": _stream(ticket)},
        "/debug/events/cardinality": {
            "get": operation(
                "How many events of each type were stored in the last minutes.",
                {200: response("The counts.", json_content(reference("Cardinality")))},
                id_="countEvents",
                security=token,
            )
        },
        "/debug/events/correlations": {
            "get": operation(
                "Which of the newest events belong together, by what they state.",
                {200: response("The graph.", json_content(reference("Correlations")))},
                id_="correlateEvents",
                parameters=correlations.PARAMETERS,
                failures=[Failure.STORE_UNAVAILABLE],
                security=token,
            )
        },
        "/tentaculo/clocks": {
            "get": operation(
                "By how much the clocks of the sources of events differ from the gateway's.",
                {200: response("The offsets.", json_content(reference("Clocks")))},
                id_="listClocks",
                security=token,
            )
        },
    }
    return Description(paths, {**SCHEMAS, **_SCHEMAS})


def _ingest(config: Config, security: tuple[str, ...]) -> JsonObject:
    limits = config.limits
    event, cloud_event = reference("IngestEvent"), reference("CloudEvent")
    events: JsonObject = {"type": "array", "items": event, "maxItems": limits.events_batch}
    lines: JsonObject = {"type": "string", "format": "event-lines", "description": "One IngestEvent in each line."}
    schemas: Mapping[str, JsonObject] = {
        "application/json": {"anyOf": [event, events]},
        "application/x-ndjson": lines,
        "application/jsonl": lines,
        "application/cloudevents+json": cloud_event,
        "application/cloudevents-batch+json": {**events, "items": cloud_event},
    }
    text = (
        f"An event may have {limits.events_body} bytes, a body of several {limits.events_batch_body} bytes and"
        f" {limits.events_batch} events. A CloudEvent in binary mode is taken too: with headers that begin with `ce-`,"
        " and any media type."
    )
    result: JsonObject = {"anyOf": [reference("Receipt"), reference("BatchResult")]}
    conflict: JsonObject = {
        "allOf": [
            problem([Failure.EVENT_CONFLICT.error]),
            {
                "properties": {name: reference("EventId") for name in ("id", "event_id")},
                "required": ["id", "event_id"],
            },
        ]
    }
    found = operation(
        "Store one event or several, and broadcast those that ask for it.",
        {
            200: response("Every event was stored before, or there is none.", json_content(result)),
            201: response("Every event is stored durably, now or before.", json_content(result)),
            207: response("Some events are stored and others not.", json_content(reference("BatchResult"))),
        },
        id_="ingestEvents",
        description=text,
        failures=[
            *(Failure.EVENT_CONFLICT, Failure.BODY_TOO_LARGE, Failure.UNSUPPORTED_MEDIA_TYPE),
            *(Failure.INVALID_EVENT, Failure.STORE_UNAVAILABLE),
        ],
        schemas={Failure.EVENT_CONFLICT: conflict, Failure.INVALID_EVENT: reference("Rejection")},
        security=security,
    )
    content = {media_type: {"schema": schemas[media_type]} for media_type in ingest.ACCEPTED.split(", ")}
    return {**found, "requestBody": {"required": True, "content": content}}


def _history(security: tuple[str, ...]) -> JsonObject:
    lines: JsonObject = {"type": "string", "description": "One StoredEvent in each line."}
    content = {**json_content(reference("EventPage")), history.NDJSON: {"schema": lines}}
    link: JsonObject = {"Link": {"description": 'The next page (`rel="next"`) and the previous one.', "schema": _TEXT}}
    return operation(
        "The stored events, page by page in both directions.",
        {200: response("One page.", content, link)},
        id_="listEvents",
        parameters=history.PARAMETERS,
        failures=[Failure.STORE_UNAVAILABLE],
        security=security,
    )


def _stream(security: tuple[str, ...]) -> JsonObject:
    frames: JsonObject = {"type": "string", "description": "Frames, as `/tentaculo/asyncapi.json` describes them."}
    found = operation(
        "The log as Server-Sent Events, from any position of it and then live.",
        {200: response("The stream. It does not end by itself.", {"text/event-stream": {"schema": frames}})},
        id_="streamEvents",
        parameters=stream.PARAMETERS,
        failures=[Failure.STORE_UNAVAILABLE, Failure.OVERLOADED, Failure.STOPPING, Failure.ORIGIN_DENIED],
        security=security,
    )
    return {**found, "parameters": [*found["parameters"], _LAST_EVENT_ID]}
