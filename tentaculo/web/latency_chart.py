"""The chart of one service: percentiles of its latency on a logarithmic scale, and its requests below. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from tentaculo.model.history import Period
from tentaculo.web.languages import Language
from tentaculo.web.timeline import Axis, number

HEIGHT: Final = 160
"""Height of the canvas of the latencies; its width is that of the axis."""
COUNTS: Final = 40
"""Height of the canvas of the requests."""
_PARTS: Final = {"p50": 0.5, "p99": 0.99, "p95": 0.95}
"""The last one is drawn over the others."""


class GridLine(NamedTuple):
    """A latency that is marked on the scale."""

    y: str
    text: str


@dataclass(frozen=True, slots=True)
class LatencyChart:
    """The shapes of the chart, as paths of SVG, and what it shows in words."""

    lines: dict[str, str]
    """By `p50`, `p99` and `p95`."""
    grid: list[GridLine]
    requests: str
    failed: str
    text: str


def latency_chart(axis: Axis, span: int, periods: Sequence[Period], t: Language) -> LatencyChart:
    """The chart of `periods`: of requests, and of probes in periods that had none."""
    tallies = {one.start: one.requests if one.requests.ok else one.probes for one in periods}
    found = {start: tally.latency.percentiles(*_PARTS.values()) for start, tally in tallies.items()}
    measured = {start: [value for value in values if value is not None] for start, values in found.items()}
    known = [value for values in measured.values() for value in values]
    low, high = _scale(known)
    lines = {
        name: _line(axis, span, {start: values[place] for start, values in measured.items() if values}, low, high)
        for place, name in enumerate(_PARTS)
    }
    most = max((one.requests.ok + one.requests.failed for one in periods), default=0)
    return LatencyChart(
        lines,
        [GridLine(number(_height(value, low, high)), t.latency(value)) for value in _marks(low, high)] if known else [],
        _columns(axis, span, [(one.start, one.requests.ok + one.requests.failed) for one in periods], most),
        _columns(axis, span, [(one.start, one.requests.failed) for one in periods], most),
        _words(max((values[-1] for values in measured.values() if values), default=None), periods, t),
    )


def _scale(known: Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest latency of the scale: a factor of four at least, so that a ripple is no wave."""
    if not known:
        return 0.001, 1.0
    low, high = min(known), max(known)
    middle = math.sqrt(low * high)
    return min(low, middle / 2) * 0.9, max(high, middle * 2) * 1.1


def _height(seconds: float, low: float, high: float) -> float:
    return HEIGHT * (1 - math.log(seconds / low) / math.log(high / low))


def _marks(low: float, high: float) -> list[float]:
    """Round latencies within the scale: powers of ten, and where only one fits, also their halves and fifths."""
    powers = [10.0**power for power in range(-7, 5)]
    for factors in ((1,), (1, 5), (1, 2, 5)):
        marks = sorted(power * factor for power in powers for factor in factors)
        # One on the edge would be drawn half outside.
        found = [mark for mark in marks if 1 < _height(mark, low, high) < HEIGHT - 1]
        if len(found) >= 2:
            return found
    return found


def _line(axis: Axis, span: int, points: dict[int, float], low: float, high: float) -> str:
    path, last = [], None
    for start in sorted(points):
        x = number(axis.place(datetime.fromtimestamp(start + span / 2, UTC)))
        is_next = last is not None and start - last == span
        path.append(f"{'L' if is_next else 'M'}{x} {number(_height(points[start], low, high))}h0")
        last = start
    return "".join(path)


def _columns(axis: Axis, span: int, counts: Sequence[tuple[int, int]], most: int) -> str:
    """One column for each period with a count, the greatest at full height."""
    path = []
    for start, count in counts:
        if count:
            left, right = (axis.place(datetime.fromtimestamp(at, UTC)) for at in (start, start + span))
            height = max(1.0, COUNTS * count / most)
            path.append(
                f"M{number(left)} {COUNTS}v-{number(height)}h{number(max(right - left - 0.5, 0.5))}v{number(height)}z"
            )
    return "".join(path)


def _words(slowest: float | None, periods: Sequence[Period], t: Language) -> str:
    total = sum(one.requests.ok + one.requests.failed for one in periods)
    failed = sum(one.requests.failed for one in periods)
    known = t("chart.no_latency") if slowest is None else t("chart.slowest", latency=t.latency(slowest))
    counted = t("common.of_them_failed", counted=t("common.requests", count=total), count=failed)
    return t("chart.counts", latencies=known, counted=counted)
