"""The fit of the weights: a replay decides as the detector does, and the search finds what is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from bench.early_warning.evaluation import run
from bench.early_warning.fit import Figures, Recorded, fit, score
from bench.early_warning.methods import Ours
from bench.early_warning.simulation import Service, with_ramp, without_ramp
from tentaculo.insight.detector import Thresholds

SERVICES: dict[str, Callable[[], Service]] = {
    "a ramp": partial(with_ramp, 7, 0, 8.0, "linear"),
    "no ramp": partial(without_ramp, 2, 3),
    "no ramp either": partial(without_ramp, 2, 4),
}


@pytest.mark.parametrize("make", SERVICES.values(), ids=SERVICES)
@pytest.mark.parametrize("thresholds", [Thresholds(), Thresholds(level=1.2, novelty=1.4, memory=12)])
def test_a_replay_warns_when_the_detector_does(make: Callable[[], Service], thresholds: Thresholds) -> None:
    service = make()
    series = list(service.latencies())
    expected = [(one.start, one.end, one.is_right) for one in run(Ours(service, thresholds), series)]
    found = Recorded(service, series).warnings(thresholds)
    assert [(one.start, one.end, one.is_right) for one in found] == expected


def test_false_warnings_cost_more_above_the_target() -> None:
    assert score(Figures(0.95, 0.42)) > score(Figures(0.94, 0.30)) > score(Figures(0.96, 0.46))


def test_the_weights_are_varied_until_nothing_is_better() -> None:
    best = replace(Thresholds(), level=0.5, novelty=1.3)
    found = fit(lambda tried: -abs(tried.level - best.level) - abs(tried.novelty - best.novelty), Thresholds())
    assert [found.level, found.novelty, found.hours] == pytest.approx([0.5, 1.3, 0.71], abs=0.02)
