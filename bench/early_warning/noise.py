"""Noise of a latency, drawn from the traces that were recorded from a gateway."""

from __future__ import annotations

import json
import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cache
from math import ceil, log
from pathlib import Path
from statistics import median, pstdev
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parent / "traces"
_SECOND: Final = 40
"""Latencies of one second of a trace. What a simulated service gets in one second is drawn from one of these, so that slow
ones come together as they did."""
_BIN: Final = 300
_COUNTS: Final = (1, 2, 3, 5, 8, 13, 25, 50, 100, 200, 400, 1000, 2500)
_DRAWN: Final = 300
"""Bins drawn for each number of latencies."""


class Noise(NamedTuple):
    """The median and the p95 of one bin, in units of the trace's own."""

    median: float
    p95: float


class Trace:
    """One recorded trace, and the bins that were drawn from it."""

    def __init__(self, name: str, latencies: Sequence[float]) -> None:
        self.name = name
        ordered = sorted(latencies)
        self._latencies = latencies
        self.usual = Noise(median(ordered), p95_of(ordered))
        self._pools: dict[int, list[Noise]] = {}

    def __repr__(self) -> str:
        return f"<Trace {self.name} of {len(self._latencies)}>"

    def pool(self, count: int) -> list[Noise]:
        """Bins of about `count` latencies."""
        known = _COUNTS[max(0, bisect_right(_COUNTS, count) - 1)]
        if known not in self._pools:
            chance = random.Random(f"{self.name} {known}")
            self._pools[known] = [self._draw(known, chance) for _ in range(_DRAWN)]
        return self._pools[known]

    def deviation(self, count: int, *, is_p95: bool) -> float:
        """The standard deviation of the logarithm of a bin's value."""
        return pstdev(log(one.p95 if is_p95 else one.median) for one in self.pool(count))

    def _draw(self, count: int, chance: random.Random) -> Noise:
        drawn: list[float] = []
        together = max(1, count // _BIN)
        while len(drawn) < count:
            start = chance.randrange(len(self._latencies) - _SECOND)
            second = self._latencies[start : start + _SECOND]
            drawn += chance.sample(second, min(together, count - len(drawn)))
        drawn.sort()
        return Noise(median(drawn) / self.usual.median, p95_of(drawn) / self.usual.p95)


def p95_of(ordered: Sequence[float]) -> float:
    """By nearest rank, as the gateway's history has it."""
    return ordered[ceil(0.95 * len(ordered)) - 1]


@cache
def traces() -> Mapping[str, Trace]:
    """The recorded traces by name."""
    return {file.stem: Trace(file.stem, json.loads(file.read_text())) for file in sorted(FOLDER.glob("*.json"))}
