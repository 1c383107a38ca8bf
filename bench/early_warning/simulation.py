"""Simulated services: the latency of each five minutes, with and without a ramp to the limit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, exp, log, pi
from typing import NamedTuple

from bench.early_warning import parameters as p
from bench.early_warning.noise import Trace, traces
from tentaculo.insight.watches import ENOUGH
from tentaculo.model.early_warning import BinLatency

DAY = 288
"""Bins of a day."""
WEEK = 7 * DAY
_MINUTES = 5


class Ramp(NamedTuple):
    """A rise to the limit."""

    hours: float
    shape: str
    start: int
    """Its first bin."""

    @property
    def reached(self) -> float:
        """When the limit is reached, in bins."""
        return self.start + self.hours * 12

    def way(self, number: float, limit: float) -> float:
        """The part of the way to the limit, which is so many usual values, at a bin."""
        done = min(1.1, max(0.0, (number - self.start) / (self.hours * 12)))
        if self.shape == "linear":
            return log(1 + (limit - 1) * done) / log(limit)
        if self.shape == "exponential":
            return done
        full = 1 - (1 - p.RHO) / limit
        load = min(0.999, p.RHO + (full - p.RHO) * done)
        return min(1.5, log((1 - p.RHO) / (1 - load)) / log(limit))


@dataclass(slots=True)
class _Event:
    start: float
    end: float
    height: float


class Service:
    """One service, whose whole past follows from its seed. The usual value of what its limit is for is 1."""

    def __init__(self, seed: str, bins: int, ramp: Ramp | None = None) -> None:
        chance = self._chance = random.Random(seed)
        self.bins = bins
        self.ramp = ramp
        self.trace: Trace = chance.choice(list(traces().values()))
        self.traffic = _between_logs(chance, p.TRAFFIC)
        self._deviation = self.trace.deviation(round(self.traffic * _MINUTES), is_p95=self.is_p95)
        self.limit = max(_between_logs(chance, p.LIMIT), exp(p.LIMIT_ABOVE_NOISE * self._deviation))
        self._swing = chance.uniform(*p.TRAFFIC_SWING)
        self._season = chance.uniform(*p.SEASON)
        self._peak = chance.uniform(0, DAY)
        self._days = [max(0.0, chance.gauss(1, p.SEASON_VARIES)) for _ in range(bins // DAY + 2)]
        self._deploys = [
            _Event(at, at + chance.uniform(*p.DEPLOY_MINUTES) / _MINUTES, chance.uniform(*p.DEPLOY_HEIGHT))
            for at in self._moments(p.DEPLOYS)
        ]
        self._bursts = [_Event(at, at + 12, chance.uniform(*p.BURST_HEIGHT)) for at in self._moments(p.BURSTS)]
        self._gaps = [_Event(at, at + chance.uniform(1, 12), 0) for at in self._moments(p.GAPS)]
        self._steps = list(self._moments(p.STEPS))

    def __repr__(self) -> str:
        return f"<Service with {self.traffic:.0f} requests a minute, limit {self.limit:.1f}, {self.trace.name}>"

    @property
    def is_p95(self) -> bool:
        """Whether its limit is for the p95, else for the median."""
        return self.traffic * _MINUTES >= ENOUGH

    @property
    def difficulty(self) -> float:
        """The standard deviation of the noise of a bin, in ways."""
        return self._deviation / log(self.limit)

    def latencies(self) -> Iterator[BinLatency | None]:
        """The latencies of each bin; None for those in which nothing is measured."""
        chance, distance = self._chance, log(self.limit)
        # One limit for both statistics: the other one has its usual distance from the first.
        ratio = self.trace.usual.p95 / self.trace.usual.median
        median_usual, p95_usual = (1 / ratio, 1.0) if self.is_p95 else (1.0, ratio)
        step = wander = 0.0
        steps = iter([*self._steps, self.bins + 1])
        next_step = next(steps)
        for number in range(self.bins):
            if number >= next_step:
                step = min(p.LEVELS[1] - self._season, max(p.LEVELS[0], step + chance.uniform(*p.STEP)))
                next_step = next(steps)
            wander += -wander / 72 + chance.gauss(0, p.WANDER * (2 / 72) ** 0.5)
            is_burst = _height(self._bursts, number) > 0
            count = _poisson(chance, self._rate(number) * _MINUTES * (3 if is_burst else 1))
            level = step + wander + self._season_at(number) + _height(self._bursts, number)
            if self.ramp is not None:
                way = self.ramp.way(number + 0.5, self.limit)
                level = level * max(0.0, 1 - way) + way
            level += _height(self._deploys, number)
            if not count or _height(self._gaps, number, 1.0) >= 0.5:
                yield None
                continue
            noise = chance.choice(self.trace.pool(count))
            value = exp(level * distance)
            yield BinLatency(count, value * noise.median * median_usual, value * noise.p95 * p95_usual)

    def _moments(self, a_week: float) -> Iterator[float]:
        at = self._chance.expovariate(a_week / WEEK)
        while at < self.bins:
            yield at
            at += self._chance.expovariate(a_week / WEEK)

    def _rate(self, number: int) -> float:
        """Requests a minute."""
        rate = self.traffic * (1 - self._swing / 2 + self._swing / 2 * cos(2 * pi * (number - self._peak) / DAY))
        return rate * (p.WEEKEND if number // DAY % 7 >= 5 else 1.0)

    def _season_at(self, number: int) -> float:
        """Above the night's value, in ways. A weekend is like a night half way to a day."""
        by_day = (1 + cos(2 * pi * (number - self._peak) / DAY)) / 2
        return self._season * self._days[number // DAY] * by_day * (0.5 if number // DAY % 7 >= 5 else 1.0)


def without_ramp(seed: int, number: int, weeks: int = 2) -> Service:
    """A service-week without ramps, behind a week that only teaches what is usual."""
    return Service(f"{seed} calm {number}", weeks * WEEK)


def with_ramp(seed: int, number: int, hours: float, shape: str) -> Service:
    """A service with one ramp at some time of the day after the first week."""
    chance = random.Random(f"{seed} ramp {hours} {shape} {number}")
    start = WEEK + chance.randrange(DAY)
    return Service(f"{seed} {hours} {shape} {number}", start + round(hours * 12 * 1.1) + 1, Ramp(hours, shape, start))


def _between_logs(chance: random.Random, bounds: tuple[float, float]) -> float:
    return exp(chance.uniform(log(bounds[0]), log(bounds[1])))


def _height(events: list[_Event], number: int, otherwise: float | None = None) -> float:
    """The sum of the heights of the events in a bin, each by the part of the bin that it lasts; or that part, times `otherwise`."""
    total = 0.0
    for one in events:
        if one.start < number + 1 and one.end > number:
            part = min(one.end, number + 1) - max(one.start, number)
            total += part * (one.height if otherwise is None else otherwise)
    return total


def _poisson(chance: random.Random, mean: float) -> int:
    if mean > 50:
        return max(0, round(chance.gauss(mean, mean**0.5)))
    count, product, end = 0, chance.random(), exp(-mean)
    while product > end:
        count += 1
        product *= chance.random()
    return count
