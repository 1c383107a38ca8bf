"""The gateway's own row in the table of services, which VX11's modules read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from tentaculo.model.health import GATEWAY_NAME, Health, ServiceView
from tentaculo.store.client import StoreClient
from tentaculo.web import vx11

EVERY = 15.0
"""Seconds between two writes of the row."""


class OwnRow(NamedTuple):
    """What the row says of a gateway."""

    url: str
    """Where it listens."""
    port: int
    started_at: datetime


async def keep_own_row(
    store_client: StoreClient, row: OwnRow, now: Callable[[], datetime], is_replaced: Callable[[], bool]
) -> None:
    """Keep the row current until cancelled. Its status is then unknown, unless another machine writes it now."""
    own = ServiceView(
        name=GATEWAY_NAME,
        port=row.port,
        health=Health.UP,
        reason="it responds",
        since=row.started_at,
        upstreams=(),
        host=urlsplit(row.url).hostname or "localhost",
        health_url=f"{row.url}/health",
        code=200,
        latency_ms=0,
        endpoint="/health",
        snippet=msgspec.json.encode(vx11.health_shape()).decode(),
    )
    try:
        while True:
            store_client.record_services([replace(own, checked_at=now())])
            await asyncio.sleep(EVERY)
    finally:
        if not is_replaced():
            stopped = replace(
                own, health=Health.UNKNOWN, code=None, latency_ms=None, snippet="The gateway has stopped."
            )
            store_client.record_services([replace(stopped, checked_at=now())])
