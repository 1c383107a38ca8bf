"""The early warning of the gateway and what it is compared with, each as a condition that is true or false in each bin."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from math import log, sqrt
from typing import Final, NamedTuple, Protocol

from bench.early_warning.simulation import DAY, WEEK, Service
from tentaculo.insight.detector import Forecast, Outcome, Thresholds
from tentaculo.insight.watches import LatencyWatch
from tentaculo.model.early_warning import BinLatency

_QUIET: Final = 6
"""Bins without the condition, after which a warning of the others ends. The gateway's own rule is the same."""
_PREDICT: Final = 48
"""Bins that predict_linear looks ahead: four hours."""


class Warned(NamedTuple):
    """One warning. Bins are counted as the series is; the warning is known at the end of its first one."""

    start: int
    end: int
    forecast: Forecast | None = None
    is_right: bool = False
    """Whether it ended because the limit was reached, and was not withdrawn."""


class Method(Protocol):
    """Something that warns."""

    def add(self, number: int, latency: BinLatency | None) -> None:
        """Take the next bin."""

    def warnings(self) -> list[Warned]:
        """The warnings of the whole series."""


class Ours:
    """The gateway's."""

    def __init__(
        self, service: Service, thresholds: Thresholds | None = None, *, watch: LatencyWatch | None = None
    ) -> None:
        """`watch` stands in the place of one with these thresholds."""
        self._watch = watch or LatencyWatch(service.limit, thresholds)
        self._opened: dict[str, tuple[int, Forecast]] = {}
        self._warnings: list[Warned] = []
        self._bins = service.bins

    def add(self, number: int, latency: BinLatency | None) -> None:
        """Take the next bin."""
        self._watch.add(number, latency)
        for statistic, outcome in self._watch.evaluate():
            if outcome is Outcome.OPEN:
                opened = self._watch.detectors[statistic].open
                assert opened is not None
                self._opened[statistic] = (number, opened)
            else:
                start, forecast = self._opened.pop(statistic)
                self._warnings.append(Warned(start, number, forecast, outcome is Outcome.REACHED))

    def warnings(self) -> list[Warned]:
        """The warnings of the whole series."""
        return [*self._warnings, *(Warned(start, self._bins, one) for start, one in self._opened.values())]


class _Conditional:
    """A warning lasts from the first bin with the condition until the condition was false for half an hour."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._start: int | None = None
        self._quiet = 0
        self._warnings: list[Warned] = []

    def holds(self, value: float) -> bool:
        """Whether the condition is true at `value`, and take it."""
        raise NotImplementedError

    def add(self, number: int, latency: BinLatency | None) -> None:
        """Take the next bin."""
        is_true = latency is not None and self.holds(latency.p95 if self._service.is_p95 else latency.median)
        if is_true:
            self._quiet = 0
            if self._start is None:
                self._start = number
        elif self._start is not None:
            self._quiet += 1
            if self._quiet >= _QUIET:
                self._warnings.append(Warned(self._start, number))
                self._start = None

    def warnings(self) -> list[Warned]:
        """The warnings of the whole series."""
        is_open = [] if self._start is None else [Warned(self._start, self._service.bins)]
        return [*self._warnings, *is_open]


class ThreeSigma(_Conditional):
    """The value is above the mean of the last day plus three standard deviations."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._values: deque[float] = deque(maxlen=DAY)
        self._sum = self._squares = 0.0

    def holds(self, value: float) -> bool:
        """Whether the condition is true at `value`, and take it."""
        count = len(self._values)
        mean = self._sum / count if count else 0.0
        deviation = sqrt(max(0.0, self._squares / count - mean * mean)) if count else 0.0
        is_true = count >= DAY // 2 and value > mean + 3 * deviation
        if count == DAY:
            oldest = self._values[0]
            self._sum -= oldest
            self._squares -= oldest * oldest
        self._values.append(value)
        self._sum += value
        self._squares += value * value
        return is_true


class Cusum(_Conditional):
    """The one-sided cumulative sum of the logarithms (k = 0.5, h = 5 standard deviations of the last seven days)."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._values: deque[float] = deque(maxlen=WEEK)
        self._sum = self._squares = self._high = 0.0

    def holds(self, value: float) -> bool:
        """Whether the condition is true at `value`, and take it."""
        value = log(value)
        count = len(self._values)
        if count >= DAY:
            mean = self._sum / count
            deviation = sqrt(max(1e-9, self._squares / count - mean * mean))
            self._high = max(0.0, self._high + (value - mean) / deviation - 0.5)
        is_true = self._high > 5
        if is_true:
            self._high = 0.0
        if count == WEEK:
            oldest = self._values[0]
            self._sum -= oldest
            self._squares -= oldest * oldest
        self._values.append(value)
        self._sum += value
        self._squares += value * value
        return is_true


class PredictLinear(_Conditional):
    """Prometheus: predict_linear(value[1h], 4h) > limit."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._values: deque[float] = deque(maxlen=12)

    def holds(self, value: float) -> bool:
        """Whether the condition is true at `value`, and take it."""
        self._values.append(value)
        count = len(self._values)
        if count < 12:
            return False
        middle = (count - 1) / 2
        mean = sum(self._values) / count
        slope = sum((at - middle) * one for at, one in enumerate(self._values)) / 143
        return mean + slope * (count - 1 - middle + _PREDICT) > self._service.limit


class AtRandom(_Conditional):
    """Warnings at random moments, as many as the gateway gives without ramps, which last for four hours each."""

    def __init__(self, service: Service, a_week: float) -> None:
        super().__init__(service)
        self._chance = random.Random(f"at random {service.traffic} {service.limit}")
        self._rate = a_week / WEEK
        self._left = 0

    def holds(self, _: float) -> bool:
        """Whether the condition is true at `value`, and take it."""
        if self._left:
            self._left -= 1
        elif self._chance.random() < self._rate:
            self._left = _PREDICT
        return self._left > 0


RIVALS: Final[Mapping[str, Callable[[Service], Method]]] = {
    "mean + 3σ": ThreeSigma,
    "CUSUM": Cusum,
    "predict_linear": PredictLinear,
}
"""What is compared, by name, beside random warnings."""
OURS: Final = "early warning"
