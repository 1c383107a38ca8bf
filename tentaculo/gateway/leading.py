"""What one process does for all workers and machines: it probes, sends alerts, and keeps what the database holds of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime

from tentaculo.config.schema import Config
from tentaculo.gateway.event_retention import trim_events
from tentaculo.gateway.health_service import HealthService
from tentaculo.gateway.incident_service import IncidentService
from tentaculo.gateway.own_row import OwnRow, keep_own_row
from tentaculo.store.client import StoreClient
from tentaculo.tasks import TaskGroup


@asynccontextmanager
async def leading(
    config: Config,
    store_client: StoreClient,
    health_service: HealthService,
    incident_service: IncidentService,
    *,
    own_row: OwnRow,
    now: Callable[[], datetime],
    probes: bool,
) -> AsyncIterator[None]:
    """Lead while the context is open; `probes` is whether to probe and alert. `own_row` is what the gateway's own row says."""
    tasks = TaskGroup("leader")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(health_service.keeping_states())
        stack.push_async_callback(tasks.close)
        tasks.start(keep_own_row(store_client, own_row, now, lambda: health_service.is_following), "own row")
        trimming = trim_events(config, store_client, health_service.history.is_steady, now)
        tasks.start(trimming, "event retention")
        if probes:
            await stack.enter_async_context(incident_service.running())
            await stack.enter_async_context(health_service.probing())
        yield
