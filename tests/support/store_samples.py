"""Values that the store is given in tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from tentaculo.model.event import Event, EventFilter, StoreOutcome
from tentaculo.model.health import BreakerState, BreakerView, Endpoint, EndpointView, Health, ServiceView
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def event(number: int, **changes: Any) -> Event:
    event = Event(number, "madre", "spawn_success", {"number": number}, NOW, metadata={"try": 1})
    return msgspec.structs.replace(event, **changes)


async def store(client: StoreClient, one: Event) -> int:
    """The id that `one` got in the log. Raises `StoreUnavailable` also where the database refuses its values."""
    (stored,) = await client.store_events([one])
    if stored.outcome is StoreOutcome.REFUSED:
        raise StoreUnavailable("refused")
    assert stored.outcome is StoreOutcome.STORED
    return stored.id


async def newest_events(client: StoreClient, limit: int) -> list[Event]:
    """The newest `limit` events of the log, newest first. Raises `StoreUnavailable`."""
    return (await client.read_events(EventFilter(), limit=limit, newest_first=True)).events


def view(name: str = "madre", health: Health = Health.UP, breaker: str = "closed", **changes: Any) -> ServiceView:
    """A service that was just probed and answered, unless `changes` say otherwise."""
    at = Endpoint(name, "127.0.0.1", 8001)
    upstreams = (EndpointView(at, health, BreakerView(BreakerState(breaker), 0)),)
    probed = ServiceView(
        name,
        8001,
        health,
        "answered 200 in 4 ms",
        NOW,
        upstreams,
        host="127.0.0.1",
        health_url="http://127.0.0.1:8001/health",
        checked_at=NOW,
        code=200,
        latency_ms=4,
        endpoint="/health",
        snippet='{"status":"ok"}',
    )
    return replace(probed, **changes)


def unprobed(name: str = "madre", health: Health = Health.UNKNOWN, **changes: Any) -> ServiceView:
    """A service that was never probed."""
    nothing: dict[str, Any] = dict.fromkeys(("checked_at", "code", "latency_ms", "endpoint", "snippet"))
    return view(name, health, **{**nothing, **changes})
