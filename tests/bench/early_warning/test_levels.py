"""Levels without a trend, and the rule that the gateway does not have."""

from __future__ import annotations

from bench.early_warning.evaluation import run
from bench.early_warning.levels import Level, with_rule
from bench.early_warning.methods import Ours
from bench.early_warning.simulation import DAY, WEEK, Service


def test_a_level_is_reached_in_its_hours_and_stays() -> None:
    level = Level(24, "0.75", 100)
    assert [level.way(number, 4.0) for number in (99, 100, 244, 388, 1000)] == [0.0, 0.0, 0.375, 0.75, 0.75]
    assert Level(0, "0.75", 100).way(100, 4.0) == 0.75


def test_the_rule_warns_of_a_level_that_the_detector_leaves_out() -> None:
    def warned(make: type[Ours] | object, number: int) -> bool:
        service = Service(f"101 level 72 {number}", WEEK + 72 * 12 + DAY, Level(72, "0.75", WEEK))
        method = with_rule(service) if make is with_rule else Ours(service)
        return any(one.end > WEEK for one in run(method, list(service.latencies())))

    found = [(warned(Ours, number), warned(with_rule, number)) for number in range(6)]
    assert all(ruled for _, ruled in found)
    assert not all(ours for ours, _ in found)
