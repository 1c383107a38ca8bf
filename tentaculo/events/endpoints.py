"""The endpoints of events: all routes, and the handler of `POST /events/ingest`.

An ingested event is checked as a whole before any part of it takes effect.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from aiohttp import hdrs, web

from tentaculo.config.schema import Config
from tentaculo.events.history import EventHistory
from tentaculo.events.hub import Hub
from tentaculo.events.pipeline import Cardinality, EventPipeline, Store
from tentaculo.events.replay import LogName, LogReader
from tentaculo.events.schemas import (
    NAME_LENGTH,
    FieldError,
    JsonError,
    JsonKind,
    canonical_type,
    is_name,
    kind_fault,
    kind_phrase,
    listed,
    parse_json,
    validate,
)
from tentaculo.events.stream import EventStream
from tentaculo.events.tail import EventTail
from tentaculo.events.websocket import EventSocketHandler
from tentaculo.model.event import StoreOutcome
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.text import utc_now
from tentaculo.server.native_routes import Slices, json_response
from tentaculo.server.request_body import check_uncompressed, expect_later, read_body
from tentaculo.server.route_table import ProxiedRoutes
from tentaculo.tasks import TaskGroup

log = structlog.get_logger(__name__)


class Envelope(NamedTuple):
    """A valid ingested event."""

    source: str
    type: str
    payload: Mapping[str, Any]
    canonical: bool
    broadcast: bool
    metadata: Mapping[str, Any]


class Rejected(NamedTuple):
    """The faults of a body."""

    faults: tuple[FieldError, ...]


def _name_fault(name: str, body: Mapping[str, Any]) -> FieldError | None:
    fault = kind_fault(name, JsonKind.STRING, body)
    if fault is None and not is_name(body[name]):
        return FieldError(name, f"must be 1 to {NAME_LENGTH} printable characters, not all blank")
    return fault


def validate_body(body: Any, *, now_ms: int) -> Envelope | Rejected:
    """The event of an ingest body, or all its faults. Pure.

    Keys that are not known are ignored, as older producers send some. `metadata: null` is no metadata.
    """
    if not isinstance(body, dict):
        return Rejected((FieldError("body", f"must be an object, not {kind_phrase(body)}"),))
    metadata = body.get("metadata")
    faults = [
        _name_fault("source", body),
        _name_fault("type", body),
        kind_fault("payload", JsonKind.OBJECT, body),
        kind_fault("broadcast", JsonKind.BOOLEAN, body) if "broadcast" in body else None,
        kind_fault("metadata", JsonKind.OBJECT, body) if metadata is not None else None,
    ]
    payload, schema = body.get("payload"), canonical_type(body.get("type"))
    if schema is not None and isinstance(payload, dict):
        payload, found = validate(schema, payload, now_ms=now_ms, whole="payload")
        faults.extend(found)
    if wrong := tuple(fault for fault in faults if fault is not None):
        return Rejected(wrong)
    return Envelope(
        body["source"], body["type"], payload or {}, schema is not None, body.get("broadcast", False), metadata or {}
    )


def _rejection(faults: Sequence[FieldError]) -> Problem:
    fields = ", ".join(fault.field for fault in faults)
    # The contract's "rejected" takes the place of the member `status` of RFC 9457, which is only advisory there;
    # `status_code` still carries 422.
    extra = {"status": "rejected", "reason": Failure.INVALID_EVENT.error, "errors": listed(faults)}
    return Problem(Failure.INVALID_EVENT, f"Faulty: {fields}.", extra=extra)


def check_media_type(request: web.Request) -> None:
    """Raise `Problem` (415) unless the body says it is JSON and is not compressed.

    A body without a media type is refused too: a web page can send it to another origin without a CORS preflight.
    """
    if hdrs.CONTENT_TYPE not in request.headers:
        detail = "The request has no Content-Type; send application/json."
        raise Problem(Failure.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept": "application/json"})
    major, _, minor = request.content_type.partition("/")
    if major != "application" or not (minor == "json" or minor.endswith("+json")):
        detail = "Events are application/json; with curl add -H 'Content-Type: application/json'."
        raise Problem(Failure.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept": "application/json"})
    check_uncompressed(request)


class Ingest:
    """The handler. `limit` is the most bytes a body may have."""

    def __init__(self, pipeline: EventPipeline, limit: int) -> None:
        self._pipeline = pipeline
        self._limit = limit

    async def handle(self, request: web.Request) -> web.Response:
        """Respond 201 with the event's id once it is stored and queued for the subscribers; else raise `Problem`."""
        check_media_type(request)
        try:
            body = parse_json(await read_body(request, self._limit))
        except JsonError as reason:
            raise Problem(Failure.BAD_REQUEST, f"The body {reason}.") from None
        verdict = validate_body(body, now_ms=self._pipeline.now_ms())
        if isinstance(verdict, Rejected):
            log.info("event rejected", by="ingest", fields=[fault.field for fault in verdict.faults])
            raise _rejection(verdict.faults)
        event = self._pipeline.event(
            verdict.source,
            verdict.type,
            verdict.payload,
            canonical=verdict.canonical,
            broadcast=verdict.broadcast,
            metadata=verdict.metadata,
        )
        (stored,) = await self._pipeline.accept([event])
        if stored.outcome is StoreOutcome.REFUSED:
            raise Problem(Failure.STORE_UNAVAILABLE, "The database refuses this event.")
        response = {"status": "received", "source": event.source, "type": event.type, "id": stored.id}
        return json_response(response, 201)


