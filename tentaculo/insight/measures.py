"""What speaks for a warning: the level and the trends of a signal, as parts of the way from usual to the limit. Pure.

Values are in the scale of the detector, in which every signal rises towards its limit; a gap is nan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, isfinite
from statistics import median
from typing import Final, NamedTuple

from tentaculo.insight.trend import (
    Slope,
    mann_kendall,
    pairwise_slopes,
    score_deviation,
    step_distance,
    theil_sen,
)

POINTS: Final = 12
"""Points of each of the two windows of trends."""
SPANS: Final = (1, 4)
"""Bins of one point: 12 points of 5 minutes look one hour back, 12 of 20 minutes look four hours back."""
KEPT: Final = POINTS * SPANS[-1]
"""Bins that are kept."""
TWO_HOURS: Final = 24
"""Bins that say whether a line or a step describes the signal, and how soon the limit is reached."""
LEVEL_BINS: Final = 6
"""Bins whose median is the level now: more than a deploy of ten minutes can move."""
_KNOWN: Final = 0.7
"""Least part of the points of a window that are no gaps."""
_BOUND: Final = 1.0
"""Normal quantile of the lower bound of a slope: it holds with 84 %."""
_STEADY: Final = 0.3
"""Least part of the slope of a window that its second half has: one step between two levels is no rise."""

Points = list[tuple[float, float]]
"""Times in bins, counted from the last bin, and values."""


class Trend(NamedTuple):
    """What a window says, in the scale of the detector and in bins."""

    first: float
    """Its first point, counted from the last bin."""
    slope: Slope
    z: float
    now: float
    """The end of the line through it."""
    is_steady: bool


class Measures(NamedTuple):
    """What is weighed, each in the unit of the weight of the same name in `Thresholds`."""

    level: float
    hours: float
    steadiness: float
    line: float
    soon: float
    novelty: float


class Signal(NamedTuple):
    """A signal near its limit, which is above `usual`."""

    values: Sequence[float]
    """Those of the last `KEPT` bins. At least half of the last `LEVEL_BINS` are known."""
    level: float
    usual: float
    limit: float
    harmless: float
    """The highest hour that did not lead to the limit."""

    def measure(self, inverse: Callable[[float], float | None]) -> Measures:
        """All that speaks for a warning. `inverse` is 1 / value of a value in this scale, None where it has none."""
        distance = self.limit - self.usual
        hour, hours = (trend_of(self.values, span) for span in SPANS)
        line, soon = self._last_two_hours(inverse)
        # Behind a step the line is above every value.
        highest = max(one for one in self.values[-LEVEL_BINS:] if isfinite(one))
        now = min(hour.now, highest) if hour is not None else self.level
        rise = hours.slope.low * KEPT / distance if hours is not None and hours.is_steady else 0.0
        return Measures(
            level=_within(-0.5, (now - self.usual) / distance, 1.3),
            hours=_within(-0.5, rise, 1.5),
            steadiness=0.0 if hour is None else _within(-1.0, hour.z / 3, 1.4),
            line=line,
            soon=soon,
            novelty=_within(-0.6, (self.level - self.harmless) / distance, 0.6),
        )

    def _last_two_hours(self, inverse: Callable[[float], float | None]) -> tuple[float, float]:
        """How much better a line fits than a step, in tenths of the way, and how soon it reaches the limit.

        A queue whose load rises steadily has a value in proportion to 1 / (1 - load), so that its inverse falls in a line.
        The sooner of the two lines counts.
        """
        points = points_of(self.values[-TWO_HOURS:], 1)
        if len(points) < _KNOWN * TWO_HOURS:
            return 0.0, 0.0
        times, values = [at for at, _ in points], [value for _, value in points]
        slope, now = _line(points)
        apart = sum(abs(value - now - slope.middle * at) for at, value in points)
        left = _bins_until(self.limit, now, slope)
        inverses, least = [inverse(value) for value in values], inverse(self.limit)
        known = [-one for one in inverses if one is not None]
        if least is not None and len(known) == len(times):
            inverse_slope, inverse_now = _line(list(zip(times, known, strict=True)))
            left = min(left, _bins_until(-least, inverse_now, inverse_slope))
        step = step_distance(values)
        tenths = 0.0 if step is None else 10 * (step - apart) / len(points) / (self.limit - self.usual)
        return _within(-1.0, tenths, 1.0), max(0.0, 1 - left / TWO_HOURS)


def trend_of(values: Sequence[float], span: int) -> Trend | None:
    """What the window with points of `span` bins says; None where too few of them are known."""
    points = points_of(values[-POINTS * span :], span)
    if len(points) < _KNOWN * POINTS:
        return None
    times, known = [at for at, _ in points], [value for _, value in points]
    slopes, deviation = pairwise_slopes(times, known), score_deviation(known)
    slope = theil_sen(slopes, deviation, _BOUND)
    half = [one for one in points if one[0] > -POINTS * span / 2]
    recent = pairwise_slopes([at for at, _ in half], [value for _, value in half])
    # The level is that of some minutes ago; the line through the points is not late.
    now = median(value - slope.middle * at for at, value in points)
    is_steady = bool(recent) and median(recent) >= _STEADY * slope.middle
    return Trend(times[0], slope, mann_kendall(slopes, deviation), now, is_steady)


def points_of(values: Sequence[float], span: int) -> Points:
    """The known points of the last bins: the middle of each `span` bins, counted from the last bin, and their median."""
    points = Points()
    for start in range(0, len(values), span):
        known = [one for one in values[start : start + span] if isfinite(one)]
        if known and 2 * len(known) >= span:
            points.append((start + (span - 1) / 2 - len(values) + 1, median(known)))
    return points


def _line(points: Points) -> tuple[Slope, float]:
    """The slope of the line through the points, and the value at its end."""
    times, values = [at for at, _ in points], [value for _, value in points]
    slope = theil_sen(pairwise_slopes(times, values), score_deviation(values), _BOUND)
    return slope, median(value - slope.middle * at for at, value in points)


def _bins_until(limit: float, now: float, slope: Slope) -> float:
    """Bins until a line reaches its limit, at the lower bound of its slope."""
    return max(0.0, limit - now) / slope.low if slope.low > 0 else inf


def _within(least: float, value: float, most: float) -> float:
    return max(least, min(value, most))
