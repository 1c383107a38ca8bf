"""Fits the six weights of the detector on the training seeds, and prints them with what they catch.

    python -m bench.early_warning.fit [--weeks N] [--ramps N] [--from-scratch]

1. Services of the seeds in `TRAINING` are simulated once, and what the detectors measure in them is kept.
2. The weights are varied, one after another, by smaller and smaller steps, as long as `score` rises. The sum that opens a
   warning stays the same, since only its ratio to the weights matters.
3. What was found is compared with the weights of the gateway on the services of `CHECK`, which the fit has not seen.

None of these seeds is that of the evaluation. The evaluation of `make eval` says how good the weights are; this does not.
"""

from __future__ import annotations

import argparse
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import exp, inf, nan
from typing import Any, Final, NamedTuple

from bench.early_warning import parameters as p
from bench.early_warning.evaluation import Series, caught, of_calm, of_ramp, rate, reached_at, run
from bench.early_warning.methods import Ours, Warned
from bench.early_warning.simulation import Service, with_ramp, without_ramp
from tentaculo.insight.detector import BINS_AN_HOUR, NEAR, Detector, Forecast, Outcome, Rule, Thresholds
from tentaculo.insight.measures import Measures
from tentaculo.insight.watches import LatencyWatch
from tentaculo.model.early_warning import BinLatency

TRAINING: Final = (1, 2, 101)
CHECK: Final = 102
WEEKS: Final = 100
"""Service-weeks without ramps, of each seed."""
RAMPS: Final = 12
"""Ramps of each length and shape, of each seed."""
NAMES: Final = Measures._fields
TARGET: Final = 0.42
"""False warnings a service-week that cost little: less than the bar, which other seeds are to keep too."""
_COST, _SMALL_COST = 2.0, 0.02
"""Parts of the ramps that one false warning a service-week costs, above the target and in any case."""
_STEPS: Final = (0.2, 0.1, 0.05, 0.02)
_SCRATCH: Final[dict[str, Any]] = dict.fromkeys(NAMES, 0.4)
"""Each weight at the beginning of a fit from scratch."""


class Seen(NamedTuple):
    """What a detector measures at the end of one bin in which the level is near enough for a warning, or at its limit."""

    usual: float
    is_near: bool
    """Whether a warning may open, if none of before forbids it."""
    measures: Measures | None
    """None at the limit."""


@dataclass(slots=True)
class Signal:
    """All that a detector sees of one signal."""

    levels: array[float] = field(default_factory=lambda: array("d"))
    seen: dict[int, Seen] = field(default_factory=dict)


class _Recorder(Detector):
    """Keeps what it measures, and never warns."""

    def __init__(self, limit: float, signal: Signal) -> None:
        super().__init__(limit, is_logarithmic=True, thresholds=Thresholds(enough=inf))
        self._signal = signal

    def evaluate(self) -> Outcome | None:
        level, number = self._level(), self._number
        assert number is not None
        if level >= self._limit:
            self._above = number
        self._signal.levels.append(level)
        distance = self._limit - self._usual
        if distance > 0 and level >= self._usual + NEAR * distance:
            measures = self._measure(level) if level < self._limit else None
            self._signal.seen[number] = Seen(self._usual, self._is_near(level), measures)
        return None


class _Replay(Detector):
    """Decides as the detector does, by other thresholds, on what was measured."""

    def __init__(self, limit: float, signal: Signal, thresholds: Thresholds) -> None:
        super().__init__(limit, is_logarithmic=True, thresholds=thresholds)
        self._signal = signal
        self._seen: Seen | None = None

    def add(self, number: int, value: float | None) -> None:
        self._number = number
        self._seen = self._signal.seen.get(number)
        self._usual = nan if self._seen is None else self._seen.usual
        if self.open is not None and number > self.open.number:
            self._quiet += 1
        if self._unfollowed_hour <= (number + 1) // BINS_AN_HOUR - 1 - self._rules.memory:
            self._unfollowed = -inf

    def is_idle(self, number: int) -> bool:
        """Whether nothing can come of this bin."""
        return self.open is None and number not in self._signal.seen

    def _level(self) -> float:
        assert self._number is not None
        return self._signal.levels[self._number]

    def _is_near(self, level: float) -> bool:
        seen = self._seen
        least = self._unfollowed + self._rules.margin * (self._limit - self._usual)
        return seen is not None and seen.is_near and level >= least

    def _measure(self, level: float) -> Measures:
        assert self._seen is not None
        assert self._seen.measures is not None
        return self._seen.measures

    def _forecast(self, level: float) -> Forecast:
        assert self._number is not None
        return Forecast(Rule.LEVEL, self._number, exp(level), exp(self._usual), exp(self._limit), self._number)


class _RecordedWatch(LatencyWatch):
    """A watch whose detectors record."""

    def __init__(self, limit: float) -> None:
        super().__init__(limit)
        self.signals = {statistic: Signal() for statistic in self.detectors}
        self.detectors = {statistic: _Recorder(limit, signal) for statistic, signal in self.signals.items()}
        self.rare: list[bool] = []

    def evaluate(self) -> list[tuple[str, Outcome]]:
        for detector in self.detectors.values():
            detector.evaluate()
        self.rare.append(self._spread.is_rare)
        return []


