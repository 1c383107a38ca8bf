"""Runs every method over the simulated services and counts what it caught and what it warned of for nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import TypeVar

from bench.early_warning import parameters as p
from bench.early_warning.methods import OURS, RIVALS, AtRandom, Method, Ours, Warned
from bench.early_warning.simulation import WEEK, Service, with_ramp, without_ramp
from tentaculo.insight.detector import Rule, Thresholds
from tentaculo.model.early_warning import BinLatency

Series = Sequence[BinLatency | None]
RANDOM = "at random"
_IN_TIME = p.AHEAD / 5


@dataclass(frozen=True, slots=True)
class RampResult:
    """What one method made of one ramp."""

    hours: float
    shape: str
    difficulty: float
    ahead: float | None
    """Minutes before the limit at which the warning came that was open ten minutes before it; None without one."""
    is_trend: bool = False
    """Whether the gateway's trend rule opened it, so that it named a time."""
    is_within: bool = False
    """Whether the limit was reached within the interval that it named."""


@dataclass(frozen=True, slots=True)
class CalmResult:
    """What one method made of one service-week without ramps."""

    difficulty: float
    false: int
    first_week: int
    """Warnings in the week before, of which the method knew nothing. They do not count."""


T = TypeVar("T", RampResult, CalmResult)


@dataclass(slots=True)
class Results:
    """Everything, by method."""

    ramps: dict[str, list[RampResult]] = field(default_factory=dict)
    calm: dict[str, list[CalmResult]] = field(default_factory=dict)


def run(method: Method, series: Series) -> list[Warned]:
    """All warnings of `method` over a series."""
    for number, latency in enumerate(series):
        method.add(number, latency)
    return method.warnings()


def reached_at(service: Service, series: Series) -> float:
    """When a ramp reaches the limit, in bins: without noise, or earlier if the median of half an hour does."""
    assert service.ramp is not None
    half_hour: deque[float] = deque(maxlen=6)
    for number, latency in enumerate(series):
        if latency is not None:
            half_hour.append(latency.p95 if service.is_p95 else latency.median)
        if number >= service.ramp.start and median(half_hour) >= service.limit:
            return min(number, service.ramp.reached)
    return service.ramp.reached


def of_ramp(warnings: Iterable[Warned], service: Service, reached: float) -> RampResult:
    """Judge the warnings of a service with a ramp that reaches the limit at the bin `reached`."""
    ramp = service.ramp
    assert ramp is not None
    last = reached - _IN_TIME
    in_time = (one for one in warnings if ramp.start <= one.start and one.start + 1 <= last)
    found = next((one for one in in_time if one.is_right or one.end + 1 > last), None)
    if found is None:
        return RampResult(ramp.hours, ramp.shape, service.difficulty, None)
    ahead = (reached - found.start - 1) * 5
    forecast = found.forecast
    if forecast is None or forecast.rule is not Rule.TREND or forecast.earliest is None or forecast.latest is None:
        return RampResult(ramp.hours, ramp.shape, service.difficulty, ahead)
    after = reached - found.start - 1
    is_within = forecast.earliest <= after <= forecast.latest
    return RampResult(ramp.hours, ramp.shape, service.difficulty, ahead, is_trend=True, is_within=is_within)


def of_calm(warnings: Iterable[Warned], service: Service) -> CalmResult:
    """Count the warnings of a service without ramps."""
    starts = [one.start for one in warnings]
    first = sum(start < WEEK for start in starts)
    return CalmResult(service.difficulty, len(starts) - first, first)


def _methods(thresholds: Thresholds | None, *, rivals: bool) -> Mapping[str, Callable[[Service], Method]]:
    return {OURS: partial(Ours, thresholds=thresholds), **(RIVALS if rivals else {})}


def _calm(seed: int, thresholds: Thresholds | None, rivals: bool, number: int) -> dict[str, CalmResult]:
    service = without_ramp(seed, number)
    series = list(service.latencies())
    methods = _methods(thresholds, rivals=rivals)
    return {name: of_calm(run(make(service), series), service) for name, make in methods.items()}


def _ramp(
    seed: int, thresholds: Thresholds | None, rivals: bool, a_week: float, case: tuple[int, float, str]
) -> dict[str, RampResult]:
    methods = dict(_methods(thresholds, rivals=rivals))
    if rivals:
        methods[RANDOM] = partial(AtRandom, a_week=a_week)
    service = with_ramp(seed, *case)
    series = list(service.latencies())
    reached = reached_at(service, series)
    return {name: of_ramp(run(make(service), series), service, reached) for name, make in methods.items()}


def evaluate(
    seed: int,
    *,
    weeks: int = p.WEEKS,
    ramps: int = p.RAMPS,
    thresholds: Thresholds | None = None,
    rivals: bool = True,
    processes: int = 2,
) -> Results:
    """Simulate `weeks` service-weeks without ramps, and `ramps` ramps of each length and shape."""
    results = Results()
    cases = [(number, hours, shape) for hours in p.RAMP_HOURS for shape in p.SHAPES for number in range(ramps)]
    with ProcessPoolExecutor(processes) as pool:
        for found in pool.map(partial(_calm, seed, thresholds, rivals), range(weeks), chunksize=4):
            for name, one in found.items():
                results.calm.setdefault(name, []).append(one)
        a_week = rate(results.calm[OURS]) if rivals else 0.0
        for ramp in pool.map(partial(_ramp, seed, thresholds, rivals, a_week), cases, chunksize=4):
            for name, caught in ramp.items():
                results.ramps.setdefault(name, []).append(caught)
    return results


def rate(calm: Iterable[CalmResult]) -> float:
    """False warnings a service-week."""
    found = list(calm)
    return sum(one.false for one in found) / len(found)


def is_caught(result: RampResult) -> bool:
    """Whether the ramp was warned of in time."""
    return result.ahead is not None


def caught(ramps: Iterable[RampResult]) -> tuple[int, int]:
    """How many ramps were warned of in time, and how many there were."""
    found = list(ramps)
    return sum(map(is_caught, found)), len(found)


def hardest(results: Iterable[T]) -> list[T]:
    """The quarter whose noise is greatest in comparison with the way to the limit."""
    ordered = sorted(results, key=lambda one: one.difficulty)
    return ordered[-(len(ordered) // 4) :]


def median_ahead(ramps: Iterable[RampResult]) -> float | None:
    """Minutes between warning and limit, of the ramps that were warned of in time."""
    return median(found) if (found := [one.ahead for one in ramps if one.ahead is not None]) else None
