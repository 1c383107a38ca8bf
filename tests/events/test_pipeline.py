"""The path of accepted events: ids, order, and counts by type."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.events.hub import Hub
from tentaculo.events.pipeline import Cardinality, EventPipeline, milliseconds
from tentaculo.events.schemas import Envelope
from tentaculo.events.tail import EventTail
from tentaculo.model.clock import CorrectedTime
from tentaculo.model.event import Event, StoredEvent, StoreOutcome
from tentaculo.model.failure import Failure, Problem
from tentaculo.tasks import TaskGroup
from tests.events.conftest import Ledger
from tests.support.waits import eventually

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def sent(type_: str, *, source: str = "s", stated_ms: int | None = None) -> Envelope:
    return Envelope(source, type_, {}, canonical=False, broadcast=True, severity=None, stated_ms=stated_ms)


class Desk:
    """A pipeline and all it needs; the test decides when each event is stored."""

    def __init__(self) -> None:
        self.cardinality = Cardinality(lambda: 0.0)
        self.tasks = TaskGroup("test")
        self.pending: dict[str, asyncio.Future[StoreOutcome]] = {}
        self.ids = count(1000)
        self.hub = Hub(limit=4, queue=8)
        self.tail = EventTail(self.hub, Ledger())
        self.pipeline = EventPipeline(self._put, self.tail, self.cardinality, lambda: NOW, self.correct)

    @staticmethod
    def correct(source: str, stated_ms: int, received_at: datetime) -> CorrectedTime | None:
        return CorrectedTime(stated_ms - 5, 7) if (source, received_at) == ("s", NOW) else None

    def _put(self, new: Sequence[Event]) -> asyncio.Future[list[StoredEvent]]:
        return self.tasks.start(self._store(new), "store")

    async def _store(self, new: Sequence[Event]) -> list[StoredEvent]:
        results = []
        for event in new:
            id_ = next(self.ids)
            self.pending[event.type] = asyncio.get_running_loop().create_future()
            results.append(StoredEvent(id_, await self.pending[event.type]))
        return results

    def send(self, type_: str) -> asyncio.Task[list[StoredEvent]]:
        work = self.pipeline.accept([self.pipeline.event(sent(type_), self.pipeline.now())])
        task: asyncio.Task[list[StoredEvent]] = self.tasks.start(work, type_)
        return task

    async def sent(self, *types: str) -> None:
        async with asyncio.timeout(5):
            while not all(type_ in self.pending for type_ in types):
                await asyncio.sleep(0)


async def test_only_what_is_stored_counts() -> None:
    desk = Desk()
    first, lost, again = (desk.send(name) for name in ("first", "lost", "again"))
    await desk.sent("first", "lost", "again")
    desk.pending["lost"].set_exception(Problem(Failure.STORE_UNAVAILABLE))
    desk.pending["again"].set_result(StoreOutcome.DUPLICATE)
    desk.pending["first"].set_result(StoreOutcome.STORED)
    assert await first == [StoredEvent(1000, StoreOutcome.STORED)]
    assert await again == [StoredEvent(1002, StoreOutcome.DUPLICATE)]
    with pytest.raises(Problem):
        await lost
    assert desk.cardinality.counts() == {"first": 1}
    assert desk.tail.mark == 1000, "nobody is there to whom the event could be published"
    assert repr(desk.pipeline) == "<EventPipeline: <EventTail: published up to 1000>>"


async def test_for_a_subscriber_the_tail_looks_from_the_first_event_on_that_this_process_has_stored() -> None:
    desk = Desk()
    desk.hub.subscribe("a")
    first = desk.send("first")
    await desk.sent("first")
    desk.pending["first"].set_result(StoreOutcome.STORED)
    await first
    assert desk.tail.mark == 999


async def test_a_caller_that_is_cancelled_does_not_stop_the_event() -> None:
    desk = Desk()
    caller = desk.send("t")
    await desk.sent("t")
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    desk.pending["t"].set_result(StoreOutcome.STORED)
    await eventually(lambda: desk.cardinality.counts() == {"t": 1})


def test_an_event_is_received_now() -> None:
    pipeline = Desk().pipeline
    event = Event(1767323045678000, "s", "t", {}, NOW, broadcast=True)
    assert pipeline.event(sent("t"), pipeline.now()) == event
    assert pipeline.now() == NOW
    assert milliseconds(NOW) == 1767323045678


def test_an_event_that_states_a_time_gets_it_by_our_own_clock() -> None:
    pipeline = Desk().pipeline
    assert pipeline.event(sent("t", stated_ms=1000), NOW).corrected == CorrectedTime(995, 7)
    assert pipeline.event(sent("t", source="other", stated_ms=1000), NOW).corrected is None


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_counts_by_type_and_rate() -> None:
    window = Cardinality(Clock())
    for _ in range(10):
        window.count(["a"])
    window.count(["b"])
    assert window.counts() == {"a": 10, "b": 1}
    assert window.rate_per_min(10) == 2.0
    assert window.window == 300


def test_defect_10_the_window_moves() -> None:
    clock = Clock()
    window = Cardinality(clock, window=60, bucket=1)
    window.count(["a"])
    clock.time += 30
    window.count(["a"])
    assert window.counts() == {"a": 2}
    clock.time += 30
    assert window.counts() == {"a": 1}
    clock.time += 30
    assert window.counts() == {}


def test_a_burst_does_not_stay_and_no_reset_drops_what_is_fresh() -> None:
    clock = Clock()
    window = Cardinality(clock, window=60, bucket=1)
    for second in range(200):
        clock.time = 1000.0 + second
        window.count(["a"])
        assert window.counts()["a"] == min(second + 1, 60)


def test_defect_10_types_are_bounded_and_the_rest_is_counted_together() -> None:
    window = Cardinality(Clock(), types=500)
    for number in range(2000):
        window.count([f"t{number}"])
    counts = window.counts()
    assert len(counts) == 501
    assert counts["_other"] == 1500
    assert sum(counts.values()) == 2000
    window.count(["t3"])
    assert window.counts()["t3"] == 2


def test_a_type_that_left_the_window_makes_room() -> None:
    clock = Clock()
    window = Cardinality(clock, window=60, bucket=1, types=1)
    window.count(["old"])
    clock.time += 60
    window.count(["new"])
    assert window.counts() == {"new": 1}


def test_memory_is_bounded() -> None:
    clock = Clock()
    window = Cardinality(clock, window=60, bucket=5, types=50)

    def fill(rounds: int) -> None:
        for number in range(rounds):
            clock.time += 0.05
            window.count([f"type-{number}"])

    fill(5000)
    tracemalloc.start()
    fill(20_000)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 200_000
    assert len(window.counts()) <= 51


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 20)), max_size=60))
def test_it_never_counts_the_old_nor_loses_the_fresh(steps: list[tuple[str, float]]) -> None:
    clock = Clock()
    window = Cardinality(clock, window=30, bucket=5)
    seen: list[tuple[float, str]] = []
    for type_, wait in steps:
        clock.time += wait
        window.count([type_])
        seen.append((clock.time, type_))
    counts = window.counts()
    fresh = Counter(type_ for time, type_ in seen if time > clock.time - 25)
    within = Counter(type_ for time, type_ in seen if time > clock.time - 30)
    assert all(fresh[type_] <= counts.get(type_, 0) <= within[type_] for type_ in "abc")
