"""Goes through the rows: all proxies of a row at the same time, each in a rig of its own, round after round."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from bench.faults.catalogue import BY_NAME
from bench.faults.measures import measure
from bench.faults.options import Options
from bench.faults.peers import named
from bench.faults.trace import Trace
from bench.peers.peer import ROOT
from bench.stats import Spread

KEPT = ROOT / "build" / "faults"
_STOP = 15.0
_LAG = 0.5
"""Seconds by which the load may come late at worst, for its numbers to count."""
_TRIES = 3


@dataclass(slots=True)
class Results:
    """What was measured: row → peer → round by round, the metrics."""

    samples: dict[str, dict[str, list[dict[str, float]]]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    """`row peer` → why a round of it has no numbers."""

    def add(self, row: str, peer: str, sample: dict[str, float]) -> None:
        """One round."""
        self.samples.setdefault(row, {}).setdefault(peer, []).append(sample)

    def numbers(self, row: str) -> dict[str, dict[str, Spread]]:
        """Peer → metric → its spread over the rounds that have it."""
        found: dict[str, dict[str, Spread]] = {}
        for peer, samples in self.samples.get(row, {}).items():
            keys = dict.fromkeys(key for sample in samples for key in sample)
            spreads = {key: Spread.of(sample[key] for sample in samples if key in sample) for key in keys}
            found[peer] = {key: spread for key, spread in spreads.items() if spread is not None}
        return found


async def run(options: Options) -> Results:
    """Measure. A rig that fails is told of and leaves its number out."""
    results = Results()
    # Without networks of their own the rigs would count each other's refused connections: one at a time then.
    at_once = options.rows_at_once * len(options.peers) if _is_isolated() else 1
    slots = asyncio.Semaphore(at_once)
    for seconds in options.lasts:
        async with asyncio.TaskGroup() as rigs:
            for row, peer in _pairs(options):
                await slots.acquire()
                rig = rigs.create_task(_measure(results, row, peer, seconds, options.after))
                rig.add_done_callback(lambda _: slots.release())
    return results


def _pairs(options: Options) -> Iterator[tuple[str, str]]:
    return (
        (row, peer)
        for row in options.rows
        for peer in options.peers
        if BY_NAME[row].fault.overloads or not named(peer).limits
    )


async def _measure(results: Results, row: str, peer: str, lasts: float, after: float) -> None:
    """One rig; another one where the machine was busy with something else, so that nobody is blamed for that."""
    for _ in range(_TRIES):
        out, failure = await _rig(peer, row, lasts, after)
        if failure:
            break
        trace = Trace.from_json(out)
        if trace.lag <= _LAG:
            _keep(row, peer, out)
            sample = measure(trace, BY_NAME[row])
            results.add(row, peer, sample)
            shown = "  ".join(f"{key} {value:,.1f}" for key, value in sample.items())
            print(f"{row:16} {peer:14} {shown}", file=sys.stderr, flush=True)
            return
        failure = f"the load itself came {trace.lag:.1f} s late: the machine is too busy"
    results.errors[f"{row} {peer}"] = failure
    print(f"{row:16} {peer:14} {failure}", file=sys.stderr, flush=True)


async def _rig(peer: str, row: str, lasts: float, after: float) -> tuple[str, str]:
    """What a rig printed, or why it failed."""
    argv = (sys.executable, "-m", "bench.faults.rig", peer, row, str(lasts), str(after))
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.wait(), _STOP)
        raise
    said = (err.decode(errors="replace").strip().splitlines() or ["failed"])[-1]
    return out.decode(), said if process.returncode else ""


def _keep(row: str, peer: str, trace: str) -> None:
    """The last observations of a rig, for details beyond the numbers."""
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{row}-{peer}.json").write_text(trace, encoding="utf-8")


def _is_isolated() -> bool:
    return not subprocess.run([sys.executable, "-m", "bench.faults.network"], cwd=ROOT, check=False).returncode
