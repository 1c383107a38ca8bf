"""The choice among targets: its probabilities, what it learns and forgets, and what a call is worth."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tentaculo.insight.rotation import FIRST_MEAN, RewardRule, Rotation

DRAWS = 20_000


def taught(targets: int, rewards: dict[int, list[float]], **settings: float) -> Rotation:
    rotation = Rotation(targets, **settings)
    for target, values in rewards.items():
        for value in values:
            rotation.learn(target, value)
    return rotation


@pytest.mark.parametrize(
    ("rotation", "allowed"),
    [
        (taught(2, {0: [1, 0, 1], 1: [1, 1, 0.8]}), (0, 1)),
        (taught(3, {0: [0.7] * 5, 1: [0.75] * 3, 2: [0.72] * 9}, floor=0.05), (0, 1, 2)),
        (taught(6, {n: [0.5 + n / 50] * (n + 1) for n in range(6)}, sigma=0.2), (0, 2, 3, 4, 5)),
        (taught(3, {0: [1] * 50, 1: [0] * 50, 2: [0] * 50}, floor=0.01), (0, 1, 2)),
        (Rotation(4, floor=0.5), (0, 1, 2, 3)),
    ],
    ids=["two", "three", "without one of six", "floor", "floor of all"],
)
def test_the_probability_is_how_often_the_target_is_chosen(rotation: Rotation, allowed: tuple[int, ...]) -> None:
    chance = random.Random(7)
    drawn = Counter(rotation.choose(allowed, chance.random, chance.gauss) for _ in range(DRAWS))
    probabilities = {target: rotation.probability(target, allowed) for target in allowed}
    assert sum(probabilities.values()) == pytest.approx(1, abs=0.01)
    for target, probability in probabilities.items():
        spread = 4 * (probability * (1 - probability) / DRAWS) ** 0.5
        assert drawn[target] / DRAWS == pytest.approx(probability, abs=spread + 0.005)


def test_a_target_that_is_not_allowed_is_never_chosen() -> None:
    rotation, chance = taught(3, {2: [1.0] * 50}), random.Random(1)
    assert {rotation.choose((0, 1), chance.random, chance.gauss) for _ in range(500)} == {0, 1}
    assert rotation.choose((1,), chance.random, chance.gauss) == 1
    assert rotation.probability(1, (1,)) == 1.0


def test_every_allowed_target_has_at_least_the_floor() -> None:
    rotation = taught(3, {0: [1.0] * 200, 1: [0.0] * 200, 2: [0.0] * 200}, floor=0.02)
    assert rotation.probability(1, (0, 1, 2)) == pytest.approx(0.02, abs=1e-3)
    assert rotation.probability(0, (0, 1, 2)) == pytest.approx(0.96, abs=1e-3)


def test_the_floors_of_all_targets_take_at_most_half() -> None:
    rotation = taught(2, {0: [1.0] * 200, 1: [0.0] * 200}, floor=0.5)
    assert rotation.probability(1, (0, 1)) == pytest.approx(0.25, abs=1e-3)


def test_without_calls_all_are_equal() -> None:
    rotation = Rotation(2)
    assert rotation.means() == [FIRST_MEAN] * 2
    assert rotation.probability(0, (0, 1)) == 0.5


def test_what_is_old_is_forgotten() -> None:
    rotation = taught(2, {0: [1.0] * 500, 1: [0.6] * 500})
    assert rotation.probability(0, (0, 1)) > 0.9
    for _ in range(1000):
        rotation.learn(0, 0.1)
        rotation.learn(1, 0.6)
    assert rotation.means() == pytest.approx([0.1, 0.6], abs=0.05)
    assert rotation.probability(1, (0, 1)) > 0.98


def test_its_state_continues_in_another_one() -> None:
    rotation, other = taught(2, {0: [1.0] * 30, 1: [0.5] * 7}), Rotation(2)
    for target, (count, total) in enumerate(rotation.state()):
        other.restore(target, count, total)
    assert other.means() == rotation.means()
    assert other.probability(0, (0, 1)) == rotation.probability(0, (0, 1))


def test_a_call_of_before_counts_less_by_those_since() -> None:
    assert Rotation(2).faded == 1
    assert taught(2, {0: [1.0] * 10, 1: [0.0] * 10}, gamma=0.9).faded == pytest.approx(0.9**20)


@pytest.mark.parametrize(("count", "total"), [(-1, 0), (1, 2), (1e9, 1), (float("nan"), 0), (1, float("nan"))])
def test_a_state_that_no_calls_can_have_given_is_refused(count: float, total: float) -> None:
    with pytest.raises(ValueError, match="not a state"):
        Rotation(2).restore(0, count, total)


@pytest.mark.parametrize(
    ("is_success", "seconds", "cost", "reward"),
    [
        (False, 0, None, 0),
        (True, 0, None, 1),
        (True, 5, None, 0.9),
        (True, 100, None, 0.8),
        (True, 5, 1, 0.9 - 0.15),
        (True, 100, 100, 0.5),
        (True, -3, -3, 1),
    ],
)
def test_the_reward_of_a_call(*, is_success: bool, seconds: float, cost: float | None, reward: float) -> None:
    rule = RewardRule(latency_limit=10, cost_limit=2, cost_weight=0.3)
    assert rule.reward(is_success=is_success, seconds=seconds, cost=cost) == pytest.approx(reward)
