"""Ours against the better of the peers, number by number and row by row. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from math import isinf

from bench.faults.catalogue import METRICS, Metric, Row
from bench.stats import Spread

Numbers = Mapping[str, Mapping[str, Spread]]
"""Peer → metric → what it was over the rounds."""


class Verdict(Enum):
    """How ours did."""

    BETTER = "better"
    EQUAL = "as good"
    WORSE = "worse"


def compare(metric: Metric, ours: float, best: float) -> Verdict:
    """One number, of which less is better, with the metric's slack."""
    if ours == best:
        return Verdict.EQUAL
    slack = max(metric.slack, 0.1 * min(ours, best))
    if ours < best - slack:
        return Verdict.BETTER
    return Verdict.WORSE if ours > best + slack else Verdict.EQUAL


def judge(row: Row, numbers: Numbers, ours: str, peers: Sequence[str]) -> dict[str, Verdict]:
    """Each metric that compares in this row, against whichever of `peers` did best in it."""
    found: dict[str, Verdict] = {}
    for metric in METRICS:
        theirs = [
            numbers[peer][metric.key].median
            for peer in peers
            if metric.key in numbers.get(peer, {}) and not (metric.key == "recovered" and _kept(row, numbers[peer]))
        ]
        if metric.compares(row) and theirs and metric.key in numbers.get(ours, {}):
            found[metric.key] = compare(metric, numbers[ours][metric.key].median, min(theirs))
    return found


def _kept(row: Row, found: Mapping[str, Spread]) -> bool:
    """Whether a proxy mostly left the broken one of several in use: what it took back now and then says nothing."""
    return row.replicas > 1 and "detected" in found and isinf(found["detected"].median)


def overall(verdicts: Mapping[str, Verdict]) -> Verdict:
    """A row: worse where any number is, else better where any is."""
    found = set(verdicts.values())
    return next(
        verdict for verdict in (Verdict.WORSE, Verdict.BETTER, Verdict.EQUAL) if verdict in found | {Verdict.EQUAL}
    )
