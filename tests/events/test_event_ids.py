"""Event ids grow strictly, whatever the clock does, and no two workers take the same."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tentaculo.events.pipeline import EventIds

MICROSECONDS = st.integers(min_value=0, max_value=2**51)


@given(st.lists(MICROSECONDS, min_size=1), MICROSECONDS, st.integers(1, 8))
def test_ids_grow_strictly_while_the_clock_jumps(readings: list[int], last: int, workers: int) -> None:
    clock: Iterator[int] = iter(readings)
    ids = EventIds(lambda: next(clock), last, worker=workers, workers=workers)
    found = [last, *(ids.next() for _ in readings)]
    assert all(before < after for before, after in pairwise(found))


@given(st.lists(MICROSECONDS, min_size=1), st.integers(1, 8))
def test_no_two_workers_take_the_same_id(readings: list[int], workers: int) -> None:
    taken: set[int] = set()
    for worker in range(1, workers + 1):
        clock = iter(readings)
        ids = EventIds(lambda clock=clock: next(clock), worker=worker, workers=workers)  # type: ignore[misc]
        taken.update(ids.next() for _ in readings)
    assert len(taken) == workers * len(readings)


def test_an_id_is_the_time_where_the_clock_advances() -> None:
    assert EventIds(lambda: 1_765_878_300_000_000).next() == 1_765_878_300_000_000
