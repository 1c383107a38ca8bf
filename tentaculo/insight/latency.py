"""Warns about the latency of a service: its p95 where there are enough requests, and its median. Pure."""

from __future__ import annotations

from typing import Final, Literal

from tentaculo.insight.detector import Detector, Outcome, Thresholds
from tentaculo.model.early_warning import BinLatency

ENOUGH: Final = 40
"""Latencies in a bin from which on its p95 says something: 8 a minute. With 100, services with fewer at night would not be
seen for hours, and seven in a hundred ramps of the simulation more were missed."""

Statistic = Literal["p95", "median"]


class LatencyWatch:
    """Two detectors with one limit, so that traffic that comes and goes is no change of the signal.

    While the p95 has a warning, the median opens none. `limit` is in seconds.
    """

    def __init__(self, limit: float, thresholds: Thresholds | None = None) -> None:
        self.detectors: dict[Statistic, Detector] = {
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

    def evaluate(self) -> list[tuple[Statistic, Outcome]]:
        """What became of each of the two warnings, as `Detector.evaluate`."""
        p95, middle = self.detectors["p95"], self.detectors["median"]
        found: list[tuple[Statistic, Outcome | None]] = [("p95", p95.evaluate())]
        if p95.open is None or middle.open is not None:
            found.append(("median", middle.evaluate()))
        return [(statistic, outcome) for statistic, outcome in found if outcome is not None]
