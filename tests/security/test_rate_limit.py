"""The rate limit against a slow reference, and the table of states under attack."""

from __future__ import annotations

from collections import deque
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tentaculo.security.rate_limit import SECOND, WAYS, RateLimit, StateTable

LIMITS = st.tuples(st.integers(1, 50), st.integers(1, 40), st.integers(1, 60), st.integers(1, 7))
"""Requests, seconds, burst, parts."""
PAUSES = st.lists(
    st.one_of(st.just(0), st.integers(0, 1000), st.integers(0, 3 * SECOND), st.integers(0, 100 * SECOND)),
    min_size=1,
    max_size=60,
)
"""Nanoseconds between requests."""


class Bucket:
    """The reference: a bucket of tokens that fills at the rate, in exact fractions."""

    def __init__(self, requests: int, seconds: int, burst: int, parts: int) -> None:
        self.rate = Fraction(requests, seconds * SECOND * parts)
        self.burst = max(1, burst // parts)
        self.tokens = Fraction(self.burst)
        self.at = 0

    def take(self, now: int) -> bool:
        self.tokens = min(Fraction(self.burst), self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@pytest.mark.thorough
@settings(max_examples=300)
@given(LIMITS, PAUSES, st.integers(0, 2**62))
def test_it_lets_through_exactly_what_a_bucket_of_tokens_does(
    limit: tuple[int, int, int, int], pauses: list[int], start: int
) -> None:
    requests, seconds, burst, parts = limit
    rate, bucket = RateLimit(requests, seconds, burst, parts=parts), Bucket(*limit)
    state, now = 0, start
    bucket.at = start
    for pause in pauses:
        now += pause
        verdict = rate.judge(state, now)
        assert verdict.is_refused is not bucket.take(now)
        if verdict.is_refused:
            assert verdict.state == state, "a refused request uses something up"
            assert verdict.remaining == 0
        else:
            assert verdict.remaining == int(bucket.tokens)
        state = verdict.state


@pytest.mark.thorough
@settings(max_examples=200)
@given(LIMITS, PAUSES)
def test_never_more_than_the_burst_and_the_rate_in_any_window(
    limit: tuple[int, int, int, int], pauses: list[int]
) -> None:
    requests, seconds, burst, parts = limit
    rate = RateLimit(requests, seconds, burst, parts=parts)
    passed: deque[int] = deque()
    state = now = 0
    for pause in pauses:
        now += pause
        verdict = rate.judge(state, now)
        state = verdict.state
        if not verdict.is_refused:
            passed.append(now)
            for number, first in enumerate(passed):
                most = max(1, burst // parts) + Fraction((now - first) * requests, seconds * SECOND * parts)
                assert len(passed) - number <= most


@settings(max_examples=200)
@given(st.integers(1, 10**6), st.integers(1, 86_400), st.integers(1, 5), st.integers(1, 200))
def test_a_caller_that_keeps_to_the_rate_is_never_refused(requests: int, seconds: int, parts: int, times: int) -> None:
    """However long it runs, and however odd the rate is: nothing drifts."""
    rate = RateLimit(requests, seconds, 1, parts=parts)
    state = 0
    for number in range(0, times * 10**7, 10**7):
        # The first whole nanosecond at which each request is due.
        now = -(-number * seconds * SECOND * parts // requests)
        for _ in range(2):
            verdict = rate.judge(state, now)
            now += -(-seconds * SECOND * parts // requests)
            assert not verdict.is_refused
            state = verdict.state


@pytest.mark.thorough
@settings(max_examples=200)
@given(LIMITS, PAUSES)
def test_the_seconds_of_a_refusal_are_enough_and_not_a_second_too_many(
    limit: tuple[int, int, int, int], pauses: list[int]
) -> None:
    requests, seconds, burst, parts = limit
    rate = RateLimit(requests, seconds, burst, parts=parts)
    state = now = 0
    for pause in pauses:
        now += pause
        verdict = rate.judge(state, now)
        state = verdict.state
        if verdict.is_refused:
            assert not rate.judge(state, now + verdict.seconds * SECOND).is_refused
            assert rate.judge(state, now + (verdict.seconds - 1) * SECOND).is_refused


def test_the_numbers_of_a_response() -> None:
    rate = RateLimit(10, 60, 10)
    assert (rate.burst, rate.window) == (10, 60)
    first = rate.judge(0, 1000)
    assert (first.remaining, first.seconds) == (9, 6)
    state = first.state
    for _ in range(9):
        last = rate.judge(state, 1000)
        state = last.state
    assert (last.remaining, last.seconds) == (0, 6)
    assert rate.judge(state, 1000) == (state, 0, 6, True)


@given(st.integers(1, 50), st.integers(1, 100), st.integers(1, 60), st.lists(st.integers(0, 3 * SECOND), max_size=60))
def test_what_is_left_is_what_passes(requests: int, seconds: int, burst: int, gaps: list[int]) -> None:
    rate, now, state = RateLimit(requests, seconds, burst), 0, 0
    for gap in gaps:
        now += gap
        remaining, wait = rate.left(state, now)
        verdict = rate.judge(state, now)
        assert verdict.is_refused is (remaining == 0)
        if verdict.is_refused:
            assert wait == verdict.seconds
        else:
            assert verdict.remaining == remaining - 1
            assert rate.left(state, now + wait * SECOND) == (burst, 0)
        state = verdict.state


def test_a_part_of_a_limit_is_rounded_down_and_never_nothing() -> None:
    part = RateLimit(100, 1, 100, parts=3)
    assert (part.burst, part.window) == (33, 1)
    least = RateLimit(2, 60, 2, parts=8)
    assert least.burst == 1
    assert least.judge(least.judge(0, 0).state, 0).seconds == 240


# -- the table ----------------------------------------------------------------------------------------------------


def test_a_state_is_kept_and_replaced() -> None:
    table = StateTable(64)
    assert table.get("a") == 0
    table.put("a", 5)
    table.put("a", 7)
    assert (table.get("a"), len(table)) == (7, 1)


@pytest.mark.thorough
@pytest.mark.parametrize("most", [1, 8, 9, 100, 65_536])
def test_it_has_a_bound(most: int) -> None:
    table = StateTable(most)
    assert table.most <= max(most, WAYS)
    for number in range(3 * table.most):
        table.put(f"{number}", number + 1)
    assert len(table) <= table.most


def test_who_has_used_up_its_requests_is_not_forgotten_for_those_that_sent_one() -> None:
    """An attacker makes up addresses without end, to have the state of its first one forgotten."""
    table = StateTable(1024)
    table.put("exhausted", 1000)
    for number in range(100_000):
        table.put(f"made up {number}", 100)
    assert table.get("exhausted") == 1000


def test_a_new_caller_has_a_state_of_its_own_in_a_full_table() -> None:
    """Those who come while an attack fills the table are not judged by what others used."""
    table = StateTable(1024)
    for number in range(10_000):
        table.put(f"made up {number}", 1000)
    assert table.get("new") == 0
    table.put("new", 100)
    assert table.get("new") == 100
