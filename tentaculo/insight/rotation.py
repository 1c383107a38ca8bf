"""Chooses among the targets of a group by what came of earlier calls: discounted Thompson sampling. Pure.

Every call has a reward from 0 to 1. Older calls count less and less (Raj and Kalyani, Taming Non-stationary Bandits,
2017), so that a target which has become better or worse is noticed. The next call goes to a target with the probability
that it is the best, as far as is known, and to each with a least probability: the exploration floor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import erf, sqrt
from statistics import NormalDist
from typing import Final, NamedTuple

GAMMA: Final = 0.997
"""What a call counts for after each later call of the group."""
SIGMA: Final = 0.1
"""Standard deviation of one reward, as far as the choice is concerned. A smaller one explores less."""
PRIOR: Final = 4.0
"""Calls, with the mean reward of the whole group, that each target is taken to have had."""
FLOOR: Final = 0.01
"""Least probability of each target that may be chosen."""
FIRST_MEAN: Final = 0.5
"""Mean reward of a group without calls. All its targets are equal then."""
_NODES: Final = tuple(NormalDist().inv_cdf((place + 0.5) / 64) for place in range(64))
"""Quantiles in the middles of 64 equal parts of the normal distribution."""


@dataclass(frozen=True, slots=True)
class RewardRule:
    """What a call is worth: 0 if it failed, else 1 less what its latency and its cost take away."""

    latency_limit: float
    """Seconds that take away the whole of `latency_weight`."""
    latency_weight: float = 0.2
    cost_limit: float = 1.0
    """Cost that takes away the whole of `cost_weight`, in the unit of the responses."""
    cost_weight: float = 0.0

    def reward(self, *, is_success: bool, seconds: float, cost: float | None) -> float:
        """From 0 to 1. `cost` is None where it is not known; it takes nothing away then."""
        if not is_success:
            return 0.0
        late = self.latency_weight * min(1.0, max(0.0, seconds / self.latency_limit))
        dear = self.cost_weight * min(1.0, max(0.0, (cost or 0.0) / self.cost_limit))
        return max(0.0, 1.0 - late - dear)


class Choice(NamedTuple):
    """A target and the probability with which it was chosen."""

    target: int
    probability: float


class Rotation:
    """The choice among a fixed number of targets, which are numbered from 0."""

    __slots__ = ("_counts", "_floor", "_gamma", "_prior", "_sigma", "_sums")

    def __init__(
        self, targets: int, *, gamma: float = GAMMA, sigma: float = SIGMA, prior: float = PRIOR, floor: float = FLOOR
    ) -> None:
        self._counts = [0.0] * targets
        self._sums = [0.0] * targets
        self._gamma = gamma
        self._sigma = sigma
        self._prior = prior
        self._floor = floor

    def __repr__(self) -> str:
        means = ", ".join(f"{mean:.2f} of {count:.0f}" for mean, count in zip(self.means(), self._counts, strict=True))
        return f"<Rotation: {means}>"

    def learn(self, target: int, reward: float) -> None:
        """Take the reward of a call into account, from 0 to 1. What was learned before counts less from now on."""
        gamma, counts, sums = self._gamma, self._counts, self._sums
        for number in range(len(counts)):
            counts[number] *= gamma
            sums[number] *= gamma
        counts[target] += 1.0
        sums[target] += reward

    def state(self) -> list[tuple[float, float]]:
        """What was learned of each target: its calls, of which older ones count less, and the sum of their rewards."""
        return list(zip(self._counts, self._sums, strict=True))

    @property
    def faded(self) -> float:
        """What a call from before the first one counts for now: gamma to the power of the calls since."""
        return max(0.0, 1 - (1 - self._gamma) * sum(self._counts))

    def restore(self, target: int, count: float, total: float) -> None:
        """Continue with what `state` gave of a target. Raises ValueError for what no calls can have given."""
        # Counts that were rounded may be a little more in all.
        if not 0 <= total <= count <= 1 / (1 - self._gamma) + 1e-5:
            raise ValueError("not a state of this rotation")
        self._counts[target], self._sums[target] = count, total

    def means(self) -> list[float]:
        """The expected reward of each target."""
        return [mean for mean, _ in self._beliefs(range(len(self._counts)))]

    def _beliefs(self, allowed: Sequence[int]) -> list[tuple[float, float]]:
        """Mean and standard deviation of what is known of the expected reward of each target in `allowed`."""
        counts, sums, prior, sigma = self._counts, self._sums, self._prior, self._sigma
        total = sum(counts)
        shared = prior * (sum(sums) / total if total else FIRST_MEAN)
        return [
            ((sums[number] + shared) / (counts[number] + prior), sigma / sqrt(counts[number] + prior))
            for number in allowed
        ]

    def choose(
        self, allowed: Sequence[int], uniform: Callable[[], float], normal: Callable[[float, float], float]
    ) -> int:
        """One target of `allowed`, which has no target twice and is not empty.

        `uniform` gives random numbers from 0 to 1, and `normal` such of the normal distribution with a mean and a
        standard deviation.
        """
        size = len(allowed)
        if size == 1:
            return allowed[0]
        explored = min(self._floor * size, 0.5)
        if explored and (number := uniform()) < explored:
            return allowed[min(int(number / explored * size), size - 1)]
        best, chosen = -1e9, allowed[0]
        for target, (mean, deviation) in zip(allowed, self._beliefs(allowed), strict=True):
            value = normal(mean, deviation)
            if value > best:
                best, chosen = value, target
        return chosen

    def probability(self, target: int, allowed: Sequence[int]) -> float:
        """With which probability `choose` gives `target`, computed and not counted.

        The target is chosen if its random value is the greatest: the mean, over 64 quantiles of its own distribution, of
        the probability that all others are below. The error is below 0.005; of two targets the formula is exact.
        """
        size = len(allowed)
        if size == 1:
            return 1.0
        beliefs = dict(zip(allowed, self._beliefs(allowed), strict=True))
        mean, deviation = beliefs.pop(target)
        others = [(other, 1 / (width * sqrt(2))) for other, width in beliefs.values()]
        if size == 2:
            (other, width), *_ = beliefs.values()
            best = 0.5 + 0.5 * erf((mean - other) / sqrt(2 * (deviation**2 + width**2)))
        else:
            best = 0.0
            for node in _NODES:
                value, below = mean + deviation * node, 1.0
                for other, scale in others:
                    below *= 0.5 + 0.5 * erf((value - other) * scale)
                best += below
            best /= len(_NODES)
        explored = min(self._floor * size, 0.5)
        return explored / size + (1 - explored) * best
