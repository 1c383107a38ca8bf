"""What is usual for a service: medians that a wrong day, a gap or a clock that was set cannot move far."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.model.history import DAY, HOUR, Histogram, Period, Tally, Uptime, bucket
from tentaculo.model.service_rates import LEAST_DAYS, share_interval, usual_rates

START = 20_000 * DAY + 15 * HOUR
WHOLE = HOUR * 1000


def hour(requests: int = 600, seconds: float = 0.03, *, known: int | None = WHOLE, probes: int = 360) -> Period:
    """One hour; `known` is how many milliseconds of it the service was watched."""
    latency = Histogram({bucket(seconds): requests}) if requests else Histogram()
    checked = Histogram({bucket(0.004): probes}) if probes else Histogram()
    uptime = None if known is None else Uptime(known, 0)
    return Period("madre", HOUR, START, Tally(probes, 0, checked), Tally(requests, 0, latency), uptime)


def test_the_median_of_the_days_is_usual() -> None:
    found = usual_rates(START, [hour(60 * number, number / 100) for number in (7, 1, 3, 5, 2)])
    assert found is not None
    assert (found.hour, found.days, found.requests_per_minute) == (START, 5, 3.0)
    assert found.requests_p95 == pytest.approx(0.03, rel=0.02)
    assert found.probes_p95 == pytest.approx(0.004, rel=0.02)
    even = usual_rates(START, [hour(60 * number) for number in (1, 2, 4, 9)])
    assert even is not None
    assert even.requests_per_minute == 3.0


def test_nothing_is_usual_where_too_few_days_are_known() -> None:
    assert usual_rates(START, []) is None
    assert usual_rates(START, [hour()] * (LEAST_DAYS - 1)) is None
    # Hours in which the gateway hardly ran, and those in maintenance, are not known.
    assert usual_rates(START, [hour()] * 3 + [hour(known=WHOLE // 2 - 1), hour(0, known=0, probes=0)]) is None
    assert usual_rates(START, [hour()] * LEAST_DAYS) is not None


def test_an_hour_that_is_known_in_part_counts_by_the_minute() -> None:
    found = usual_rates(START, [hour(300, known=WHOLE // 2), hour(600), hour(600), hour(450, known=WHOLE * 3 // 4)])
    assert found is not None
    assert found.requests_per_minute == 10.0
    # What was counted twice, since the clock was set back, is still an hour of sixty minutes.
    twice = usual_rates(START, [hour(1200, known=2 * WHOLE)] * 4)
    assert twice is not None
    assert twice.requests_per_minute == 20.0


def test_a_service_without_probes_is_known_in_hours_with_requests() -> None:
    found = usual_rates(START, [hour(120, known=0, probes=0), hour(240, known=None, probes=0)] * 2)
    assert found is not None
    assert (found.requests_per_minute, found.probes_p95) == (3.0, None)


def test_a_handful_of_requests_has_no_percentile() -> None:
    found = usual_rates(START, [hour(9)] * 4 + [hour(600)] * 3)
    assert found is not None
    assert (found.days, found.requests_p95) == (7, None)
    found = usual_rates(START, [hour(0)] * 7)
    assert found is not None
    assert (found.requests_per_minute, found.requests_p95) == (0.0, None)


@given(st.lists(st.integers(0, 10**9), min_size=3, max_size=3))
def test_three_wrong_days_of_seven_do_not_move_it(wrong: list[int]) -> None:
    found = usual_rates(START, [*(hour(600 + number) for number in range(4)), *map(hour, wrong)])
    assert found is not None
    assert 10.0 <= found.requests_per_minute <= 10.06


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [(0, 20, 0, 0.161), (20, 20, 0.839, 1), (1, 20, 0.009, 0.236), (10, 1000, 0.0054, 0.0183), (0, 10**6, 0, 3.84e-6)],
)
def test_the_interval_of_a_share(part: int, whole: int, low: float, high: float) -> None:
    # The values are those of Wilson's formula, as other programs print them.
    assert share_interval(part, whole) == pytest.approx((low, high), rel=0.03)
