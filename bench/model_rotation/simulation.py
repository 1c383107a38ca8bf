"""Simulated groups: each call succeeds or fails and takes some time, and another target may become the best."""

from __future__ import annotations

import random
from collections import deque
from functools import cache
from math import exp, log
from statistics import NormalDist
from typing import NamedTuple

from bench.model_rotation import parameters as p
from bench.model_rotation.policies import Policy
from tentaculo.insight.rotation import RewardRule

RULE = RewardRule(latency_limit=p.LATENCY_LIMIT, latency_weight=p.LATENCY_WEIGHT)


class Scenario(NamedTuple):
    """One row of the evaluation."""

    targets: int
    gap: float
    """Of the shares of success; 0 where the others are slower instead."""
    shifts: int
    calls: int

    @property
    def is_of_latency(self) -> bool:
        """Whether the others are slower, and succeed as often."""
        return not self.gap


def scenarios() -> list[Scenario]:
    """All of them, in the order of the report."""
    found = [
        Scenario(targets, gap, shifts, calls)
        for calls in p.CALLS
        for shifts in p.SHIFTS
        for targets in p.TARGETS
        for gap in p.GAPS
    ]
    return found + [
        Scenario(targets, 0.0, shifts, p.SLOWER_CALLS) for shifts in p.SLOWER_SHIFTS for targets in p.TARGETS
    ]


def run(scenario: Scenario, policy: Policy, seed: str) -> float:
    """The regret of one run: the sum, over its calls, of how much more the best target is expected to earn."""
    chance = random.Random(seed)
    share = chance.uniform(*p.BEST)
    first = chance.randrange(scenario.targets)
    factor = p.SLOWER if scenario.is_of_latency else 1.0
    best = share * _expected(p.LATENCY)
    loss = best - (share - scenario.gap) * _expected(p.LATENCY * factor)
    part = -(-scenario.calls // (scenario.shifts + 1))
    uniform, gauss, median = chance.random, chance.gauss, log(p.LATENCY)
    pending: deque[tuple[int, float, float]] = deque()
    moment, missed = 0.0, 0
    for number in range(scenario.calls):
        target = policy.choose(moment)
        is_best = target == (first + number // part) % scenario.targets
        missed += not is_best
        seconds = exp(gauss(median, p.LATENCY_SPREAD)) * (1.0 if is_best else factor)
        is_success = uniform() < (share if is_best else share - scenario.gap)
        pending.append((target, RULE.reward(is_success=is_success, seconds=seconds, cost=None), seconds))
        if len(pending) > p.IN_FLIGHT:
            target, reward, seconds = pending.popleft()
            policy.learn(target, reward, seconds, moment)
        moment += p.LATENCY / p.IN_FLIGHT
    return missed * loss


@cache
def _expected(median: float, steps: int = 2000) -> float:
    """The mean reward of a success whose latency has this median."""
    normal = NormalDist(log(median), p.LATENCY_SPREAD)
    values = (exp(normal.inv_cdf((step + 0.5) / steps)) for step in range(steps))
    return sum(RULE.reward(is_success=True, seconds=seconds, cost=None) for seconds in values) / steps
