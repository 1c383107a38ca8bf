"""Better, as good, worse."""

from __future__ import annotations

from math import inf

import pytest

from bench.faults.catalogue import BY_NAME, METRICS
from bench.faults.verdict import Verdict, compare, judge, overall
from bench.stats import Spread

BETTER, EQUAL, WORSE = Verdict.BETTER, Verdict.EQUAL, Verdict.WORSE
METRIC = {metric.key: metric for metric in METRICS}


@pytest.mark.parametrize(
    ("key", "ours", "best", "verdict"),
    [
        ("detected", 1.0, 1.4, EQUAL),
        ("detected", 1.0, 1.6, BETTER),
        ("detected", 1.6, 1.0, WORSE),
        ("detected", 10.9, 10.0, EQUAL),
        ("detected", inf, inf, EQUAL),
        ("detected", inf, 1.0, WORSE),
        ("detected", 1.0, inf, BETTER),
        ("failed", 3, 0, EQUAL),
        ("failed", 4, 0, WORSE),
        ("failed", 0, 4, BETTER),
        ("failed", 109, 100, EQUAL),
        ("failed", 111, 100, WORSE),
    ],
)
def test_one_number(key: str, ours: float, best: float, verdict: Verdict) -> None:
    assert compare(METRIC[key], ours, best) is verdict


def numbers(**of: dict[str, float]) -> dict[str, dict[str, Spread]]:
    return {peer: {key: Spread(value, value, value, 1) for key, value in found.items()} for peer, found in of.items()}


def test_each_number_is_compared_with_whoever_did_best_in_it() -> None:
    found = numbers(
        ours={"detected": 0.0, "failed": 50.0, "shown": 3.0},
        haproxy={"detected": 6.0, "failed": 20.0, "shown": 6.0},
        nginx={"detected": 0.0, "failed": 400.0},
        other={"detected": 0.0, "failed": 0.0, "shown": 0.0},
    )
    verdicts = judge(BY_NAME["crash"], found, "ours", ("haproxy", "nginx"))
    assert verdicts == {"detected": EQUAL, "failed": WORSE, "shown": BETTER}


def test_only_what_compares_and_both_have_is_compared() -> None:
    found = numbers(ours={"detected": 9.0, "recovered": 9.0, "failed": 0.0}, nginx={"detected": 0.0, "shown": 0.0})
    assert judge(BY_NAME["lies-ill"], found, "ours", ("haproxy", "nginx")) == {}
    assert judge(BY_NAME["crash-alone"], found, "ours", ("nginx",)) == {}
    assert judge(BY_NAME["crash"], found, "ours", ("nginx",)) == {"detected": WORSE}


def test_who_mostly_left_it_in_use_is_not_asked_when_it_took_it_back() -> None:
    found = numbers(
        ours={"recovered": 5.0},
        haproxy={"detected": inf, "recovered": 0.0},
        nginx={"detected": 1.0, "recovered": 9.0},
    )
    assert judge(BY_NAME["errors"], found, "ours", ("haproxy", "nginx")) == {"recovered": BETTER}
    assert judge(BY_NAME["errors"], found, "ours", ("haproxy",)) == {}
    assert judge(BY_NAME["errors-alone"], found, "ours", ("haproxy",)) == {"recovered": WORSE}


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [([], EQUAL), ([EQUAL], EQUAL), ([EQUAL, BETTER], BETTER), ([BETTER, BETTER, WORSE], WORSE)],
)
def test_a_row_is_as_bad_as_its_worst_number(verdicts: list[Verdict], whole: Verdict) -> None:
    assert overall(dict(zip("abc", verdicts, strict=False))) is whole


def test_rows_about_load_compare_latencies_and_failures() -> None:
    for name in ("unequal", "hang-busy"):
        assert {metric.key for metric in METRICS if metric.compares(BY_NAME[name])} == {"failed", "hurt", "p99"}
    assert not any(metric.key == "p99" and metric.compares(BY_NAME["crash"]) for metric in METRICS)
