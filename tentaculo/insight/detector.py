"""Detects that a signal of a service is about to reach its limit. Pure: no clock, no I/O.

A signal is a series of values, one for each bin of five minutes: a latency, the length of a queue, memory. Two rules open
a warning. The **trend** rule sees a significant rise over one hour, or over four, which would reach the limit within as
much time again even at the lower bound of its slope. The **level** rule sees the signal at 70 % of the way from its usual
value to its limit, above every hour of the last seven days that did not lead to the limit: seasons are no news.

Values are compared in the scale of the signal: logarithms for latencies, plain numbers for gauges, and negated where the
limit is a lower one, so that in here every signal rises towards its limit.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import StrEnum
from math import exp, inf, isfinite, log, nan
from statistics import median
from typing import Final, NamedTuple

from tentaculo.insight.trend import mann_kendall, pairwise_slopes, score_deviation, theil_sen

BIN: Final = 300
"""Seconds of one bin, of which a signal has one value."""
POINTS: Final = 12
"""Points of each of the two windows."""
SPANS: Final = (1, 4)
"""Bins of one point: 12 points of 5 minutes look one hour back, 12 of 20 minutes look four hours back."""
KEPT: Final = POINTS * SPANS[-1]
"""Bins that are kept."""
BINS_AN_HOUR: Final = 12
HOURS: Final = 168
"""Hours that say what is usual."""
LEVEL_BINS: Final = 6
"""Bins whose median is the level now: more than a deploy of ten minutes can move."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What opens and ends a warning. Chosen on seeds 1 and 2 of `bench/early_warning`, never on those of its evaluation."""

    z: float = 2.5
    """The z of the Mann-Kendall test that a trend must exceed."""
    quantile: float = 1.0
    """Normal quantile of the lower bound of the slope: it holds with 84 %."""
    steady: float = 0.3
    """Part of that slope that the second half of the window must have: one step between two levels is no trend."""
    trend_way: float = 0.45
    """Part of the way from usual to the limit that a trend must have come."""
    level_way: float = 0.7
    """Part of the way from which the level alone opens a warning."""
    hold_way: float = 0.6
    """Part of the way above which a warning stays open."""
    margin: float = 0.05
    """Parts of the way by which the level must exceed that of harmless hours, and of warnings without the limit."""
    points: int = 9
    """Points that a window must have; the others are gaps."""
    patience: int = 6
    """Bins without a reason for it after which a warning ends."""
    hours: int = 3
    """Hours that must be known before the level says anything."""
    sooner: float = 0.3
    later: float = 4.0
    """Between these multiples of the expected time the limit was reached in four of five simulated ramps."""


class Rule(StrEnum):
    """What opened a warning."""

    TREND = "trend"
    LEVEL = "level"


class Outcome(StrEnum):
    """What became of a warning."""

    OPEN = "open"
    REACHED = "reached"
    """The signal reached its limit."""
    ENDED = "ended"
    """The reasons for the warning were gone, and the limit was not reached."""
    UNKNOWN = "unknown"
    """The signal was not measured any more."""


class Forecast(NamedTuple):
    """What a rule sees at the end of one bin. Bins are numbered in time; values are those of the signal."""

    rule: Rule
    number: int
    """The last bin."""
    level: float
    usual: float
    limit: float
    since: int
    """The first bin of the trend, or the last one."""
    per_bin: float = 0.0
    """How much the value has changed in a bin since then; 0 where only the level is known."""
    expected: float | None = None
    """Bins until the limit is reached; None where only the level is known."""
    earliest: float | None = None
    latest: float | None = None


