from __future__ import annotations

import tracemalloc
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tentaculo.events.cardinality import Cardinality


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_counts_by_type_and_rate() -> None:
    window = Cardinality(Clock())
    for _ in range(10):
        window.count("a")
    window.count("b")
    assert window.counts() == {"a": 10, "b": 1}
    assert window.rate_per_min(10) == 2.0
    assert window.window == 300


def test_defect_10_the_window_moves() -> None:
    clock = Clock()
    window = Cardinality(clock, window=60, bucket=1)
    window.count("a")
    clock.time += 30
    window.count("a")
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
        window.count("a")
        assert window.counts()["a"] == min(second + 1, 60)


def test_defect_10_types_are_bounded_and_the_rest_is_counted_together() -> None:
    window = Cardinality(Clock(), types=500)
    for number in range(2000):
        window.count(f"t{number}")
    counts = window.counts()
    assert len(counts) == 501
    assert counts["_other"] == 1500
    assert sum(counts.values()) == 2000
    window.count("t3")
    assert window.counts()["t3"] == 2


def test_a_type_that_left_the_window_makes_room() -> None:
    clock = Clock()
    window = Cardinality(clock, window=60, bucket=1, types=1)
    window.count("old")
    clock.time += 60
    window.count("new")
    assert window.counts() == {"new": 1}


def test_memory_is_bounded() -> None:
    clock = Clock()
    window = Cardinality(clock, window=60, bucket=5, types=50)

    def fill(rounds: int) -> None:
        for number in range(rounds):
            clock.time += 0.05
            window.count(f"type-{number}")

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
        window.count(type_)
        seen.append((clock.time, type_))
    counts = window.counts()
    fresh = Counter(type_ for time, type_ in seen if time > clock.time - 25)
    within = Counter(type_ for time, type_ in seen if time > clock.time - 30)
    assert all(fresh[type_] <= counts.get(type_, 0) <= within[type_] for type_ in "abc")
