"""The server series of the Numenta Anomaly Benchmark, where somebody gives their folder.

They have no limits, so that each series gets one before it is looked at: from its first 15 %, which the benchmark calls
the probationary period, the median plus twice the way from the median to the maximum. The labels are not used.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tentaculo.insight.detector import BIN, Detector, Outcome

FOLDERS = ("realAWSCloudwatch", "realKnownCause")
PROBATION = 0.15
_PAUSE = 48
"""Bins below the limit after which the limit is reached again."""
_WEEK = 2016


class SeriesResult(NamedTuple):
    """What became of one series."""

    name: str
    weeks: float
    """Without the probationary period."""
    reached: int
    """How often its limit was reached."""
    warned: int
    """How often of that a warning was open ten minutes before."""
    right: int
    """Warnings that were followed by the limit."""
    wrong: int
    """Warnings that were withdrawn."""


def evaluate(folder: Path) -> list[SeriesResult]:
    """The results of each server series below `folder`, the checkout of the benchmark or its `data`."""
    data = folder / "data" if (folder / "data").is_dir() else folder
    files = sorted(file for name in FOLDERS for file in (data / name).glob("*.csv"))
    return [result for file in files if (result := _evaluate(file)) is not None]


def _evaluate(file: Path) -> SeriesResult | None:
    bins = list(_read(file))
    probation = [value for _, value in bins[: int(len(bins) * PROBATION)]]
    middle = median(probation)
    limit = middle + 2 * (max(probation) - middle)
    if limit <= middle:
        return None
    detector = Detector(limit, is_logarithmic=False)
    reached = warned = right = wrong = 0
    opened: list[int] = []
    since_limit = _PAUSE
    for place, (number, value) in enumerate(bins):
        before = detector.open is not None and bool(opened) and opened[-1] <= number - 2
        detector.add(number, value)
        if place < len(probation):
            detector.evaluate()
            continue
        if value >= limit and since_limit >= _PAUSE:
            reached += 1
            warned += before
        since_limit = 0 if value >= limit else since_limit + 1
        outcome = detector.evaluate()
        if outcome is Outcome.OPEN:
            opened.append(number)
        right += outcome is Outcome.REACHED
        wrong += outcome is Outcome.ENDED
    return SeriesResult(file.stem, (len(bins) - len(probation)) / _WEEK, reached, warned, right, wrong)


def _read(file: Path) -> Iterator[tuple[int, float]]:
    """The number and the value of each bin."""
    last = 0
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            moment = datetime.fromisoformat(row["timestamp"] + "+00:00")
            number = int(moment.timestamp()) // BIN
            if number > last:
                last = number
                yield number, float(row["value"])
