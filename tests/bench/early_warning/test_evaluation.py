"""A small run of the evaluation: the figures that `docs/early-warning.md` has, on few services."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bench.early_warning import parameters as p
from bench.early_warning.evaluation import (
    CalmResult,
    caught,
    evaluate,
    hardest,
    of_ramp,
    rate,
    reached_at,
)
from bench.early_warning.methods import OURS, RIVALS, Warned
from bench.early_warning.noise import traces
from bench.early_warning.simulation import WEEK, Ramp, with_ramp, without_ramp


def test_traces_of_every_fault_are_there_and_their_noise_shrinks_with_the_number_of_requests() -> None:
    assert {"quiet", "busy", "pauses", "resets", "unequal", "neighbour"} == set(traces())
    for trace in traces().values():
        assert trace.deviation(5, is_p95=False) > 2 * trace.deviation(1000, is_p95=False)


@pytest.mark.parametrize("shape", p.SHAPES)
def test_a_ramp_goes_from_usual_to_the_limit_in_its_hours(shape: str) -> None:
    ramp = Ramp(2.0, shape, 100)
    ways = [ramp.way(100 + at, 4.0) for at in range(25)]
    assert ways[0] == pytest.approx(0)
    assert ways[24] == pytest.approx(1)
    assert all(later > earlier for earlier, later in pairwise(ways))


def test_a_service_is_the_same_each_time() -> None:
    assert list(without_ramp(7, 3, 1).latencies()) == list(without_ramp(7, 3, 1).latencies())
    assert list(without_ramp(7, 3, 1).latencies()) != list(without_ramp(8, 3, 1).latencies())
    known = [one for one in without_ramp(7, 3, 1).latencies() if one]
    assert WEEK * 0.5 < len(known) <= WEEK


def test_a_warning_counts_when_it_is_ten_minutes_ahead_and_not_withdrawn() -> None:
    service = with_ramp(7, 0, 2.0, "exponential")
    assert service.ramp is not None
    reached = reached_at(service, list(service.latencies()))
    start, limit = service.ramp.start, int(reached)
    assert of_ramp([Warned(limit - 6, limit)], service, reached).ahead is not None
    assert of_ramp([Warned(limit - 1, limit + 5)], service, reached).ahead is None
    assert of_ramp([Warned(limit - 10, limit - 5)], service, reached).ahead is None
    assert of_ramp([Warned(limit - 10, limit - 5, is_right=True)], service, reached).ahead is not None
    assert of_ramp([Warned(start - 3, limit + 5)], service, reached).ahead is None


def test_figures() -> None:
    calm = [CalmResult(number / 10, number % 2, 0) for number in range(8)]
    assert rate(calm) == 0.5
    assert [one.difficulty for one in hardest(calm)] == [0.6, 0.7]


def test_a_small_evaluation_ranks_the_methods_as_the_report_does() -> None:
    results = evaluate(11, weeks=4, ramps=1, processes=1)
    assert {OURS, "at random", *RIVALS} == set(results.ramps)
    long = [one for one in results.ramps[OURS] if one.hours >= p.BAR_HOURS]
    found, of = caught(long)
    assert of == 9
    assert found >= 6
    assert rate(results.calm[OURS]) <= 2
    assert rate(results.calm["CUSUM"]) > 4
    assert rate(results.calm["predict_linear"]) > 4
