"""Percentiles and ratios."""

from __future__ import annotations

import pytest

from bench.stats import Spread, percentile, ratios


def test_a_spread_has_the_middle_and_both_ends() -> None:
    assert Spread.of([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0, 3)
    assert Spread.of([1.0, 2.0]) == Spread(1.5, 1.0, 2.0, 2)
    assert Spread.of([]) is None


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0, 1, 50, 99, 99.9, 100)] == [1, 1, 50, 99, 100, 100]
    assert percentile([7.0], 50) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_ratios_compare_within_a_round_only() -> None:
    # Round 1 was slow for both, round 3 was measured for one, round 4 has nothing to divide by.
    ours = {1: 10.0, 2: 30.0, 3: 99.0, 4: 1.0}
    theirs = {1: 20.0, 2: 40.0, 4: 0.0}
    assert ratios(ours, theirs) == Spread(0.625, 0.5, 0.75, 2)
    assert ratios(ours, {}) is None
