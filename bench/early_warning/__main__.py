"""Runs the evaluation and writes its report.

python -m bench.early_warning [--nab FOLDER] [--weeks N] [--ramps N] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bench.early_warning import nab
from bench.early_warning import parameters as p
from bench.early_warning.evaluation import evaluate
from bench.early_warning.report import render

ROOT = Path(__file__).parents[2]
SEEDS = Path(__file__).parent / "seeds.json"
REPORT = ROOT / "docs" / "early-warning.md"


def main(argv: list[str] | None = None) -> None:
    """Read the options, evaluate and write."""
    parser = argparse.ArgumentParser(prog="make eval", description=__doc__)
    parser.add_argument("--nab", type=Path, help="folder of the Numenta Anomaly Benchmark")
    parser.add_argument("--weeks", type=int, default=p.WEEKS, help="service-weeks without ramps")
    parser.add_argument("--ramps", type=int, default=p.RAMPS, help="ramps of each length and shape")
    parser.add_argument("--output", type=Path, default=REPORT, help="file of the report")
    options = parser.parse_args(argv)
    seeds = json.loads(SEEDS.read_text())
    results = evaluate(seeds["evaluation"], weeks=options.weeks, ramps=options.ramps)
    series = nab.evaluate(options.nab) if options.nab else []
    options.output.write_text(render(results, seed=seeds["evaluation"], design=seeds["design"], nab=series))
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
