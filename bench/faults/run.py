"""Goes through the rows: as many rigs at a time as the machine bears, the proxies of a row together, round after round."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from bench.faults.catalogue import BY_NAME
from bench.faults.measures import measure
from bench.faults.options import Options
from bench.faults.peers import named
from bench.faults.rig import KEPT
from bench.faults.trace import Trace
from bench.peers.peer import ROOT
from bench.stats import Spread

_STOP = 15.0
LAG = 0.05
"""Seconds by which 99 % of the load may come late at most, for its numbers to count."""
_TRIES = 3


@dataclass(slots=True)
class Results:
    """What was measured: row → peer → round by round, the metrics."""

    samples: dict[str, dict[str, list[dict[str, float]]]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    """`row peer` → why a round of it has no numbers."""
    lag: float = 0.0
    """By how many seconds 99 % of the load came late at most, in the rig where that was worst."""
    repeated: int = 0
    """Rigs whose load came too late, and that were measured again."""
    seconds: float = 0.0
    """How long all of it took."""

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


class Capacity:
    """Lets rigs start in their order, as long as all that run send no more than `most` requests a second together."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._used = 0.0
        self._changed = asyncio.Condition()

    async def take(self, rate: float) -> None:
        """Wait until there is room. A rig that needs more than all of it runs alone."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._used or self._used + rate <= self._most)
            self._used += rate

    async def give_back(self, rate: float) -> None:
        """One has ended."""
        async with self._changed:
            self._used -= rate
            self._changed.notify_all()


class Run:
    """One run: what is to be measured, and what was."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._cases = list(_cases(options))
        self._begun = time.monotonic()
        self._done = 0
        self.results = Results()

    async def measure_all(self) -> None:
        """Measure every row behind every proxy, round after round."""
        # Without networks of their own the rigs would count each other's refused connections: one at a time then.
        capacity = Capacity(self._options.at_once if _is_isolated() else 0.0)
        async with asyncio.TaskGroup() as rigs:
            for row, peer, number in self._cases:
                rate = BY_NAME[row].fault.rate
                await capacity.take(rate)
                rigs.create_task(self._measure_within(capacity, rate, row, peer, number))
        self.results.seconds = time.monotonic() - self._begun

    async def _measure_within(self, capacity: Capacity, rate: float, row: str, peer: str, number: int) -> None:
        try:
            said = await self._measure(row, peer, number)
        finally:
            await capacity.give_back(rate)
        self._done += 1
        minutes = (time.monotonic() - self._begun) / self._done * (len(self._cases) - self._done) / 60
        where = f"[{self._done}/{len(self._cases)}, {minutes:.0f} min left]"
        print(f"{where:22} {row:16} {peer:14} {said}", file=sys.stderr, flush=True)

    async def _measure(self, row: str, peer: str, number: int) -> str:
        """One rig; another one where the machine was busy with something else, so that no proxy is blamed for that."""
        results = self.results
        for _ in range(_TRIES):
            out, failure = await _rig(
                peer, row, *self._options.phases(row, number), _probe_phase(self._options.rounds_of(row), number)
            )
            if failure:
                break
            trace = Trace.from_json(out)
            if trace.lag < LAG:
                _keep(row, peer, out)
                sample = measure(trace, BY_NAME[row])
                results.add(row, peer, sample)
                results.lag = max(results.lag, trace.lag)
                return "  ".join(f"{key} {value:,.1f}" for key, value in sample.items())
            failure = f"1 % of the load came {1000 * trace.lag:.0f} ms late or later: the machine is too busy"
            results.repeated += 1
        results.errors[f"{row} {peer}"] = failure
        return failure


async def run(options: Options) -> Results:
    """Measure. A rig that fails is reported and leaves its number out."""
    one = Run(options)
    await one.measure_all()
    return one.results


def _cases(options: Options) -> Iterator[tuple[str, str, int]]:
    return (
        (row, peer, number)
        for number in range(max(map(options.rounds_of, options.rows)))
        for row in options.rows
        if number < options.rounds_of(row)
        for peer in options.peers
        if BY_NAME[row].fault.overloads or not named(peer).limits
    )


def _probe_phase(rounds: int, number: int) -> float:
    """Where between two probes the fault begins in the round `number`, from 0 to 1: spread over the rounds evenly."""
    return (number + 0.5) / rounds


async def _rig(peer: str, row: str, lasts: float, after: float, phase: float) -> tuple[str, str]:
    """What a rig printed, or why it failed."""
    argv = (sys.executable, "-m", "bench.faults.rig", peer, row, str(lasts), str(after), str(phase))
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
