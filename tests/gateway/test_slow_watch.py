"""A service whose requests become slow is degraded, by its history in a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tentaculo.config.schema import Config
from tentaculo.gateway.health_service import HealthService
from tentaculo.gateway.slow_watch import SHARE, SlowWatch
from tentaculo.gateway.usual_cache import UsualCache
from tentaculo.health.state_rules import SLOW_FOR, SlowRequests
from tentaculo.model.health import DegradedKind, Endpoint, Health, ProbeResult
from tentaculo.model.history import DAY, HOUR, MINUTE, Period, Tally
from tentaculo.model.service_rates import RecentRates, UsualRates
from tentaculo.store.client import StoreClient
from tentaculo.store.history import add_history, history_row
from tentaculo.tasks import TaskGroup
from tests.support.databases import sqlite

NOW = 20_000 * DAY + 12 * HOUR + 30 * MINUTE
CONFIG = Config.of({"services": {"madre": {"url": "http://127.0.0.1:1", "routes": [{"prefix": "/madre"}]}}})


@pytest.fixture
async def store(file: Path) -> AsyncIterator[StoreClient]:
    client = StoreClient(sqlite(file))
    client.launch()
    yield client
    await client.close()


def requests(span: int, start: int, seconds: float) -> Period:
    tally = Tally(ok=100)
    for _ in range(100):
        tally.latency.add(seconds)
    return Period("madre", span, start, requests=tally)


async def stored(store: StoreClient, periods: list[Period]) -> None:
    await store.run(lambda connection: add_history(connection, [history_row(one) for one in periods]))


async def test_it_is_degraded_while_its_requests_take_much_longer_than_usual(store: StoreClient) -> None:
    now, clock = NOW, 1000.0
    health = HealthService(CONFIG, store)
    usual = UsualCache(store.usual, ["madre"])
    watch = SlowWatch(CONFIG, health, store, usual.usual, lambda: datetime.fromtimestamp(now, UTC), clock=lambda: clock)
    health.accept_result(
        ProbeResult(Endpoint("madre", "127.0.0.1", 1), Health.UP, "answered 200", datetime.fromtimestamp(NOW, UTC))
    )
    noon = NOW - NOW % HOUR
    await stored(store, [requests(HOUR, noon - day * DAY, 0.02) for day in range(1, 8)])
    await stored(store, [requests(MINUTE, NOW - minute * MINUTE, 0.5) for minute in range(1, 6)])
    await watch.look()
    assert health.board.service("madre").health is Health.UP, "it has not lasted"
    clock += SLOW_FOR
    await watch.look()
    view = health.board.service("madre")
    assert (view.health, view.kind) == (Health.DEGRADED, DegradedKind.SLOW)
    assert view.reason.endswith(" ms, usually 20 ms")
    now += 10 * MINUTE
    await stored(store, [requests(MINUTE, now - minute * MINUTE, 0.02) for minute in range(1, 6)])
    await watch.look()
    assert health.board.service("madre").health is Health.UP


async def test_while_the_database_is_away_the_state_stays(store: StoreClient, file: Path) -> None:
    health = HealthService(CONFIG, store)
    watch = SlowWatch(
        CONFIG,
        health,
        store,
        UsualCache(store.usual, ["madre"]).usual,
        lambda: datetime.fromtimestamp(NOW, UTC),
    )
    health.set_slow("madre", "95 % take 900 ms")
    await store.close()
    await watch.look()
    assert health.board.slow == {"madre": "95 % take 900 ms"}


async def test_others_have_their_turn_while_many_services_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"s{number}" for number in range(95)]
    routes = {name: {"url": "http://127.0.0.1:1", "routes": [{"prefix": f"/{name}"}]} for name in names}
    config, judged, turns = Config.of({"services": routes}), list[int](), 0

    class Rates:
        async def recent(self, now: int, services: Sequence[str]) -> dict[str, RecentRates]:
            return {name: RecentRates(now, 5) for name in services}

        async def usual(self, hour: int) -> dict[str, UsualRates]:
            return {}

    def judge(self: SlowRequests, *_: object, **__: object) -> None:
        judged.append(turns)

    monkeypatch.setattr(SlowRequests, "judge", judge)
    rates = Rates()
    health = HealthService(config, StoreClient("sqlite://"))
    watch = SlowWatch(config, health, rates, rates.usual, lambda: datetime.fromtimestamp(NOW, UTC))
    tasks = TaskGroup("test")
    look = tasks.start(watch.look(), "look")
    while not look.done():
        await asyncio.sleep(0)
        turns += 1
    await tasks.close()
    assert len(judged) == len(names)
    assert max(judged.count(turn) for turn in set(judged)) <= SHARE
