from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.model.endpoint import Counts
from tentaculo.upstream.sliding_window import SlidingWindow

SPAN = 10.0
STEP = SPAN / 10


def test_nothing_is_counted_before_the_first_failure() -> None:
    window = SlidingWindow(SPAN)
    assert window.counts(5.0, 1000) == Counts()
    window.note_failure(6.0, 1000)
    assert window.counts(6.0, 1000) == Counts(0, 1)
    assert window.counts(7.0, 1003) == Counts(3, 1)


def test_it_forgets() -> None:
    window = SlidingWindow(SPAN)
    window.note_failure(0.0, 0)
    window.note_failure(6.0, 30)
    assert window.counts(9.9, 40) == Counts(40, 2)
    assert window.counts(10.0, 40) == Counts(10, 1)
    assert window.counts(16.0, 90) == Counts()


def test_a_mark_counts_from_there_on() -> None:
    window = SlidingWindow(SPAN)
    window.mark(0.0, 7)
    assert window.counts(1.0, 9) == Counts(2, 0)
    window.clear()
    assert window.counts(1.0, 9) == Counts()


def test_it_remembers_a_bounded_number_of_moments() -> None:
    window = SlidingWindow(SPAN)
    for number in range(100_000):
        window.note_failure(number * 0.001, number)
    assert repr(window) in ("<Window of 10 s, 10 marks>", "<Window of 10 s, 11 marks>")


STEPS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.9, 1.0, 3.0, 9.9, 11.0]), st.integers(0, 5), st.booleans()), max_size=60
)


@given(STEPS)
def test_it_is_right_to_a_step(steps: list[tuple[float, int, bool]]) -> None:
    """Failures younger than the span less a step are all there, and none that is older than the span."""
    window, moment, ok = SlidingWindow(SPAN), 0.0, 0
    failures: list[float] = []
    for wait, succeeded, fails in steps:
        moment += wait
        ok += succeeded
        if fails:
            window.note_failure(moment, ok)
            failures.append(moment)
        told = window.counts(moment, ok)
        assert told.failed <= sum(moment - at < SPAN for at in failures)
        assert told.failed >= sum(moment - at < SPAN - STEP for at in failures)
        assert 0 <= told.ok <= ok


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_the_share_is_that_of_the_traffic(rate: float) -> None:
    window, ok, debt = SlidingWindow(SPAN), 0, 0.0
    for number in range(2000):
        debt += rate
        if debt >= 1:
            debt -= 1
            window.note_failure(number * 0.01, ok)
        else:
            ok += 1
    told = window.counts(20.0, ok)
    assert told.failed / (told.ok + told.failed) == pytest.approx(rate, abs=0.01)
    assert told.ok + told.failed == pytest.approx(1000, abs=110), "a hundred each second, for ten seconds"


def test_marks_are_in_order() -> None:
    window = SlidingWindow(SPAN)
    for number in range(50):
        window.mark(number * 0.5, number)
    moments = [at for at, _, _ in window._marks]
    assert all(late - early >= STEP for early, late in itertools.pairwise(moments))
