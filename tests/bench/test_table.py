"""The page."""

from __future__ import annotations

from pathlib import Path

from bench import results
from bench.catalogue import CASES
from bench.results import CaseResult
from bench.stats import Spread
from bench.table import cell, document, judge


def test_a_cell() -> None:
    assert cell(Spread(1234.5, 999.4, 20000.0, 3), 0) == "1,234 (999–20,000)"
    assert cell(Spread(0.5, 0.5, 0.5, 1), 2) == "0.50"
    assert cell(None, 2) == "–"


def test_targets_are_judged_by_the_median_of_ratios_within_rounds(get: CaseResult) -> None:
    found = {judged.against: judged for judged in judge(get)}
    assert found["nginx"].reached == Spread(0.52, 0.5, 0.54, 3)
    assert found["nginx"].is_met is True
    assert found["Envoy"].reached == Spread(250 / 240, 520 / 600, 540 / 500, 3)
    assert found["Envoy"].is_met is True
    assert found["Caddy"].is_met is None, "it was never measured"


def test_the_best_of_several_peers_is_the_one_to_beat(get: CaseResult) -> None:
    get.titles["http-proxy"] = "Node"
    get.samples += [
        results.Sample(peer, number, {"rps": rate})
        for peer, rate in (("http-proxy", 100.0), ("fastify", 260.0))
        for number in (1, 3)
    ]
    node = next(judged for judged in judge(get) if judged.target.peers == ("http-proxy", "fastify"))
    assert node.against == "@fastify"
    assert node.reached == Spread((2.0 + 540 / 260) / 2, 2.0, 540 / 260, 2)


def test_a_page(get: CaseResult) -> None:
    page = document([get], is_trial=False)
    assert "| **Tentáculo Link** | 520 (250–540) | 0.52 (0.50–0.54) | 20.0 (20.0–20.0) | – |" in page
    assert "| nginx | 1,000 (500–1,000) | 1.00 (1.00–1.00) |" in page
    assert "| Caddy | failed | – | failed | failed |" in page
    assert "Failed: Caddy: it (broke)" in page
    assert "Traceback" not in page
    assert "trial" not in page
    assert "trial" in document([get], is_trial=True)


def test_the_machine_says_how_busy_it_was_before_a_case(get: CaseResult) -> None:
    get.machine = {"memory": "8 GiB", "measured": "2026-11-29 20:00 UTC", "load average": "0.2", "slow": "2.5%"}
    page = document([get], is_trial=False)
    assert "- memory: 8 GiB" in page
    assert "- measured: get 2026-11-29 20:00 UTC, load average 0.2, slow 2.5%" in page


def test_commands_can_be_pasted(get: CaseResult) -> None:
    page = document([get], is_trial=False)
    assert "wrk -H 'A: b'" in page
    assert "taskset -c 0 nginx -c \"$WORK\"'/a b'" in page


def test_every_metric_and_target_of_the_catalogue_fits_together() -> None:
    for case in CASES:
        keys = [metric.key for metric in case.metrics]
        assert len(set(keys)) == len(keys)
        assert {target.metric for target in case.targets} <= set(keys)


def test_results_come_back_as_they_were_saved(get: CaseResult, tmp_path: Path) -> None:
    get.save(tmp_path)
    (tmp_path / "something-else.json").write_text("{}")
    assert results.load(tmp_path) == [get]
