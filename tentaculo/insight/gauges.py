"""Collects the numbers of health responses until their bin is complete. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from statistics import median
from typing import Final

from tentaculo.insight.detector import BIN
from tentaculo.insight.measures import KEPT
from tentaculo.model.early_warning import GaugeValue, is_lower_limit
from tentaculo.model.health import Endpoint, ProbeResult

_MOST_VALUES: Final = 300
"""Values of one endpoint that are kept of one bin: one a second."""


class GaugeCollector:
    """The numbers of the health responses, by bin, until they are stored."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, int], dict[Endpoint, array[float]]] = {}

    def __repr__(self) -> str:
        return f"<GaugeCollector: {len(self._values)} values>"

    def add(self, result: ProbeResult) -> None:
        """Take the numbers of one response."""
        number = int(result.checked_at.timestamp()) // BIN
        for signal, value in result.gauges:
            by_endpoint = self._values.setdefault((result.upstream.service, signal, number), {})
            values = by_endpoint.setdefault(result.upstream, array("d"))
            if len(values) < _MOST_VALUES:
                values.append(value)

    def complete(self, last: int) -> list[GaugeValue]:
        """The values of the bins up to `last`: the median of each endpoint, and of those the one nearest to the limit.

        They stay until `forget`. Those of more than four hours ago, and of bins that the clock has not reached, are lost.
        """
        for key in [key for key in self._values if not last - KEPT < key[2] <= last + 2]:
            del self._values[key]
        found = list[GaugeValue]()
        for (service, signal, number), by_endpoint in self._values.items():
            if number <= last:
                nearest = min if is_lower_limit(signal) else max
                found.append(GaugeValue(service, signal, number * BIN, nearest(map(median, by_endpoint.values()))))
        return found

    def forget(self, stored: Sequence[GaugeValue]) -> None:
        """Forget what was stored."""
        for one in stored:
            self._values.pop((one.service, one.signal, one.start // BIN), None)
