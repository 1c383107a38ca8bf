"""Runs the evaluation of model rotation and writes its report.

python -m bench.model_rotation [--log FILE] [--runs N] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from bench.model_rotation import parameters as p
from bench.model_rotation.policies import POLICIES
from bench.model_rotation.replay import replay_file
from bench.model_rotation.report import render
from bench.model_rotation.simulation import Scenario, run, scenarios

ROOT = Path(__file__).parents[2]
SEEDS = Path(__file__).parent / "seeds.json"
RECORDED = Path(__file__).parent / "recorded.jsonl"
REPORT = ROOT / "docs" / "model-rotation.md"


def regrets(seed: int, runs: int, case: tuple[Scenario, str]) -> list[float]:
    """The regret of each run of one scenario by one method."""
    scenario, name = case
    found = []
    for number in range(runs):
        key = f"{seed} {number} {tuple(scenario)}"
        policy = POLICIES[name](scenario.targets, random.Random(f"{key} {name}"))
        found.append(run(scenario, policy, key))
    return found


def evaluate(seed: int, runs: int, processes: int = 2) -> dict[Scenario, dict[str, list[float]]]:
    """Every scenario by every method."""
    cases = [(scenario, name) for scenario in scenarios() for name in POLICIES]
    results: dict[Scenario, dict[str, list[float]]] = {}
    with ProcessPoolExecutor(processes) as pool:
        for (scenario, name), found in zip(cases, pool.map(partial(regrets, seed, runs), cases), strict=True):
            results.setdefault(scenario, {})[name] = found
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Read the options, evaluate and write."""
    parser = argparse.ArgumentParser(prog="make eval", description=__doc__)
    parser.add_argument("--log", type=Path, help="access log of a gateway, in JSON lines, that is replayed too")
    parser.add_argument("--runs", type=int, default=p.SEEDS, help="runs of each scenario and method")
    parser.add_argument("--output", type=Path, default=REPORT, help="file of the report")
    options = parser.parse_args(argv)
    seeds = json.loads(SEEDS.read_text())
    seed = seeds["evaluation"]
    logs = [file for file in (RECORDED, options.log) if file is not None and file.exists()]
    replayed = [one for file in logs for one in replay_file(file, str(seed))]
    results = evaluate(seed, options.runs)
    options.output.write_text(render(results, replayed, seed=seed, design=seeds["design"], runs=options.runs))
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
