"""The native paths of this room, joined for the composition root."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

import msgspec
from aiohttp import web

from tentaculo.config.schema import Config
from tentaculo.events.cardinality import Cardinality
from tentaculo.events.hub import Hub
from tentaculo.events.ingest import Ingest
from tentaculo.events.pipeline import EventIds, EventPipeline, Store
from tentaculo.events.websocket import EventSocketHandler
from tentaculo.model.clock import utc_now
from tentaculo.server.request_body import expect_later
from tentaculo.tasks import TaskGroup


def routes(
    config: Config,
    hub: Hub,
    ids: EventIds,
    store: Store,
    tasks: TaskGroup,
    *,
    now: Callable[[], datetime] = utc_now,
    clock: Callable[[], float] = time.monotonic,
) -> list[web.RouteDef]:
    """`POST /events/ingest`, `/ws` and `GET /debug/events/cardinality`.

    `store` keeps an event and raises `Problem` (STORE_UNAVAILABLE) when it cannot. `tasks` own accepted events until
    they are stored: close them after the last request. `hub` is to be closed on shutdown, before the server waits for
    its handlers. The dispatcher checks tokens and the Origin of a WebSocket before these handlers run.
    """
    limits = config.limits
    cardinality = Cardinality(clock)
    intake = EventPipeline(hub, ids, store, tasks, cardinality, now)
    sockets = EventSocketHandler(hub, intake, limit=limits.events_body)

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
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    return [
        web.post("/events/ingest", Ingest(intake, limits.events_body).handle, expect_handler=expect_later),
        web.get("/ws", sockets.handle, allow_head=False),
        web.get("/debug/events/cardinality", report),
    ]
