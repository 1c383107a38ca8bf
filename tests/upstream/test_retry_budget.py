"""How many retries are allowed."""

from __future__ import annotations

from tentaculo.upstream.retry_budget import HEDGE_SHARE, RetryBudget
from tests.upstream.test_load_balancer import Clock


def allowed(budget: RetryBudget, requests: int) -> int:
    """How many retries are allowed in a row when so many requests have been sent."""
    return next(number for number in range(1000) if not budget.take(requests))


def test_ten_at_once_and_then_one_a_second() -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    assert allowed(budget, 0) == 10
    for _ in range(10):
        clock.moment += 1
        assert allowed(budget, 0) == 1
    clock.moment += 3600
    assert allowed(budget, 0) == 10


def test_a_tenth_of_the_requests_besides() -> None:
    budget = RetryBudget(Clock())
    assert allowed(budget, 0) == 10
    assert [allowed(budget, requests) for requests in (300, 300, 330, 335, 345)] == [30, 0, 3, 0, 1]


def test_a_busy_time_saves_no_flood() -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    clock.moment += 3600
    assert allowed(budget, 1_000_000) == 100


def test_hedges_have_a_twentieth_and_no_reserve() -> None:
    clock = Clock()
    budget = RetryBudget(clock, share=HEDGE_SHARE, reserve=0.0)
    clock.moment += 3600
    assert [allowed(budget, requests) for requests in (0, 100, 119, 120, 1_000_000)] == [0, 5, 0, 1, 100]
