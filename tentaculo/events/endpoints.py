"""The endpoints of events: all routes, `GET /debug/events/cardinality` and `GET /tentaculo/clocks`."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any

from aiohttp import web

from tentaculo.config.limits import LimitSettings
from tentaculo.config.schema import Config
from tentaculo.events.clock_offsets import ClockOffset, ClockOffsets
from tentaculo.events.correlations import EventCorrelations
from tentaculo.events.history import EventHistory
from tentaculo.events.hub import Hub
from tentaculo.events.ingest import Ingest
from tentaculo.events.pipeline import Cardinality, EventPipeline, Store
from tentaculo.events.replay import LogName, LogReader
from tentaculo.events.stream import EventStream
from tentaculo.events.tail import EventTail
from tentaculo.events.websocket import EventSocketHandler
from tentaculo.model import access
from tentaculo.model.precursor import ReadPrecursors
from tentaculo.model.text import utc_now
from tentaculo.server.native_routes import NativeRoute, Slices, buffered, json_response, raw_json
from tentaculo.server.openapi import JsonObject, Operation, json_content, object_of, reference, response
from tentaculo.server.route_table import ProxiedRoutes
from tentaculo.tasks import TaskGroup

_TEXT: JsonObject = {"type": "string"}
_COUNT: JsonObject = {"type": "integer", "minimum": 0}


def clock_shape(source: ClockOffset, endpoints: list[ClockOffset]) -> dict[str, Any]:
    """The clock of a source, and those of its endpoints."""
    own = [{"endpoint": endpoint.name, **_offset_shape(endpoint)} for endpoint in endpoints]
    return {"source": source.name, **_offset_shape(source), "endpoints": own}


def _offset_shape(offset: ClockOffset) -> dict[str, Any]:
    low, is_bounded = math.floor(offset.low_ms), math.isfinite(offset.high_ms)
    high = math.ceil(offset.high_ms) if is_bounded else None
    return {
        "low_ms": low,
        "high_ms": high,
        "width_ms": None if high is None else high - low,
        "basis": offset.basis,
        "since": offset.since,
    }


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
    precursors: ReadPrecursors,
    offsets: ClockOffsets,
    now: Callable[[], datetime] = utc_now,
    clock: Callable[[], float] = time.monotonic,
    cardinality: Cardinality | None = None,
    turn: Callable[[], Awaitable[None]] = _next_turn,
) -> list[NativeRoute]:
    """`POST /events/ingest`, `GET /events`, `GET /events/stream`, `/ws`, `GET /debug/events/{cardinality,correlations}`
    and `GET /tentaculo/clocks`.

    `/api/events` is the same as `/events`, unless a route takes it, and ignores unknown parameters. `log_name` gives the name of the log.
    `precursors` reads what came before incidents, and `offsets` corrects the times that events state. `store` keeps
    events; its future gets a `Problem` (STORE_UNAVAILABLE) when it cannot. `tasks` own the work on batches: close them
    after the last request. `tail` publishes them to the subscribers of `hub`, which is to be closed on
    shutdown, before the server waits for its handlers. `turn` waits for a later turn of the event loop. The dispatcher
    checks tokens and the Origin of a WebSocket before these handlers run.
    """
    limits = config.limits
    reader = LogReader(tail, log_name)
    slices, cardinality = Slices(), cardinality or Cardinality(clock)
    pipeline = EventPipeline(store, tail, cardinality, now, offsets.correct)
    is_taken = ProxiedRoutes(config).takes("/api/events", config.server.hosts)
    history = EventHistory(reader, Slices())
    # Later revisions of VX11 call it with filters of their own.
    lenient = EventHistory(reader, Slices(), ignores_unknown=True)
    correlations = EventCorrelations(reader, precursors, Slices(), config.events.correlate, now)
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

    async def clocks(request: web.Request) -> web.Response:
        found = await slices.collect(raw_json(clock_shape(*one)) for one in offsets.sources())
        return json_response({"status": "ok", "timestamp": now(), "clocks": found})

    return [
        NativeRoute(
            "POST",
            "/events/ingest",
            buffered(Ingest(pipeline, limits, tasks)),
            access.EVENTS_WRITE,
            partial(_describe, "/events/ingest", limits),
        ),
        NativeRoute("GET", "/events", history.handle, access.EVENTS_READ, partial(_describe, "/events", limits)),
        NativeRoute(
            "GET",
            "/events/stream",
            EventStream(hub, reader).handle,
            access.EVENTS_READ,
            partial(_describe, "/events/stream", limits),
        ),
        *([NativeRoute("GET", "/api/events", lenient.handle, access.EVENTS_READ, None)] if not is_taken else []),
        NativeRoute("GET", "/ws", sockets.handle, access.SOCKET, None),
        NativeRoute("GET", "/debug/events/cardinality", report, access.EVENTS_READ, _describe_cardinality),
        NativeRoute(
            "GET",
            "/debug/events/correlations",
            correlations.handle,
            access.EVENTS_READ,
            partial(_describe, "/debug/events/correlations", limits),
        ),
        NativeRoute("GET", "/tentaculo/clocks", clocks, access.STATUS, _describe_clocks),
    ]


def _describe(path: str, limits: LimitSettings) -> Operation:
    # Loaded when the document is first read, with the schemas of all events.
    from tentaculo.events.openapi import operations

    return operations(limits)[path]


def _describe_cardinality() -> Operation:
    counts = object_of(
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
    )
    return Operation(
        "countEvents",
        "How many events of each type were stored in the last minutes.",
        {200: response("The counts.", json_content(reference("Cardinality")))},
        schemas={"Cardinality": counts},
    )


def _describe_clocks() -> Operation:
    offset: dict[str, JsonObject] = {
        "low_ms": {"type": "integer"},
        "high_ms": {"type": ["integer", "null"]},
        "width_ms": {"type": ["integer", "null"]},
        "basis": {"type": "array", "items": {"enum": ["date", "stated"]}},
        "since": reference("Time"),
    }
    clocks = object_of(
        {
            "status": {"const": "ok"},
            "timestamp": reference("Time"),
            "clocks": {
                "type": "array",
                "items": object_of(
                    {
                        "source": _TEXT,
                        **offset,
                        "endpoints": {"type": "array", "items": object_of({"endpoint": _TEXT, **offset})},
                    }
                ),
            },
        }
    )
    return Operation(
        "listClocks",
        "By how much the clocks of the sources of events differ from the gateway's.",
        {200: response("The offsets.", json_content(reference("Clocks")))},
        schemas={"Clocks": clocks},
    )
