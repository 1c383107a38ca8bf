"""The OpenAPI operations of the events' paths that have many schemas. Loaded when the document is first read, and pure."""

from __future__ import annotations

from collections.abc import Mapping

from tentaculo.config.limits import LimitSettings
from tentaculo.events import correlations, history, ingest, stream
from tentaculo.events.json_schemas import CURSOR, SCHEMAS
from tentaculo.events.schemas import Nature
from tentaculo.model.event import StoreOutcome
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


def operations(limits: LimitSettings) -> Mapping[str, Operation]:
    """The operations by path."""
    return {
        "/events/ingest": _ingest(limits),
        "/events": _history(),
        "/events/stream": _stream(),
        "/debug/events/correlations": _correlations(),
    }


def _ingest(limits: LimitSettings) -> Operation:
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
    return Operation(
        "ingestEvents",
        "Store one event or several, and broadcast those that ask for it.",
        {
            200: response("Every event was stored before, or there is none.", json_content(result)),
            201: response("Every event is stored durably, now or before.", json_content(result)),
            207: response("Some events are stored and others not.", json_content(reference("BatchResult"))),
        },
        description=text,
        failures=[
            *(Failure.EVENT_CONFLICT, Failure.BODY_TOO_LARGE, Failure.UNSUPPORTED_MEDIA_TYPE),
            *(Failure.INVALID_EVENT, Failure.STORE_UNAVAILABLE),
        ],
        refusals={Failure.EVENT_CONFLICT: conflict, Failure.INVALID_EVENT: reference("Rejection")},
        body={media_type: {"schema": schemas[media_type]} for media_type in ingest.ACCEPTED.split(", ")},
        schemas={**SCHEMAS, **_SCHEMAS},
    )


def _history() -> Operation:
    lines: JsonObject = {"type": "string", "description": "One StoredEvent in each line."}
    content = {**json_content(reference("EventPage")), history.NDJSON: {"schema": lines}}
    link: JsonObject = {"Link": {"description": 'The next page (`rel="next"`) and the previous one.', "schema": _TEXT}}
    return Operation(
        "listEvents",
        "The stored events, page by page in both directions.",
        {200: response("One page.", content, link)},
        parameters=history.PARAMETERS,
        failures=[Failure.STORE_UNAVAILABLE],
        schemas={**SCHEMAS, **_SCHEMAS},
    )


def _stream() -> Operation:
    frames: JsonObject = {"type": "string", "description": "Frames, as `/tentaculo/asyncapi.json` describes them."}
    return Operation(
        "streamEvents",
        "The log as Server-Sent Events, from any position of it and then live.",
        {200: response("The stream. It does not end by itself.", {"text/event-stream": {"schema": frames}})},
        parameters=[*stream.PARAMETERS, _LAST_EVENT_ID],
        failures=[Failure.STORE_UNAVAILABLE, Failure.OVERLOADED, Failure.STOPPING, Failure.ORIGIN_DENIED],
        schemas=SCHEMAS,
    )


def _correlations() -> Operation:
    return Operation(
        "correlateEvents",
        "Which of the newest events belong together, by what they state.",
        {200: response("The graph.", json_content(reference("Correlations")))},
        parameters=correlations.PARAMETERS,
        failures=[Failure.STORE_UNAVAILABLE],
        schemas={**SCHEMAS, **_SCHEMAS},
    )
