"""Theil-Sen and Mann-Kendall, against values computed by hand and their definitions."""

from __future__ import annotations

import random
from statistics import median

import pytest

from tentaculo.insight.trend import mann_kendall, pairwise_slopes, score_deviation, step_distance, theil_sen


def z_of(values: list[float]) -> float:
    return mann_kendall(pairwise_slopes(range(len(values)), values), score_deviation(values))


def test_a_line_has_one_slope_and_the_greatest_significance() -> None:
    values = [3.0 + 2.0 * hour for hour in range(12)]
    slopes = pairwise_slopes(range(12), values)
    assert set(slopes) == {2.0}
    assert len(slopes) == 66
    # n (n - 1) (2n + 5) / 18 = 212.67 for 12 values, and (66 - 1) / sqrt(212.67) = 4.457.
    assert score_deviation(values) == pytest.approx(212.6667**0.5, rel=1e-4)
    assert z_of(values) == pytest.approx(4.457, abs=0.001)
    assert theil_sen(slopes, score_deviation(values)) == (2.0, 2.0, 2.0)
    assert z_of(values[::-1]) == -z_of(values)


def test_the_slope_is_the_median_of_all_pairs_whatever_their_distance_in_time() -> None:
    times, values = [0.0, 1.0, 4.0, 6.0], [1.0, 5.0, 2.0, 9.0]
    pairs = [(a, b) for b in range(4) for a in range(b)]
    expected = sorted((values[b] - values[a]) / (times[b] - times[a]) for a, b in pairs)
    assert pairwise_slopes(times, values) == expected
    assert theil_sen(expected, score_deviation(values)).middle == median(expected)


def test_outliers_do_not_move_the_slope() -> None:
    values = [10.0 + hour for hour in range(12)]
    values[4], values[9] = 1000.0, -1000.0
    slope = theil_sen(pairwise_slopes(range(12), values), score_deviation(values))
    assert slope.middle == pytest.approx(1.0)


def test_one_step_is_no_trend() -> None:
    """This is why the threshold is 2.5."""
    noise = [0.3, 0.0, 0.5, 0.2, 0.4, 0.1]
    step = [1.0 + one for one in noise] + [9.0 + one for one in noise]
    assert 2.0 < z_of(step) < 2.5
    # Without noise the ties make it significant, but the lower bound of its slope says that nothing rises.
    step = [1.0] * 6 + [9.0] * 6
    assert z_of(step) > 2.5
    assert theil_sen(pairwise_slopes(range(12), step), score_deviation(step)).low == 0


def test_ties_are_corrected() -> None:
    assert z_of([4.0] * 12) == 0
    assert score_deviation([4.0] * 12) == 0
    # Two groups of three: (6 * 5 * 17 - 2 * 3 * 2 * 11) / 18.
    assert score_deviation([1.0, 1.0, 1.0, 2.0, 2.0, 2.0]) == pytest.approx(((510 - 132) / 18) ** 0.5)


def test_the_bounds_hold_the_true_slope_about_as_often_as_they_say() -> None:
    random_ = random.Random(5)
    below = above = 0
    for _ in range(400):
        values = [0.5 * place + random_.gauss(0, 2) for place in range(12)]
        slope = theil_sen(pairwise_slopes(range(12), values), score_deviation(values))
        below += slope.high < 0.5
        above += slope.low > 0.5
    assert 4 <= below <= 40
    assert 4 <= above <= 40


def test_noise_seldom_has_a_trend() -> None:
    random_ = random.Random(6)
    false = sum(z_of([random_.gauss(0, 1) for _ in range(12)]) > 2.5 for _ in range(3000))
    assert false < 45


def test_a_step_is_two_levels_of_three_values_or_more() -> None:
    assert step_distance([1.0] * 5 + [4.0] * 3) == 0.0
    # The last two are no level of their own: the nearest step ends with 1, 4, 4.
    assert step_distance([1.0] * 6 + [4.0] * 2) == 3.0
    assert step_distance([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]) == 4.0


def test_what_does_not_go_up_has_no_step() -> None:
    assert step_distance([3.0] * 8) is None
    assert step_distance([8.0 - one for one in range(8)]) is None
    assert step_distance([1.0, 2.0, 3.0]) is None
