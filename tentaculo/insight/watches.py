"""Warns about the signals of a service: the p95 of its latency where there are enough requests, its median, its gauges. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import exp, log
from statistics import median
from typing import Final

from tentaculo.insight.detector import BINS_AN_HOUR, HOURS, Detector, Outcome, Thresholds
from tentaculo.model.early_warning import BinLatency, is_lower_limit

ENOUGH: Final = 40
"""Latencies in a bin from which on its p95 says something: 8 a minute."""


RARE: Final = 0.04
"""Least share of the hours in which a service must have enough latencies for a warning of its p95."""
_LEAST: Final = 3
"""Hours, and bins of an hour, of which a median says something."""


class _Spread:
    """How far the p95 of a service usually is above its median, by the hours of the last seven days. In logarithms."""

    __slots__ = ("_bins", "_hour", "_hours", "_known", "is_rare", "usual")

    def __init__(self) -> None:
        self._hours: deque[tuple[int, float | None]] = deque()
        """Each hour with a median, and its spread where it had enough latencies."""
        self._hour = 0
        self._bins: list[float] = []
        self._known = 0
        self.usual: float | None = None
        self.is_rare = True

    def __repr__(self) -> str:
        return f"<_Spread: {self.usual} in {len(self._hours)} hours>"

    def add(self, number: int, latency: BinLatency | None) -> None:
        """Take the latencies of a bin."""
        hour = number // BINS_AN_HOUR
        if hour != self._hour:
            if self._known >= _LEAST and hour > self._hour:
                self.take_hour(self._hour, median(self._bins) if len(self._bins) >= _LEAST else None)
            self._hour, self._known = hour, 0
            self._bins.clear()
        if latency is not None and latency.median > 0:
            self._known += 1
            if latency.samples >= ENOUGH:
                self._bins.append(log(latency.p95 / latency.median))

    def take_hour(self, hour: int, spread: float | None) -> None:
        """Take an hour with a median. `spread` is None where too few latencies say what its p95 was."""
        hours = self._hours
        while hours and hours[-1][0] >= hour:
            # The clock was set back.
            hours.pop()
        hours.append((hour, spread))
        while hours[0][0] <= hour - HOURS:
            hours.popleft()
        found = [one for _, one in hours if one is not None]
        self.usual = median(found) if len(found) >= _LEAST else None
        self.is_rare = len(found) < RARE * len(hours)


class LatencyWatch:
    """Two detectors with one limit: of the p95, and of the median, whose way to the limit is longer.

    In a bin with few latencies, as at night, the p95 is taken to be as far above the median as it usually is. So traffic
    that comes and goes is no change of the signal, and no gap either. A service that hardly ever has enough latencies is
    watched by its median. While the p95 has a warning, the median opens none. `limit` is in seconds.
    """

    def __init__(self, limit: float, thresholds: Thresholds | None = None) -> None:
        self.detectors: dict[str, Detector] = {
            "p95": Detector(limit, is_logarithmic=True, thresholds=thresholds),
            "median": Detector(limit, is_logarithmic=True, thresholds=thresholds),
        }
        self._spread = _Spread()

    def __repr__(self) -> str:
        return f"<LatencyWatch: {self.detectors}>"

    def warm_up(self, hour: int, latency: BinLatency) -> None:
        """Take over the latencies of one hour before the first bin, as `Detector.warm_up`."""
        self.detectors["median"].warm_up(hour, latency.median)
        if latency.samples >= ENOUGH:
            self.detectors["p95"].warm_up(hour, latency.p95)
        if latency.median > 0:
            is_enough = latency.samples >= ENOUGH * BINS_AN_HOUR
            self._spread.take_hour(hour, log(latency.p95 / latency.median) if is_enough else None)

    def add(self, number: int, latency: BinLatency | None) -> None:
        """Take the latencies of the bin `number`; None where there are none."""
        self._spread.add(number, latency)
        self.detectors["median"].add(number, latency.median if latency else None)
        self.detectors["p95"].add(number, self._p95(latency) if latency else None)

    def _p95(self, latency: BinLatency) -> float | None:
        if latency.samples >= ENOUGH:
            return latency.p95
        return None if self._spread.usual is None else latency.median * exp(self._spread.usual)

    def evaluate(self) -> list[tuple[str, Outcome]]:
        """What became of each of the two warnings, as `Detector.evaluate`."""
        p95, middle = self.detectors["p95"], self.detectors["median"]
        found: list[tuple[str, Outcome | None]] = []
        if p95.open is not None or not self._spread.is_rare:
            found.append(("p95", p95.evaluate()))
        if p95.open is None or middle.open is not None:
            found.append(("median", middle.evaluate()))
        return [(statistic, outcome) for statistic, outcome in found if outcome is not None]


class GaugeWatch:
    """A detector for each number in the health responses that has a bound; `limits` are the bounds by signal."""

    def __init__(self, limits: Mapping[str, float]) -> None:
        self.detectors = {
            signal: Detector(limit, is_logarithmic=False, rises=not is_lower_limit(signal))
            for signal, limit in limits.items()
        }

    def __repr__(self) -> str:
        return f"<GaugeWatch: {self.detectors}>"

    def warm_up(self, hour: int, signal: str, usual: float) -> None:
        """Take over the usual value of one hour before the first bin, as `Detector.warm_up`."""
        self.detectors[signal].warm_up(hour, usual)

    def add(self, number: int, values: Mapping[str, float]) -> None:
        """Take the values of the bin `number`, as far as there are any."""
        for signal, detector in self.detectors.items():
            detector.add(number, values.get(signal))

    def evaluate(self) -> list[tuple[str, Outcome]]:
        """What became of each warning, by signal, as `Detector.evaluate`."""
        found = ((signal, detector.evaluate()) for signal, detector in self.detectors.items())
        return [(signal, outcome) for signal, outcome in found if outcome is not None]
