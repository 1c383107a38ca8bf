"""Compares the detector with one that also warns at 70 % of the way, on levels that are reached without a trend.

    python -m bench.early_warning.levels

A signal goes to a part of the way to its limit, at once or within days, and stays there for a day. All of this runs on
the design seeds. It takes some minutes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from bench.early_warning import parameters as p
from bench.early_warning.evaluation import caught, of_calm, of_ramp, rate, reached_at, run
from bench.early_warning.methods import Ours
from bench.early_warning.simulation import DAY, WEEK, Ramp, Service, with_ramp, without_ramp
from tentaculo.insight.detector import Detector
from tentaculo.insight.watches import LatencyWatch

RULE: Final = 0.7
"""Part of the way at which the rule warns, whatever else is measured."""
_HOURS: Final = (0, 24, 72)
_HEIGHTS: Final = (0.6, 0.7, 0.75, 0.8, 0.9)
_SERVICES, _WEEKS, _RAMPS = 60, 120, 20
_LEVELS_SEED, _SEEDS = 101, (1, 102)


class Level(Ramp):
    """A level: `hours` are those until it is reached, and `shape` is the part of the way to the limit."""

    def way(self, number: float, limit: float) -> float:
        """The part of the way at a bin; the limit does not matter."""
        done = 1.0 if not self.hours else min(1.0, (number - self.start) / (self.hours * 12))
        return float(self.shape) * done if number >= self.start else 0.0


class _AtLevel(Detector):
    """Warns at `RULE`, too."""

    def _weigh(self, level: float) -> float:
        is_there = level >= self._usual + RULE * (self._limit - self._usual)
        return 2 * self._rules.enough if is_there else super()._weigh(level)


def with_rule(service: Service) -> Ours:
    """The gateway's method with the rule."""
    watch = LatencyWatch(service.limit)
    watch.detectors = {name: _AtLevel(service.limit, is_logarithmic=True) for name in watch.detectors}
    return Ours(service, watch=watch)


def _warned(make: Callable[[Service], Ours], hours: int, height: float) -> int:
    found = 0
    for number in range(_SERVICES):
        start = WEEK + random.Random(f"{number}").randrange(DAY)
        level = Level(hours, str(height), start)
        service = Service(f"{_LEVELS_SEED} level {hours} {number}", start + hours * 12 + DAY, level)
        found += any(one.end > start for one in run(make(service), list(service.latencies())))
    return found


def main() -> None:
    """Print all figures."""
    for title, make in (("the gateway's", Ours), (f"with a rule at {RULE:.0%} of the way", with_rule)):
        print(title)
        for hours in _HOURS:
            shares = (f"{height:.0%}: {_warned(make, hours, height)}" for height in _HEIGHTS)
            print(f"  warned of {_SERVICES} levels, reached in {hours} h: {', '.join(shares)}", flush=True)
        for seed in _SEEDS:
            calm = [without_ramp(seed, number) for number in range(_WEEKS)]
            false = rate(of_calm(run(make(one), list(one.latencies())), one) for one in calm)
            ramps = [
                with_ramp(seed, number, hours, shape)
                for hours in p.RAMP_HOURS
                if hours >= p.BAR_HOURS
                for shape in p.SHAPES
                for number in range(_RAMPS)
            ]
            series = ((one, list(one.latencies())) for one in ramps)
            found, of = caught(of_ramp(run(make(one), values), one, reached_at(one, values)) for one, values in series)
            print(f"  seed {seed}: {found} of {of} ramps, {false:.2f} false warnings a service-week", flush=True)


if __name__ == "__main__":
    main()
