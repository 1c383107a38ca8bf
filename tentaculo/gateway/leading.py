"""What one process does for all workers and machines: it probes, sends alerts, and keeps what the database holds of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from urllib.parse import urlsplit

import msgspec

from tentaculo.config.schema import Config
from tentaculo.gateway.event_retention import trim_events
from tentaculo.gateway.health_service import HealthService
from tentaculo.gateway.incident_service import IncidentService
from tentaculo.model.health import GATEWAY_NAME, Health, ServiceView
from tentaculo.store.client import StoreClient
from tentaculo.tasks import TaskGroup
from tentaculo.web import vx11

OWN_ROW_EVERY = 15.0
"""Seconds between two writes of the gateway's own row in the table of services."""


@asynccontextmanager
async def leading(
    config: Config,
    store_client: StoreClient,
    health_service: HealthService,
    incident_service: IncidentService,
    *,
    own_row: Callable[[], ServiceView],
    now: Callable[[], datetime],
    probes: bool,
) -> AsyncIterator[None]:
    """Lead while the context is open; `probes` is whether to probe and alert. `own_row` gives the gateway's own row."""
    tasks = TaskGroup("leader")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(health_service.keeping_states())
        stack.push_async_callback(tasks.close)
        tasks.start(_keep_own_row(store_client, own_row(), now, lambda: health_service.is_following), "own row")
        trimming = trim_events(config, store_client, health_service.history.is_steady, now)
        tasks.start(trimming, "event retention")
        if probes:
            await stack.enter_async_context(incident_service.running())
            await stack.enter_async_context(health_service.probing())
        yield


def own_row(url: str, port: int, since: datetime) -> ServiceView:
    """The gateway's own row in the table of services. `url` is where it listens, and `since` when it was started."""
    return ServiceView(
        name=GATEWAY_NAME,
        port=port,
        health=Health.UP,
        reason="it responds",
        since=since,
        upstreams=(),
        host=urlsplit(url).hostname or "localhost",
        health_url=f"{url}/health",
        code=200,
        latency_ms=0,
        endpoint="/health",
        snippet=msgspec.json.encode(vx11.health_shape()).decode(),
    )


async def _keep_own_row(
    store_client: StoreClient, own: ServiceView, now: Callable[[], datetime], is_replaced: Callable[[], bool]
) -> None:
    """Keep the row current until cancelled. Its status becomes unknown then, unless another machine writes it now."""
    try:
        while True:
            store_client.record_services([replace(own, checked_at=now())])
            await asyncio.sleep(OWN_ROW_EVERY)
    finally:
        if not is_replaced():
            stopped = replace(
                own, health=Health.UNKNOWN, code=None, latency_ms=None, snippet="The gateway has stopped."
            )
            store_client.record_services([replace(stopped, checked_at=now())])
