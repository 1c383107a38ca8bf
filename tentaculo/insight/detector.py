"""Detects that a signal of a service is about to reach its limit. Pure: no clock, no I/O.

A signal is a series of values, one for each bin of five minutes: a latency, the length of a queue, memory. A warning opens
where six things together weigh enough (`measures.py`): how far the signal has come from its usual value to its limit, how
far the rise of the last four hours would still bring it, how steady the rise of the last hour is, whether the last two hours
look like a line rather than a step, how soon their lines reach the limit, and how far the signal is above every hour of the
last seven days that did not lead to the limit, so that seasons are no news.

Values are compared in the scale of the signal: logarithms for latencies, plain numbers for gauges, and negated where the
limit is a lower one, so that in here every signal rises towards its limit. A *way* is the distance from usual to the limit.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import StrEnum
from math import exp, inf, isfinite, log, nan
from statistics import median
from typing import Final, NamedTuple

from tentaculo.insight.measures import KEPT, LEVEL_BINS, SPANS, Measures, Signal, trend_of

BIN: Final = 300
"""Seconds of one bin, of which a signal has one value."""
BINS_AN_HOUR: Final = 12
HOURS: Final = 168
"""Hours that say what is usual."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What opens and ends a warning, chosen on the design seeds of `bench/early_warning`, never on those of its evaluation.

    `python -m bench.early_warning.fit` finds weights. They are of ways; a warning opens where the sum is above `enough`.
    """

    level: float = 1.17
    """Weight of the level, at the end of the line through the last hour: the median of half an hour is late."""
    hours: float = 0.71
    """Weight of what the rise of the last four hours, at the lower bound of its slope (84 %), brings in the next four."""
    steadiness: float = 0.39
    """Weight of a third of the z of the Mann-Kendall test of the last hour."""
    line: float = 0.69
    """Weight of how much nearer the last two hours are to a line than to a step, in tenths of the way."""
    soon: float = 0.32
    """Weight of how soon the lines through the last two hours reach the limit: 1 at once, 0 in two hours."""
    novelty: float = 1.2
    """Weight of the distance between the median of half an hour and the highest harmless hour."""
    enough: float = 1.55
    hold: float = 0.12
    """How far below `enough` the sum keeps a warning open."""
    hold_way: float = 0.4
    """Part of the way above which a warning stays open."""
    margin: float = 0.05
    """Parts of the way by which the level must exceed that of warnings that ended without the limit."""
    memory: int = 72
    """Hours for which it must."""
    patience: int = 9
    """Bins without a reason for it after which a warning ends."""
    silence: int = 12
    """Bins after which it ends where too little is measured to say."""
    known: int = 3
    """Hours that must be known before anything is said."""
    sooner: float = 0.3
    later: float = 4.0
    """Between these multiples of the expected time the limit was reached in three of four simulated ramps."""


NEAR: Final = 0.3
"""Part of the way below which nothing is computed. On the design seeds nothing opened there."""
_Z: Final = 2.5
"""A trend is named in the sentence of a warning where its z is greater."""


class Rule(StrEnum):
    """What the sentence of a warning is about."""

    TREND = "trend"
    """A rise that names a time."""
    LEVEL = "level"
    """The level, whose rise is too unsteady to name one."""


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
    """What is seen at the end of one bin. Bins are numbered in time; values are those of the signal."""

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
            if self.open is not None and self.open.number > number:
                # The warning is as old as the clock says now, or it would not end before the clock is there again.
                self.open = self.open._replace(number=number)
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
        if self.open is None:
            if not self._is_near(level) or self._weigh(level) <= self._rules.enough:
                return None
            self.resume(self._forecast(level))
            return Outcome.OPEN
        if level >= self._limit:
            return self._end(Outcome.REACHED)
        is_known = isfinite(level)
        if is_known:
            self._peak = max(self._peak, level)
            if self._is_held(level):
                self._quiet = 0
        if self._quiet < (self._rules.patience if is_known else self._rules.silence):
            return None
        return self._end(Outcome.ENDED if is_known else Outcome.UNKNOWN)

    def resume(self, opened: Forecast) -> None:
        """Continue a warning, as after a restart."""
        self.open = opened
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
        if self._unfollowed_hour <= hour - self._rules.memory:
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
        self.open = None
        return outcome

    def _is_near(self, level: float) -> bool:
        """Whether a warning may open at `level`: the past is known, and the level is new and on its way up."""
        distance = self._limit - self._usual
        # Not the other way round: nan is neither.
        return (
            self._number is not None
            and len(self._hours) >= self._rules.known
            and distance > 0
            and self._usual + NEAR * distance <= level < self._limit
            and level >= self._unfollowed + self._rules.margin * distance
            # On its way down from the limit it is no warning.
            and (self._above is None or self._number - self._above > LEVEL_BINS)
        )

    def _is_held(self, level: float) -> bool:
        """Whether there is a reason for the open warning at `level`."""
        distance, rules = self._limit - self._usual, self._rules
        return level >= self._usual + rules.hold_way * distance or (
            level >= self._usual + NEAR * distance and self._weigh(level) > rules.enough - rules.hold
        )

    def _weigh(self, level: float) -> float:
        """The sum of what speaks for a warning at `level`. The limit is above usual."""
        rules, found = self._rules, self._measure(level)
        return (
            rules.level * found.level
            + rules.hours * found.hours
            + rules.steadiness * found.steadiness
            + rules.line * found.line
            + rules.soon * found.soon
            + rules.novelty * found.novelty
        )

    def _measure(self, level: float) -> Measures:
        """What speaks for a warning at `level`, before it is weighed."""
        harmless = self._harmless if isfinite(self._harmless) else self._usual
        signal = Signal(self._values, level, self._usual, self._limit, harmless)
        return signal.measure(self._inverse)

    def _forecast(self, level: float) -> Forecast:
        """What a warning at `level` says: the first of the trends that names a time, else the level alone."""
        number = self._number or 0
        for span in SPANS:
            trend = trend_of(self._values, span)
            if trend is None or trend.z <= _Z or not trend.is_steady or trend.slope.low <= 0:
                continue
            now = min(self._limit, max(level, trend.now))
            if (self._limit - now) / trend.slope.low > KEPT:
                continue
            began = self._value(now + trend.slope.middle * trend.first)
            expected = max(1.0, (self._limit - now) / trend.slope.middle)
            return Forecast(
                Rule.TREND,
                number,
                self._value(now),
                self._value(self._usual),
                self._value(self._limit),
                number + round(trend.first),
                (self._value(now) - began) / -trend.first,
                expected,
                expected * self._rules.sooner,
                expected * self._rules.later,
            )
        usual, limit = self._value(self._usual), self._value(self._limit)
        return Forecast(Rule.LEVEL, number, self._value(level), usual, limit, number)

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

    def _inverse(self, scaled: float) -> float | None:
        """1 / value; None where that is no measure of what is left, as of a signal that falls to its limit."""
        value = self._value(scaled)
        return 1 / value if self._sign > 0 and value > 0 else None
