"""Slope and significance of a trend in a short series, and how well a step describes it instead. Pure.

The Theil-Sen estimator and the Mann-Kendall test only look at the slopes between pairs of points, so a few outliers move neither of them, and neither assumes a
distribution of the noise (Sen, Journal of the American Statistical Association 63, 1968; Kendall, Rank Correlation
Methods, 1975). One step between two levels is no trend: the lower bound of its slope is about 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import sqrt
from statistics import median
from typing import Final, NamedTuple

ONE_SIDED: Final = 1.645
"""Normal quantile of 95 %: each of the two bounds of a slope holds with this probability."""
_LEAST: Final = 3
"""Values that make a level."""


class Slope(NamedTuple):
    """The estimated change of a value per unit of time, with its bounds."""

    low: float
    middle: float
    high: float


def pairwise_slopes(times: Sequence[float], values: Sequence[float]) -> list[float]:
    """The slope between each two of the points, in ascending order. `times` ascend strictly and are as many as `values`."""
    points = list(zip(times, values, strict=True))
    return sorted(
        (value - earlier) / (time - start)
        for place, (time, value) in enumerate(points)
        for start, earlier in points[:place]
    )


def score_deviation(values: Sequence[float]) -> float:
    """The standard deviation of Mann and Kendall's score of `values` in random order, corrected for ties."""

    def variance(count: int) -> int:
        return count * (count - 1) * (2 * count + 5)

    ties = (count for count in Counter(values).values() if count > 1) if len(set(values)) < len(values) else ()
    return sqrt((variance(len(values)) - sum(map(variance, ties))) / 18)


def mann_kendall(slopes: Sequence[float], deviation: float) -> float:
    """The z of the trend: how many standard deviations the rises and falls among `slopes` are out of balance.

    Positive where the values rise. `deviation` is the `score_deviation` of the values. 0 where all of them are equal.
    """
    score = sum(1 if slope > 0 else -1 if slope < 0 else 0 for slope in slopes)
    if not score or not deviation:
        return 0.0
    return (score - 1 if score > 0 else score + 1) / deviation


def theil_sen(slopes: Sequence[float], deviation: float, quantile: float = ONE_SIDED) -> Slope:
    """The median of `slopes`, which are in ascending order, with the bounds that Sen gives. There is at least one slope."""
    count = len(slopes)
    apart = quantile * deviation
    low = max(0, round((count - apart) / 2) - 1)
    return Slope(slopes[low], median(slopes), slopes[max(low, count - 1 - low)])


def step_distance(values: Sequence[float]) -> float | None:
    """The sum of the distances of `values` from the nearest step up: two levels, each the median of three values or more.

    None where no such step goes up.
    """
    halves = ((values[:cut], values[cut:]) for cut in range(_LEAST, len(values) - _LEAST + 1))
    levels = ((before, median(before), after, median(after)) for before, after in halves)
    found = (
        sum(abs(value - low) for value in before) + sum(abs(value - high) for value in after)
        for before, low, after, high in levels
        if high > low
    )
    return min(found, default=None)
