"""Leaks: after ten thousand exchanges that went wrong, the process holds what it held before.

A real gateway process, asked from outside: its descriptors by /proc, its tasks and connections by /metrics.
"""

from __future__ import annotations

import pytest

from tests.soak.abuses import ABUSES
from tests.soak.breakdowns import BREAKDOWNS
from tests.soak.gateway import left_over, settled, watched_gateway
from tests.soak.load import Load
from tests.soak.upstream import moody_upstream

ROUNDS = 6
EXCHANGES = 2_000
"""In each round."""
AT_ONCE = 100
GROWTH = 5 * 2**20
"""Bytes between the least that a round of the first half left resident and the least of the second half.

Code, caches and the allocator's free lists are filled at some time in the first rounds, and what is left of one round is
more or less than of the next; a leak of 1 KB per exchange adds up to 6 MB.
"""
SETTLED = 15.0
"""Seconds until everything must have ended: the longest limit below is 3 s, and the metrics are a second old."""

LIMITS = {"head_time": 3, "body_grace": 3, "body_idle": 3, "idle": 3, "stall": 3}
"""Longer than a busy machine stands still; what is to run into them comes less often."""
RETURN_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536"}
"""Large buffers go back to the system when they are freed, so that the resident memory is what is held."""
KINDS = ABUSES | BREAKDOWNS
COSTLY = (
    *("late_head", "late_body", "upstream_hangs"),
    "left_an_upload_to_one_who_does_not_read",
    "upstream_does_not_read",
    "tunnel_left_with_the_client_not_reading",
    "tunnel_left_with_the_upstream_not_reading",
)
"""Kinds that wait for a limit, or fill every buffer on the way, megabytes each: they come less often."""


@pytest.mark.timeout(240)
async def test_nothing_is_left_of_ten_thousand_bad_exchanges() -> None:
    weights = {name: (kind, 0.2 if name in COSTLY else 1.0) for name, kind in KINDS.items()}
    async with moody_upstream() as upstream, watched_gateway(upstream.port, LIMITS, RETURN_MEMORY) as gateway:
        before = await settled(gateway, upstream, SETTLED)
        load = Load(gateway)
        # Alone first, so that a failure has a name.
        await load.each(KINDS)
        assert load.surprises == []
        left = []
        for _ in range(ROUNDS):
            await load.drive(weights, EXCHANGES, AT_ONCE)
            left.append(await settled(gateway, upstream, SETTLED, before))
        after = left[-1]
        assert load.surprises == []
        assert set(load.done) == {"good", *KINDS}
        assert load.done.total() - load.done["good"] == len(KINDS) + ROUNDS * EXCHANGES
        assert (after.connections, after.in_flight) == (1, 0)
        assert left_over(after, before) == []
        sizes = [look.rss for look in left]
        assert min(sizes[ROUNDS // 2 :]) - min(sizes[: ROUNDS // 2]) < GROWTH, sizes
        assert gateway.errors() == []
        assert await gateway.running.stop() == 0