async def _next_turn() -> None:
    await asyncio.sleep(0)


def routes(
    config: Config,
    hub: Hub,
    store: Store,
    tail: EventTail,
    tasks: TaskGroup,
    *,
    log_name: LogName,
    now: Callable[[], datetime] = utc_now,
    clock: Callable[[], float] = time.monotonic,
    turn: Callable[[], Awaitable[None]] = _next_turn,
) -> list[web.RouteDef]:
    """`POST /events/ingest`, `GET /events`, `GET /events/stream`, `/ws` and `GET /debug/events/cardinality`.

    `/api/events` is the same as `/events`, unless a route takes it. `log_name` gives the name of the log.
    `store` keeps events and raises `Problem` (STORE_UNAVAILABLE) when it cannot. `tasks` own accepted events until
    they are stored: close them after the last request. `tail` publishes them to the subscribers of `hub`, which is to be closed on shutdown, before the server waits for
    its handlers. `turn` waits for a later turn of the event loop. The dispatcher checks tokens and the Origin of a
    WebSocket before these handlers run.
    """
    limits = config.limits
    reader = LogReader(tail, log_name)
    cardinality = Cardinality(clock)
    pipeline = EventPipeline(store, tail, tasks, cardinality, now)
    is_taken = ProxiedRoutes(config).takes("/api/events", config.server.hosts)
    history = EventHistory(reader, Slices())
    sockets = EventSocketHandler(hub, pipeline, reader, limit=limits.events_body, turn=turn)

    async def report(request: web.Request) -> web.Response:
        counts = cardinality.counts()
        answer = {
            "status": "ok",
            "timestamp": now(),
            "window_seconds": cardinality.window,
            "events": {
                type_: {"count": count, "rate_per_min": cardinality.rate_per_min(count)}
                for type_, count in counts.items()
            },
            "total_events": sum(counts.values()),
        }
        return json_response(answer)

    return [
        web.post("/events/ingest", Ingest(pipeline, limits.events_body).handle, expect_handler=expect_later),
        web.get("/events", history.handle),
        web.get("/events/stream", EventStream(hub, reader).handle),
        *([web.get("/api/events", history.handle)] if not is_taken else []),
        web.get("/ws", sockets.handle, allow_head=False),
        web.get("/debug/events/cardinality", report),
    ]
