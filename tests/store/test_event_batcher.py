from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tentaculo.model.event import StoredEvent
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.event_batcher import LATE, EventBatcher
from tentaculo.store.events import EventRow, event_row
from tentaculo.store.work_queue import WorkQueue
from tests.support.store_samples import event


def row(number: int) -> EventRow:
    return event_row(event(number))


def put(batcher: EventBatcher, *rows: EventRow) -> asyncio.Future[list[StoredEvent]]:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    batcher.put(rows, answer)
    return answer


def taken(queue: WorkQueue) -> list[list[int]]:
    work = queue.take(0, 100)
    assert work is not None
    return [[one.id for one in ask.what] for ask in work.events]


async def test_the_events_of_one_turn_are_passed_on_together_at_its_end() -> None:
    queue = WorkQueue(asks=10, views=1, history=1)
    batcher = EventBatcher(queue, 60, lambda: None)
    put(batcher, row(1))
    put(batcher, row(2), row(3))
    assert taken(queue) == []
    await asyncio.sleep(0)
    assert taken(queue) == [[1], [2, 3]]
    put(batcher, row(4))
    await asyncio.sleep(0)
    assert taken(queue) == [[4]]


async def test_what_finds_no_room_is_refused_and_counted_and_the_rest_is_queued() -> None:
    queue = WorkQueue(asks=2, views=1, history=1)
    batcher = EventBatcher(queue, 60, lambda: None)
    first, second, third = put(batcher, row(1)), put(batcher, row(2), row(3)), put(batcher, row(4))
    await asyncio.sleep(0)
    assert taken(queue) == [[1], [4]]
    assert (first.done(), third.done()) == (False, False)
    with pytest.raises(StoreUnavailable, match="Too many requests wait for the database"):
        second.result()
    assert queue.dropped == 2


async def test_those_of_the_last_turn_are_passed_on_before_the_queue_closes() -> None:
    queue = WorkQueue(asks=2, views=1, history=1)
    batcher = EventBatcher(queue, 60, lambda: None)
    put(batcher, row(1))
    batcher.flush()
    queue.close()
    late = put(batcher, row(2))
    await asyncio.sleep(0)
    assert taken(queue) == [[1]]
    with pytest.raises(StoreUnavailable, match="The gateway is stopping"):
        late.result()


@pytest.mark.parametrize("problem", [None, "The database is locked."])
async def test_who_waits_for_too_long_learns_why(problem: str | None) -> None:
    queue = WorkQueue(asks=10, views=1, history=1)
    batcher = EventBatcher(queue, 0.01, lambda: problem)
    early, late = put(batcher, row(1), row(2)), put(batcher, row(3))
    for answer in (early, late):
        with pytest.raises(StoreUnavailable) as refused:
            await answer
        assert str(refused.value.detail) == (problem or LATE)
    assert queue.dropped == 3


async def test_a_caller_that_has_left_is_not_refused() -> None:
    queue = WorkQueue(asks=1, views=1, history=1)
    batcher = EventBatcher(queue, 60, lambda: None)
    put(batcher, row(1))
    put(batcher, row(2)).cancel()
    await asyncio.sleep(0)
    assert taken(queue) == [[1]]
    assert queue.dropped == 0


async def test_it_says_what_waits() -> None:
    batcher = EventBatcher(WorkQueue(asks=10, views=1, history=1), 60, lambda: None)
    put(batcher, row(1))
    assert repr(batcher) == "<EventBatcher: 1 of this turn, 1 waiting>"
