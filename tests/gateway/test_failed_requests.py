"""The count of the requests that incidents cost, on a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tentaculo.gateway.failed_requests import AT_ONCE, LATE, FailedRequests
from tentaculo.incidents.tracker import IncidentTracker
from tentaculo.model.health import Health
from tentaculo.model.history import MINUTE, Period, Tally
from tentaculo.store import incidents as stored
from tentaculo.store import migrate
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.events import Query
from tentaculo.store.history import add_history, history_row
from tests.support.native_gateway import view

START = datetime(2026, 3, 14, 15, 0, tzinfo=UTC)


@dataclass
class Counting:
    """A tracker whose only service is watched, and the counter beside it."""

    store_client: StoreClient
    now: datetime = START
    clock: float = 1000.0
    is_lost: bool = False
    tracker: IncidentTracker = field(default_factory=lambda: IncidentTracker(settle=60))

    def __post_init__(self) -> None:
        self.counter = FailedRequests(self.run, self.tracker, lambda: self.now, timedelta(hours=47), lambda: self.clock)

    async def run(self, query: Query) -> Any:
        if self.is_lost:
            raise StoreUnavailable("The database is locked.")
        return await self.store_client.run(query)

    def observe(self, health: Health, minutes: float, name: str = "hermes", root: str | None = None) -> None:
        self.now = START + timedelta(minutes=minutes)
        self.tracker.observe(view(name, health=health, root=root), self.now)

    async def failed(self, minutes: int, count: int, service: str = "hermes") -> None:
        start = int(START.timestamp()) + minutes * MINUTE
        row = history_row(Period(service, MINUTE, start, requests=Tally(5, count)))
        await self.store_client.run(partial(add_history, rows=[row]))

    async def count(self, minutes: float) -> tuple[int | None, datetime | None]:
        self.now = START + timedelta(minutes=minutes)
        await self.counter.count()
        (one,) = self.tracker.open or self.tracker.ended
        return one.failed_requests, one.counted_until


@pytest.fixture
async def counting(tmp_path: Path) -> AsyncIterator[Counting]:
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    migrate.upgrade(url)
    store_client = StoreClient(url)
    await store_client.start()
    yield Counting(store_client)
    await store_client.close()


async def test_each_minute_is_counted_when_every_machine_has_stored_it(counting: Counting) -> None:
    counting.observe(Health.DOWN, 0.5)
    await counting.failed(-1, 1)
    await counting.failed(0, 10)
    await counting.failed(1, 100)
    late = LATE / 60
    assert await counting.count(1) == (None, None)
    assert await counting.count(1 + late) == (10, START + timedelta(minutes=1))
    assert await counting.count(1.9 + late) == (10, START + timedelta(minutes=1))
    assert await counting.count(2 + late) == (110, START + timedelta(minutes=2))
    counting.observe(Health.UP, 3.25)
    await counting.failed(3, 1000)
    await counting.failed(4, 10_000)
    assert await counting.count(9) == (1110, START + timedelta(minutes=4))
    assert await counting.count(10) == (1110, START + timedelta(minutes=4))


async def test_services_that_failed_with_it_count_too(counting: Counting) -> None:
    counting.observe(Health.DOWN, 0)
    counting.observe(Health.DOWN, 0.2, "operator", "hermes")
    await counting.failed(0, 1)
    await counting.failed(0, 10, "operator")
    await counting.failed(0, 100, "switch")
    assert await counting.count(2) == (11, START + timedelta(minutes=1))


async def test_after_the_database_was_away_it_is_counted_part_by_part(counting: Counting) -> None:
    counting.observe(Health.DOWN, 0)
    for minute in range(25):
        await counting.failed(minute, 1)
    seen = [(await counting.count(25.5))[0] for _ in range(4)]
    assert seen == [AT_ONCE // MINUTE, 2 * AT_ONCE // MINUTE, 25, 25]


async def test_a_count_waits_for_what_was_not_stored_while_the_database_was_away(counting: Counting) -> None:
    counting.observe(Health.DOWN, 0)
    await counting.failed(0, 7)
    counting.is_lost = True
    with pytest.raises(StoreUnavailable):
        await counting.count(2)
    counting.is_lost = False
    assert await counting.count(2) == (None, None)
    counting.clock += LATE
    assert await counting.count(2) == (7, START + timedelta(minutes=1))


async def test_the_count_goes_on_after_a_restart(counting: Counting) -> None:
    counting.observe(Health.DOWN, 0)
    await counting.failed(0, 7)
    await counting.failed(1, 70)
    await counting.count(1.5)
    await counting.store_client.run(partial(stored.save, changed=counting.tracker.take_changed()))
    again = Counting(counting.store_client)
    known = await again.store_client.run(partial(stored.newest, limit=5))
    again.tracker.restore(known, ["hermes"], START + timedelta(minutes=2))
    assert await again.count(2.5) == (77, START + timedelta(minutes=2))


async def test_what_was_counted_for_a_part_is_counted_for_the_whole(counting: Counting) -> None:
    tracker = counting.tracker
    counting.observe(Health.DOWN, 0, "operator")
    await counting.failed(0, 7, "operator")
    await counting.count(1.5)
    counting.observe(Health.DOWN, 0.9, "hermes")
    counting.observe(Health.DOWN, 1.5, "operator", "hermes")
    (whole,) = tracker.open
    assert (whole.root, whole.failed_requests) == ("hermes", 7)


def test_when_it_failed_again_is_known_and_moves_with_the_clock() -> None:
    tracker = IncidentTracker(settle=60)
    tracker.observe(view("hermes", health=Health.DOWN), START)
    tracker.observe(view("hermes"), START + timedelta(seconds=10))
    tracker.observe(view("hermes", health=Health.DOWN), START + timedelta(seconds=30))
    (one,) = tracker.open
    assert one.reopened_at == one.changed_at == START + timedelta(seconds=30)
    tracker.count_failed([], START, START + timedelta(minutes=1))
    tracker.correct(lambda moment: moment + timedelta(hours=1, seconds=7))
    (one,) = tracker.open
    assert one.reopened_at == START + timedelta(hours=1, seconds=37)
    assert one.counted_until == START + timedelta(hours=1, minutes=1)
