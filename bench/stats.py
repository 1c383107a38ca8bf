"""Numbers of several rounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """What a value was over the rounds."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """None where there are no values."""
        found = sorted(values)
        return cls(median(found), found[0], found[-1], len(found)) if found else None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` percent of them do not exceed (nearest rank)."""
    if not values:
        raise ValueError("no values")
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * share / 100) - 1)]


def ratios(values: dict[int, float], of: dict[int, float]) -> Spread | None:
    """`values` by `of`, round by round: only what was measured in the same round is compared."""
    return Spread.of(values[number] / of[number] for number in sorted(values.keys() & of.keys()) if of[number] > 0)