class _ReplayedWatch(LatencyWatch):
    """A watch whose detectors replay."""

    def __init__(self, recorded: _RecordedWatch, limit: float, thresholds: Thresholds) -> None:
        super().__init__(limit)
        self._rare = recorded.rare
        self._replays = {name: _Replay(limit, signal, thresholds) for name, signal in recorded.signals.items()}
        self.detectors = {**self._replays}

    def add(self, number: int, latency: BinLatency | None) -> None:
        self._spread.is_rare = self._rare[number]
        for detector in self._replays.values():
            detector.add(number, None)

    def is_idle(self, number: int) -> bool:
        """Whether nothing can come of this bin."""
        return all(detector.is_idle(number) for detector in self._replays.values())


class Recorded:
    """One simulated service, and what its detectors measured."""

    def __init__(self, service: Service, series: Series) -> None:
        self.service = service
        self._watch = _RecordedWatch(service.limit)
        run(Ours(service, watch=self._watch), series)
        self.reached = reached_at(service, series) if service.ramp is not None else inf

    def warnings(self, thresholds: Thresholds) -> list[Warned]:
        """The warnings that these thresholds give."""
        watch = _ReplayedWatch(self._watch, self.service.limit, thresholds)
        ours = Ours(self.service, watch=watch)
        for number in range(len(self._watch.rare)):
            if not watch.is_idle(number):
                ours.add(number, None)
        return ours.warnings()


class Figures(NamedTuple):
    """What thresholds give."""

    share: float
    """Part of the ramps of the bar's length and longer that were warned of in time."""
    false: float
    """False warnings a service-week."""


@dataclass(slots=True)
class Sample:
    """Recorded services with and without ramps."""

    ramps: Sequence[Recorded]
    calm: Sequence[Recorded]

    def figures(self, thresholds: Thresholds) -> Figures:
        """Count."""
        results = (of_ramp(one.warnings(thresholds), one.service, one.reached) for one in self.ramps)
        found, of = caught(results)
        calm = (of_calm(one.warnings(thresholds), one.service) for one in self.calm)
        return Figures(found / of, rate(calm))


def sample(seeds: Sequence[int], weeks: int, ramps: int) -> Sample:
    """Simulate and record the services of all seeds."""
    hours = [one for one in p.RAMP_HOURS if one >= p.BAR_HOURS]
    cases = [
        (seed, number, long, shape) for seed in seeds for long in hours for shape in p.SHAPES for number in range(ramps)
    ]
    calm = [(seed, number) for seed in seeds for number in range(weeks)]
    return Sample([_recorded(with_ramp(*case)) for case in cases], [_recorded(without_ramp(*case)) for case in calm])


def _recorded(service: Service) -> Recorded:
    return Recorded(service, list(service.latencies()))


def score(figures: Figures) -> float:
    """What the fit makes as great as it can."""
    return figures.share - _COST * max(0.0, figures.false - TARGET) - _SMALL_COST * figures.false


def fit(objective: Callable[[Thresholds], float], start: Thresholds) -> Thresholds:
    """Vary one weight after another, by smaller and smaller steps, as long as the objective rises."""
    best, most = start, objective(start)
    for step in _STEPS:
        has_improved = True
        while has_improved:
            has_improved = False
            for name in NAMES:
                for change in (step, -step):
                    tried = replace(best, **{name: max(0.0, round(getattr(best, name) + change, 3))})
                    found = objective(tried)
                    if found > most:
                        best, most, has_improved = tried, found, True
                        print(f"{found:.4f}  {shown(best)}", file=sys.stderr, flush=True)
                        break
    return best


def shown(thresholds: Thresholds) -> str:
    """The weights."""
    return ", ".join(f"{name} {getattr(thresholds, name):g}" for name in NAMES)


def main(argv: Sequence[str] | None = None) -> None:
    """Fit, check and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.early_warning.fit", description=__doc__)
    parser.add_argument("--weeks", type=int, default=WEEKS, help="service-weeks without ramps, of each seed")
    parser.add_argument("--ramps", type=int, default=RAMPS, help="ramps of each length and shape, of each seed")
    parser.add_argument("--from-scratch", action="store_true", help="begin with equal weights, not with the gateway's")
    options = parser.parse_args(argv)
    known = Thresholds()
    training = sample(TRAINING, options.weeks, options.ramps)
    start = replace(known, **_SCRATCH) if options.from_scratch else known
    found = fit(lambda tried: score(training.figures(tried)), start)
    check = sample((CHECK,), options.weeks, options.ramps)
    for title, thresholds in (("the gateway's", known), ("fitted", found)):
        print(f"{title}: {shown(thresholds)}")
        for name, one in (("training", training), ("check", check)):
            figures = one.figures(thresholds)
            print(f"  {name}: {figures.share:.1%} caught, {figures.false:.2f} false warnings a service-week")


if __name__ == "__main__":
    main()
