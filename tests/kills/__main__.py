"""Rounds of `kill -9` under load: `python -m tests.kills --rounds 20`.

It prints what came of them as the table of docs/events.md. The exit code is 1 where an acknowledged event was lost or
stored twice, or a listener missed one, got one twice or in another order; else 0.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from statistics import median

import uvloop

from tests.kills.rounds import SCENARIOS, Result, kill_repeatedly

_HEAD = (
    "| killed | rounds | acknowledged | repeats found | unacknowledged requests | deliveries | connections |"
    " back after, median and most | longest pause of a round, median and most |"
)


def main() -> int:
    """Run the rounds from the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.kills", description="Kill gateways and databases under load."
    )
    parser.add_argument("--rounds", type=int, default=20, help="kills of each kind (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="of what is killed and where the clock is set (default 1)")
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="what to kill (default: each)")
    arguments = parser.parse_args()
    print(_HEAD, "|---" * _HEAD.count(" |") + "|", sep="\n", flush=True)
    faults = 0
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for scenario in arguments.only or SCENARIOS:
            with tempfile.TemporaryDirectory(prefix="kills-") as folder:
                result = runner.run(kill_repeatedly(scenario, arguments.rounds, Path(folder), seed=arguments.seed))
            print(row(result), flush=True)
            for fault in result.faults:
                print(f"wrong: {fault}", file=sys.stderr)
            faults += len(result.faults)
    return 1 if faults else 0


def row(result: Result) -> str:
    """The row of one scenario in the table."""
    counts = (
        *(result.rounds, result.acknowledged, result.duplicates),
        *(result.unacknowledged, result.deliveries, result.connections),
    )
    seconds = (f"{median(values):.1f} s, {max(values):.1f} s" for values in (result.returns, result.pauses))
    return f"| {' | '.join((result.scenario, *(f'{count:,}' for count in counts), *seconds))} |"


if __name__ == "__main__":
    sys.exit(main())
