"""The endpoints of events: all routes, and `GET /debug/events/cardinality`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

from aiohttp import web

from tentaculo.config.schema import Config
from tentaculo.events.correlations import EventCorrelations
from tentaculo.events.history import EventHistory
from tentaculo.events.hub import Hub
from tentaculo.events.ingest import Ingest
from tentaculo.events.pipeline import Cardinality, EventPipeline, Store
from tentaculo.events.replay import LogName, LogReader
from tentaculo.events.stream import EventStream
from tentaculo.events.tail import EventTail
from tentaculo.events.websocket import EventSocketHandler
from tentaculo.model.text import utc_now
from tentaculo.server.native_routes import Slices, buffered_post, json_response
from tentaculo.server.route_table import ProxiedRoutes
from tentaculo.tasks import TaskGroup


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
    """`POST /events/ingest`, `GET /events`, `GET /events/stream`, `/ws` and `GET /debug/events/{cardinality,correlations}`.

    `/api/events` is the same as `/events`, unless a route takes it. `log_name` gives the name of the log.
    `store` keeps events; its future gets a `Problem` (STORE_UNAVAILABLE) when it cannot. `tasks` own the work on batches:
    close them after the last request. `tail` publishes them to the subscribers of `hub`, which is to
    be closed on shutdown, before the server waits for its handlers. `turn` waits for a later turn of the event loop.
    The dispatcher checks tokens and the Origin of a WebSocket before these handlers run.
    """
    limits = config.limits
    reader = LogReader(tail, log_name)
    cardinality = Cardinality(clock)
    pipeline = EventPipeline(store, tail, cardinality, now)
    is_taken = ProxiedRoutes(config).takes("/api/events", config.server.hosts)
    history = EventHistory(reader, Slices())
    correlations = EventCorrelations(reader, Slices(), config.events.correlate, now)
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
        buffered_post("/events/ingest", Ingest(pipeline, limits, tasks)),
        web.get("/events", history.handle),
        web.get("/events/stream", EventStream(hub, reader).handle),
        *([web.get("/api/events", history.handle)] if not is_taken else []),
        web.get("/ws", sockets.handle, allow_head=False),
        web.get("/debug/events/cardinality", report),
        web.get("/debug/events/correlations", correlations.handle),
    ]
