"""The simulation and the replay count what they say."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from bench.model_rotation import parameters as p
from bench.model_rotation.__main__ import regrets
from bench.model_rotation.policies import IN_TURN, OURS, POLICIES
from bench.model_rotation.replay import Call, read, replay
from bench.model_rotation.report import excess, ratio
from bench.model_rotation.simulation import Scenario, run, scenarios


def test_all_scenarios_of_the_issue_are_there() -> None:
    wanted = {(t, g, s, c) for t in (2, 3, 6) for g in (0.05, 0.1, 0.3) for s in (0, 1, 5) for c in (500, 2000, 20000)}
    assert {tuple(one) for one in scenarios() if not one.is_of_latency} == wanted


class Fixed:
    """Always one target."""

    def __init__(self, target: int) -> None:
        self.target = target

    def choose(self, moment: float) -> int:
        return self.target

    def learn(self, target: int, reward: float, seconds: float, moment: float) -> None:
        assert 0 <= reward <= 1

    def skip(self, target: int) -> None:
        raise AssertionError


@pytest.mark.parametrize("shifts", [0, 1, 5])
def test_the_regret_of_all_targets_adds_up(shifts: int) -> None:
    """Each call is best for one of the targets, so that all of them together miss all but one of them."""
    scenario = Scenario(3, 0.1, shifts, 600)
    found = [run(scenario, Fixed(target), "seed") for target in range(3)]
    in_turn = run(scenario, POLICIES[IN_TURN](3, random.Random(1)), "seed")
    assert sum(found) / 3 == pytest.approx(in_turn, rel=0.01)
    assert min(found) == pytest.approx(0 if not shifts else in_turn, abs=in_turn / 1.9)


def test_a_run_is_repeated_exactly() -> None:
    case = (Scenario(2, 0.3, 1, 500), OURS)
    assert regrets(7, 2, case) == regrets(7, 2, case)
    assert regrets(7, 2, case) != regrets(8, 2, case)
    assert sum(regrets(7, 2, case)) < sum(regrets(7, 2, (case[0], IN_TURN)))


def test_intervals_hold_what_is_known() -> None:
    assert ratio([1.0, 1.0], [2.0, 2.0]) == (0.5, 0.5, 0.5)
    assert excess([3.0, 3.0], [1.0, 1.0]) == (2.0, 0.0)


def test_runs_of_two_methods_are_compared_in_pairs() -> None:
    """What makes a run hard for both says nothing about their difference."""
    others = [1.0, 2.0, 3.0, 4.0]
    assert excess([one + 2 for one in others], others) == (2.0, 0.0)
    assert ratio([one / 2 for one in others], others) == (0.5, 0.5, 0.5)
    value, low, high = ratio([1.0, 3.0], [2.0, 2.0])
    assert [low, value, high] == pytest.approx([1 - 1.96 / 2, 1.0, 1 + 1.96 / 2])
    assert list(excess([1.0, 3.0], [2.0, 2.0])) == pytest.approx([0.0, 1.96])


def test_a_log_is_replayed_without_bias() -> None:
    chance = random.Random(3)
    calls = []
    for _ in range(4000):
        target = "A" if chance.random() < 0.25 else "B"
        calls.append(
            Call(target, 0.25 if target == "A" else 0.75, float(chance.random() < (0.4 if target == "A" else 0.8)), 0.1)
        )
    found = {one.method: one for one in replay("log", calls, "seed")}
    assert found[IN_TURN].reward == pytest.approx(0.6, abs=0.04)
    assert found[OURS].reward > 0.72
    assert found[IN_TURN].used < found[IN_TURN].of


def test_only_chosen_calls_are_read() -> None:
    line = {"service": "s", "target": "A", "probability": 0.5, "reward": 1, "ms": 3}
    lines = [json.dumps(line), json.dumps({**line, "reward": None}), "no json", json.dumps({"event": "started"})]
    assert read(lines) == {"s": [Call("A", 0.5, 1, 0.003)]}


def test_the_seed_of_the_evaluation_is_none_of_the_design() -> None:
    seeds = json.loads((Path(__file__).parents[3] / "bench" / "model_rotation" / "seeds.json").read_text())
    assert str(seeds["evaluation"]) not in seeds["design"]
    assert p.SEEDS == 100
