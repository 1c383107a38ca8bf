"""What is usual is read once an hour, for all services, and again where that failed or the clock was set."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tentaculo.gateway.usual_cache import AT_ONCE, UsualCache
from tentaculo.model.history import DAY, HOUR
from tentaculo.model.service_rates import UsualRates
from tentaculo.store.errors import StoreUnavailable

NOON = 20_000 * DAY + 12 * HOUR


class Store:
    """Gives what is usual, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.problem: str | None = None

    async def usual(self, hour: int, services: Sequence[str]) -> dict[str, UsualRates]:
        self.asked.append((hour, len(services)))
        await asyncio.sleep(0)
        if self.problem is not None:
            raise StoreUnavailable(self.problem)
        return {name: UsualRates(hour, 7, 1.0, None, None) for name in services if name != "new"}


async def test_it_is_read_once_an_hour_in_bounded_queries() -> None:
    store = Store()
    cache = UsualCache(store.usual, [*(f"s{number}" for number in range(2 * AT_ONCE)), "new"])
    found = await asyncio.gather(*(cache.usual(NOON + second) for second in (0, 1, 59 * 60)))
    assert store.asked == [(NOON, AT_ONCE), (NOON, AT_ONCE), (NOON, 1)]
    assert all(one is found[0] for one in found)
    assert len(found[0]) == 2 * AT_ONCE
    assert (await cache.usual(NOON + HOUR))["s0"].hour == NOON + HOUR
    assert len(store.asked) == 6


async def test_a_clock_that_is_set_is_followed_both_ways() -> None:
    store = Store()
    cache = UsualCache(store.usual, ["madre"])
    hours = [(await cache.usual(now))["madre"].hour for now in (NOON, NOON + 5 * DAY, NOON - HOUR, NOON - 1)]
    assert hours == [NOON, NOON + 5 * DAY, NOON - HOUR, NOON - HOUR]


async def test_a_failure_is_told_and_not_kept() -> None:
    store = Store()
    cache = UsualCache(store.usual, ["madre"])
    store.problem = "The database did not respond in time."
    with pytest.raises(StoreUnavailable):
        await cache.usual(NOON)
    store.problem = None
    assert "madre" in await cache.usual(NOON)
