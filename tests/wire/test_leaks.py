"""Leaks: after ten thousand exchanges that went wrong, the process holds what it held before.

A real gateway process, asked from outside: its descriptors by /proc, its tasks and connections by /metrics.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.soak.abuses import ABUSES
from tests.soak.breakdowns import BREAKDOWNS
from tests.soak.gateway import Look, Watched, watched_gateway
from tests.soak.load import Load
from tests.soak.upstream import Upstream, moody_upstream

EXCHANGES = 10_000
WARM_UP = 1_500
"""Exchanges before the memory is measured: code, caches and the allocator's free lists are filled once."""
AT_ONCE = 100
GROWTH = 8 * 2**20
"""Bytes of resident memory for what the allocator cannot give back: a leak of 1 KB per exchange shows."""
SETTLED = 15.0
"""Seconds until everything must have ended: the longest limit below is 1 s, and the metrics are a second old."""

LIMITS = {"head_time": 1, "body_grace": 1, "idle": 1, "stall": 1}
RETURN_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536"}
"""Large buffers go back to the system when they are freed, so that the resident memory is what is held."""
KINDS = ABUSES | BREAKDOWNS
COSTLY = (
    "left_an_upload_to_one_who_does_not_read",
    "upstream_does_not_read",
    "tunnel_left_with_the_client_not_reading",
    "tunnel_left_with_the_upstream_not_reading",
)
"""Kinds that fill every buffer on the way, megabytes each: they come less often."""


async def settled(gateway: Watched, upstream: Upstream, before: Look | None = None) -> Look:
    """What the gateway holds once nothing is under way: as soon as it is what it was `before`, else at the deadline."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLED
    while True:
        upstream.close_idle()
        async with gateway.client() as client:
            look = await gateway.look(client)
        quiet = (look.connections, look.in_flight) == (1, 0)
        if quiet and (before is None or (look.tasks, look.descriptors) == (before.tasks, before.descriptors)):
            return look
        if loop.time() > deadline:
            return look
        await asyncio.sleep(0.2)


@pytest.mark.timeout(240)
async def test_nothing_is_left_of_ten_thousand_bad_exchanges() -> None:
    weights = {name: (kind, 0.2 if name in COSTLY else 1.0) for name, kind in KINDS.items()}
    async with moody_upstream() as upstream, watched_gateway(upstream.port, LIMITS, RETURN_MEMORY) as gateway:
        before = await settled(gateway, upstream)
        load = Load(gateway)
        # Alone first, so that a failure has a name.
        await load.each(KINDS)
        assert load.surprises == []
        await load.drive(weights, WARM_UP, AT_ONCE)
        warm = await settled(gateway, upstream, before)
        await load.drive(weights, EXCHANGES, AT_ONCE)
        after = await settled(gateway, upstream, before)
        assert load.surprises == []
        assert set(load.done) == {"good", *KINDS}
        assert load.done.total() - load.done["good"] == len(KINDS) + WARM_UP + EXCHANGES
        assert (after.connections, after.in_flight) == (1, 0)
        assert after.tasks == before.tasks
        assert after.descriptors == before.descriptors
        assert after.rss - warm.rss < GROWTH
        assert gateway.errors() == []
        assert await gateway.running.stop() == 0