class Detector:
    """One signal: its last four hours by bin, and its last seven days by hour.

    `limit` is in the units of the values. `is_logarithmic` is for values above 0; `rises` is False where the limit is a
    lower one.
    """

    def __init__(
        self, limit: float, *, is_logarithmic: bool, rises: bool = True, thresholds: Thresholds | None = None
    ) -> None:
        self._is_logarithmic = is_logarithmic
        self._sign = 1.0 if rises else -1.0
        self._rules = thresholds or Thresholds()
        self._limit = self._scaled(limit)
        self._values = array("d", [nan] * KEPT)
        self._hours = array("q")
        self._usuals = array("d")
        self._number: int | None = None
        self._usual, self._harmless = nan, -inf
        self._unfollowed, self._unfollowed_hour = -inf, 0
        self._peak = -inf
        self._above: int | None = None
        self._quiet = 0
        """Bins since the last one in which there was a reason for the open warning."""
        self._latest: Forecast | None = None
        self.open: Forecast | None = None
        """The forecast of the open warning, as it was when it opened."""

    def __repr__(self) -> str:
        return f"<Detector at {self._number}, {self.open.rule if self.open else 'no warning'}>"

    @property
    def number(self) -> int | None:
        """The last bin; None before the first."""
        return self._number

    @property
    def level(self) -> float | None:
        """The value now: the median of the last bins; None where fewer than half of them are known."""
        level = self._level()
        return self._value(level) if isfinite(level) else None

    def warm_up(self, hour: int, usual: float) -> None:
        """Take over the usual value of one hour before the first bin, the oldest hour first.

        `hour` is the number of its first bin divided by 12.
        """
        self._take_hour(hour, self._scaled(usual))

    def add(self, number: int, value: float | None) -> None:
        """Take the value of the bin `number`, None where there is none. Bins that are left out are gaps.

        An earlier number than the last one means that the clock was set back: the bins from there on are forgotten.
        """
        last = self._number
        if last is None:
            self._learn(number // BINS_AN_HOUR)
            last = number - 1
        elif number <= last:
            self._forget(last - number + 1)
            last = number - 1
        for missing in range(max(last + 1, number - KEPT), number):
            self._append(missing, nan)
        is_usable = value is not None and isfinite(value) and (value > 0 or not self._is_logarithmic)
        self._append(number, self._scaled(value) if value is not None and is_usable else nan)

    def evaluate(self) -> Outcome | None:
        """Look at the last bin: what became of the warning, OPEN where one opens now; None where nothing changes.

        It may be looked at again, also after it was added again: only a new bin brings the end of a warning nearer.
        """
        level = self._level()
        if level >= self._limit:
            self._above = self._number
        found = self._forecast(level)
        if self.open is None:
            # On its way down from the limit it is no warning.
            if found is None or (self._above is not None and found.number - self._above <= LEVEL_BINS):
                return None
            self.resume(found)
            return Outcome.OPEN
        if level >= self._limit:
            return self._end(Outcome.REACHED)
        self._peak = max(self._peak, level) if isfinite(level) else self._peak
        self._latest = found or self._latest
        if found is not None or self._goes_on(level):
            self._quiet = 0
        if self._quiet < self._rules.patience:
            return None
        is_known = any(isfinite(one) for one in self._values[-self._rules.patience :])
        return self._end(Outcome.ENDED if is_known else Outcome.UNKNOWN)

    def resume(self, opened: Forecast) -> None:
        """Continue a warning, as after a restart."""
        self.open = self._latest = opened
        self._quiet, self._peak = 0, self._scaled(opened.level)

    def _append(self, number: int, scaled: float) -> None:
        self._number = number
        self._values.pop(0)
        self._values.append(scaled)
        if self.open is not None and number > self.open.number:
            self._quiet += 1
        if (number + 1) % BINS_AN_HOUR == 0:
            hour = number // BINS_AN_HOUR
            known = [one for one in self._values[-BINS_AN_HOUR:] if isfinite(one)]
            if len(known) >= BINS_AN_HOUR // 4:
                self._take_hour(hour, median(known))
            self._learn(hour)

    def _take_hour(self, hour: int, usual: float) -> None:
        while self._hours and self._hours[-1] >= hour:
            # The clock was set back.
            self._hours.pop()
            self._usuals.pop()
        self._hours.append(hour)
        self._usuals.append(usual)

    def _learn(self, hour: int) -> None:
        """Find what is usual, and the highest harmless hour, in the last seven days."""
        while self._hours and self._hours[0] <= hour - HOURS:
            self._hours.pop(0)
            self._usuals.pop(0)
        if self._unfollowed_hour <= hour - HOURS:
            self._unfollowed = -inf
        self._usual = median(self._usuals) if self._usuals else nan
        known = list(zip(self._hours, self._usuals, strict=True))
        reached = [at for at, usual in known if usual >= self._limit]
        # A day that led to the limit was not harmless, and the last hours may lead to it.
        harmless = (usual for at, usual in known if at <= hour - 4 and not any(-1 <= one - at <= 24 for one in reached))
        self._harmless = max(harmless, default=-inf)

    def _end(self, outcome: Outcome) -> Outcome:
        if outcome is Outcome.ENDED and self._number is not None:
            # The same level would give a false warning again.
            self._unfollowed = max(self._unfollowed, self._peak)
            self._unfollowed_hour = self._number // BINS_AN_HOUR
        self.open = self._latest = None
        return outcome

    def _goes_on(self, level: float) -> bool:
        """Whether there is a reason for the open warning at `level`, though no rule would open it now."""
        if self.open is None or self._latest is None or self._number is None or not isfinite(level):
            return False
        distance = self._limit - self._usual
        if level >= self._usual + self._rules.hold_way * distance:
            return True
        is_due = self._number <= self._latest.number + (self._latest.latest or 0.0)
        return is_due and level >= self._scaled(self.open.level) - self._rules.margin * distance

    def _forecast(self, level: float) -> Forecast | None:
        """What the rules see now."""
        rules, distance = self._rules, self._limit - self._usual
        # Not the other way round: nan is neither.
        if self._number is None or not (distance > 0 and level < self._limit):
            return None
        way, margin = (level - self._usual) / distance, rules.margin * distance
        if way < rules.trend_way or (self.open is None and level < self._unfollowed + margin):
            return None
        for span in SPANS:
            if (found := self._trend(span, level, self._number)) is not None:
                return found
        if way < rules.level_way or level < self._harmless + margin or len(self._hours) < rules.hours:
            return None
        usual, limit = self._value(self._usual), self._value(self._limit)
        return Forecast(Rule.LEVEL, self._number, self._value(level), usual, limit, self._number)

    def _trend(self, span: int, level: float, number: int) -> Forecast | None:
        """What the window with points of `span` bins says."""
        points = self._points(span)
        if len(points) < self._rules.points:
            return None
        times, values = [at for at, _ in points], [value for _, value in points]
        slopes, deviation = pairwise_slopes(times, values), score_deviation(values)
        if mann_kendall(slopes, deviation) <= self._rules.z:
            return None
        slope = theil_sen(slopes, deviation, self._rules.quantile)
        half = [one for one in points if one[0] > -POINTS * span / 2]
        recent = pairwise_slopes([at for at, _ in half], [value for _, value in half])
        # Between two levels the slope is steep, and flat since then.
        if not recent or median(recent) < self._rules.steady * slope.middle:
            return None
        # The level is that of some minutes ago; the line through the points is not late.
        line = median(value - slope.middle * at for at, value in points)
        now = min(self._limit, max(level, line))
        if slope.low <= 0 or (self._limit - now) / slope.low > POINTS * span:
            return None
        began = self._value(now + slope.middle * times[0])
        expected = max(1.0, (self._limit - now) / slope.middle)
        return Forecast(
            Rule.TREND,
            number,
            self._value(now),
            self._value(self._usual),
            self._value(self._limit),
            number + round(times[0]),
            (self._value(now) - began) / -times[0],
            expected,
            expected * self._rules.sooner,
            expected * self._rules.later,
        )

    def _points(self, span: int) -> list[tuple[float, float]]:
        """The known points of a window: the middle of their bins, counted from the last bin, and their value."""
        values, points = self._values[-POINTS * span :], list[tuple[float, float]]()
        for start in range(0, len(values), span):
            known = [one for one in values[start : start + span] if isfinite(one)]
            if known and 2 * len(known) >= span:
                points.append((start + (span - 1) / 2 - len(values) + 1, median(known)))
        return points

    def _level(self) -> float:
        known = [one for one in self._values[-LEVEL_BINS:] if isfinite(one)]
        return median(known) if 2 * len(known) > LEVEL_BINS else nan

    def _forget(self, bins: int) -> None:
        """Forget the last bins."""
        self._quiet = max(0, self._quiet - bins)
        kept = self._values[: max(0, KEPT - bins)]
        self._values = array("d", [nan] * (KEPT - len(kept))) + kept

    def _scaled(self, value: float) -> float:
        return self._sign * (log(value) if self._is_logarithmic else value)

    def _value(self, scaled: float) -> float:
        return exp(self._sign * scaled) if self._is_logarithmic else self._sign * scaled
