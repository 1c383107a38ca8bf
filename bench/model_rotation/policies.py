"""The rotation of the gateway and what it is compared with."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from math import exp, log, sqrt
from typing import Final, Protocol

from tentaculo.insight.rotation import Rotation

OURS: Final = "discounted Thompson"
BALANCER: Final = "P2C + peak-EWMA"
IN_TURN: Final = "round robin"
_DECAY: Final = 10.0
"""Seconds in which the balancer's measured latency loses two thirds of what it says."""


class Policy(Protocol):
    """Something that chooses."""

    def choose(self, moment: float) -> int:
        """The target of the next call, which begins at `moment`, in seconds."""

    def learn(self, target: int, reward: float, seconds: float, moment: float) -> None:
        """Take what came of a call, which took `seconds` and ended at `moment`."""

    def skip(self, target: int) -> None:
        """The chosen call is not made: a log that is replayed does not have it."""


class _Skips:
    def skip(self, target: int) -> None:
        """Nothing was counted at the choice."""


class Ours(_Skips):
    """The gateway's."""

    def __init__(self, targets: int, chance: random.Random, **settings: float) -> None:
        self._rotation = Rotation(targets, **settings)
        self._all = tuple(range(targets))
        self._chance = chance

    def choose(self, moment: float) -> int:
        """The target of the next call."""
        return self._rotation.choose(self._all, self._chance.random, self._chance.gauss)

    def learn(self, target: int, reward: float, seconds: float, moment: float) -> None:
        """Take what came of a call."""
        self._rotation.learn(target, reward)


class RoundRobin(_Skips):
    """Each target in its turn."""

    def __init__(self, targets: int, chance: random.Random) -> None:
        self._targets = targets
        self._next = chance.randrange(targets)

    def choose(self, moment: float) -> int:
        """The target of the next call."""
        self._next = (self._next + 1) % self._targets
        return self._next

    def learn(self, target: int, reward: float, seconds: float, moment: float) -> None:
        """Nothing is learned."""


class PeakEwma:
    """The better of two random targets by peak-EWMA of latency × (in flight + 1), as Finagle has it."""

    def __init__(self, targets: int, chance: random.Random) -> None:
        self._chance = chance
        self._all = range(targets)
        self._latency = [0.0] * targets
        self._measured = [0.0] * targets
        self._in_flight = [0] * targets

    def _cost(self, target: int, moment: float) -> float:
        known = self._latency[target] * exp((self._measured[target] - moment) / _DECAY)
        return known * (self._in_flight[target] + 1)

    def choose(self, moment: float) -> int:
        """The target of the next call."""
        one, other = self._chance.sample(self._all, 2)
        chosen = one if self._cost(one, moment) <= self._cost(other, moment) else other
        self._in_flight[chosen] += 1
        return chosen

    def learn(self, target: int, reward: float, seconds: float, moment: float) -> None:
        """Take what came of a call."""
        self._in_flight[target] -= 1
        if seconds < self._latency[target]:
            seconds += (self._latency[target] - seconds) * exp((self._measured[target] - moment) / _DECAY)
        self._latency[target], self._measured[target] = seconds, moment

    def skip(self, target: int) -> None:
        """The chosen call is not made."""
        self._in_flight[target] -= 1


class _Means(_Skips):
    """Counts and mean rewards of the whole run."""

    def __init__(self, targets: int, chance: random.Random) -> None:
        self._chance = chance
        self._targets = targets
        self._chosen = [0] * targets
        self._counts = [0] * targets
        self._means = [0.0] * targets

    def learn(self, target: int, reward: float, seconds: float, moment: float) -> None:
        """Take what came of a call."""
        self._counts[target] += 1
        self._means[target] += (reward - self._means[target]) / self._counts[target]


class EpsilonGreedy(_Means):
    """Nine of ten calls to the target with the best mean, the tenth to any."""

    def choose(self, moment: float) -> int:
        """The target of the next call."""
        if self._chance.random() < 0.1 or 0 in self._counts:
            return self._chance.randrange(self._targets)
        return self._means.index(max(self._means))


class Ucb(_Means):
    """UCB1: the target with the highest upper confidence bound (Auer, Cesa-Bianchi and Fischer, 2002)."""

    def choose(self, moment: float) -> int:
        """The target of the next call."""
        if 0 in self._chosen:
            chosen = self._chosen.index(0)
        else:
            spread = 2 * log(sum(self._chosen))
            bounds = [mean + sqrt(spread / count) for mean, count in zip(self._means, self._chosen, strict=True)]
            chosen = bounds.index(max(bounds))
        self._chosen[chosen] += 1
        return chosen

    def skip(self, target: int) -> None:
        """The chosen call is not made."""
        self._chosen[target] -= 1


POLICIES: Final[Mapping[str, Callable[[int, random.Random], Policy]]] = {
    OURS: Ours,
    IN_TURN: RoundRobin,
    BALANCER: PeakEwma,
    "ε-greedy, 0.1": EpsilonGreedy,
    "UCB1": Ucb,
    "Thompson, undiscounted": lambda targets, chance: Ours(targets, chance, gamma=1.0),
}
"""Every policy by its name in the report."""
