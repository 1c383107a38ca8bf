"""The path of accepted events: ids, order, and counts by type."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.events.hub import Hub
from tentaculo.events.pipeline import MOST_TOGETHER, Cardinality, EventPipeline, Receipt
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
        self.together = list[list[str]]()
        self.hub = Hub(limit=4, queue=8)
        self.tail = EventTail(self.hub, Ledger())
        self.pipeline = EventPipeline(self._put, self.tail, self.cardinality, lambda: NOW, self.correct)

    @staticmethod
    def correct(source: str, stated_ms: int, received_at: datetime) -> CorrectedTime | None:
        return CorrectedTime(stated_ms - 5, 7) if (source, received_at) == ("s", NOW) else None

    def _put(self, new: Sequence[Event]) -> asyncio.Future[list[StoredEvent]]:
        self.together.append([event.type for event in new])
        return self.tasks.start(self._store(new), "store")

    async def _store(self, new: Sequence[Event]) -> list[StoredEvent]:
        ids = [next(self.ids) for _ in new]
        waiting = [asyncio.get_running_loop().create_future() for _ in new]
        self.pending.update({event.type: one for event, one in zip(new, waiting, strict=True)})
        return [StoredEvent(id_, await one) for id_, one in zip(ids, waiting, strict=True)]

    def send(self, type_: str) -> asyncio.Task[Sequence[StoredEvent]]:
        work = self.pipeline.accept([self.event(type_)])
        task: asyncio.Task[Sequence[StoredEvent]] = self.tasks.start(work, type_)
        return task

    def event(self, type_: str) -> Event:
        return self.pipeline.event(sent(type_), self.pipeline.receive())

    async def sent(self, *types: str) -> None:
        async with asyncio.timeout(5):
            while not all(type_ in self.pending for type_ in types):
                await asyncio.sleep(0)


async def test_only_what_is_stored_counts() -> None:
    desk = Desk()
    first, again = desk.send("first"), desk.send("again")
    await desk.sent("first", "again")
    lost = desk.send("lost")
    await desk.sent("lost")
    desk.pending["lost"].set_exception(Problem(Failure.STORE_UNAVAILABLE))
    desk.pending["again"].set_result(StoreOutcome.DUPLICATE)
    desk.pending["first"].set_result(StoreOutcome.STORED)
    assert await first == [StoredEvent(1000, StoreOutcome.STORED)]
    assert await again == [StoredEvent(1001, StoreOutcome.DUPLICATE)]
    with pytest.raises(Problem):
        await lost
    assert desk.cardinality.counts() == {"first": 1}
    assert desk.tail.mark == 1000, "nobody is there to whom the event could be published"
    assert repr(desk.pipeline) == "<EventPipeline: 0 requests of this turn, <EventTail: published up to 1000>>"


async def test_the_events_of_one_turn_are_stored_together_at_its_end() -> None:
    desk, results = Desk(), dict[str, Any]()
    for types in (("a",), ("b", "c")):
        desk.pipeline.submit([desk.event(type_) for type_ in types], partial(results.__setitem__, types[0]))
    assert desk.together == []
    await desk.sent("a", "b", "c")
    desk.pipeline.submit([desk.event("d")], partial(results.__setitem__, "d"))
    await desk.sent("d")
    assert desk.together == [["a", "b", "c"], ["d"]]
    for type_ in "abcd":
        desk.pending[type_].set_result(StoreOutcome.STORED)
    await eventually(lambda: len(results) == 3)
    ids = {name: [result.id for result in own] for name, own in results.items()}
    assert ids == {"a": [1000], "b": [1001, 1002], "d": [1003]}


async def test_no_more_are_passed_on_together_than_find_room_together() -> None:
    desk = Desk()
    sizes = (MOST_TOGETHER, 1, MOST_TOGETHER - 1, 1, MOST_TOGETHER + 1)
    for number, size in enumerate(sizes):
        desk.pipeline.submit([desk.event(f"{number}-{one}") for one in range(size)], lambda _: None)
    await eventually(lambda: len(desk.together) == 4)
    assert list(map(len, desk.together)) == [MOST_TOGETHER, MOST_TOGETHER, 1, MOST_TOGETHER + 1]


async def test_an_error_in_what_takes_a_result_costs_no_other_request() -> None:
    desk, results, errors = Desk(), dict[str, Any](), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))

    def fail(_: object) -> None:
        raise ZeroDivisionError

    desk.pipeline.submit([desk.event("bad")], fail)
    desk.pipeline.submit([desk.event("good")], partial(results.__setitem__, "good"))
    await desk.sent("bad", "good")
    for one in desk.pending.values():
        one.set_result(StoreOutcome.STORED)
    await eventually(lambda: results == {"good": [StoredEvent(1001, StoreOutcome.STORED)]})
    assert list(map(type, errors)) == [ZeroDivisionError]


async def test_the_sender_is_noted_of_what_was_stored_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, noted = Desk(), list[Any]()
    monkeypatch.setattr(desk.tail, "note_stored", lambda *given: noted.append(given))
    sender = desk.hub.subscribe("a")
    desk.pipeline.submit([desk.event("other")], lambda _: None)
    desk.pipeline.submit([desk.event("own"), desk.event("again")], lambda _: None, sender=sender)
    await desk.sent("other", "own", "again")
    for type_, one in desk.pending.items():
        one.set_result(StoreOutcome.DUPLICATE if type_ == "again" else StoreOutcome.STORED)
    await eventually(lambda: noted == [([1000, 1001], {1001: sender})])


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
    receipt = pipeline.receive()
    assert receipt == Receipt(NOW, 1767323045678000, 1767323045678)
    assert pipeline.event(sent("t"), receipt) == Event(1767323045678000, "s", "t", {}, NOW, broadcast=True)


def test_an_event_that_states_a_time_gets_it_by_our_own_clock() -> None:
    pipeline = Desk().pipeline
    receipt = pipeline.receive()
    assert pipeline.event(sent("t", stated_ms=1000), receipt).corrected == CorrectedTime(995, 7)
    assert pipeline.event(sent("t", source="other", stated_ms=1000), receipt).corrected is None


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
