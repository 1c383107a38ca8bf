"""Warns about the signals of a service: the p95 of its latency where there are enough requests, its median, its gauges. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tentaculo.insight.detector import Detector, Outcome, Thresholds
from tentaculo.model.early_warning import BinLatency, is_lower_limit

ENOUGH: Final = 40
"""Latencies in a bin from which on its p95 says something: 8 a minute. With 100, services with fewer at night would not be
seen for hours, and seven in a hundred ramps of the simulation more were missed."""


class LatencyWatch:
    """Two detectors with one limit, so that traffic that comes and goes is no change of the signal.

    While the p95 has a warning, the median opens none. `limit` is in seconds.
    """

    def __init__(self, limit: float, thresholds: Thresholds | None = None) -> None:
        self.detectors: dict[str, Detector] = {
            "p95": Detector(limit, is_logarithmic=True, thresholds=thresholds),
            "median": Detector(limit, is_logarithmic=True, thresholds=thresholds),
        }

    def __repr__(self) -> str:
        return f"<LatencyWatch: {self.detectors}>"

    def warm_up(self, hour: int, latency: BinLatency) -> None:
        """Take over the latencies of one hour before the first bin, as `Detector.warm_up`."""
        self.detectors["median"].warm_up(hour, latency.median)
        if latency.samples >= ENOUGH:
            self.detectors["p95"].warm_up(hour, latency.p95)

    def add(self, number: int, latency: BinLatency | None) -> None:
        """Take the latencies of the bin `number`; None where there are none."""
        self.detectors["median"].add(number, latency.median if latency else None)
        self.detectors["p95"].add(number, latency.p95 if latency and latency.samples >= ENOUGH else None)

    def evaluate(self) -> list[tuple[str, Outcome]]:
        """What became of each of the two warnings, as `Detector.evaluate`."""
        p95, middle = self.detectors["p95"], self.detectors["median"]
        found: list[tuple[str, Outcome | None]] = [("p95", p95.evaluate())]
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
