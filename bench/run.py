"""Goes through the cases: every peer in turn, round after round."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from bench import machine, process, upstream
from bench.bed import Bed
from bench.measure import MEASURES
from bench.options import Options
from bench.peers.peer import ROOT, Peer, program
from bench.process import BenchError
from bench.results import CaseResult, Sample

_NUMBER = re.compile(r"(?<![\d.])\d+\.\d+[\w.+-]*")


def run(options: Options, peers: list[Peer], folder: Path) -> None:
    """Measure every chosen case, and save each in `folder` when it is done."""
    chosen = [peer for peer in peers if peer.name in options.peers]
    notes = {peer.name: _describe(peer) for peer in chosen}
    with _bed(options) as bed:
        for case in options.cases:
            result = CaseResult(
                case,
                {**machine.describe(), **_before(options)},
                options.seconds,
                options.rounds,
                {peer.name: peer.title for peer in chosen if peer.takes(case)},
                {name: note for name, note in notes.items() if note},
            )
            bed.commands = result.commands
            try:
                for number in range(1, options.rounds + 1):
                    for peer in chosen:
                        if peer.takes(case):
                            result.samples.append(_sample(bed, case, peer, number))
            finally:
                bed.stop_all()
            result.commands.update({name: _tidy(argv, bed) for name, argv in result.commands.items()})
            result.save(folder)


@contextmanager
def _bed(options: Options) -> Iterator[Bed]:
    process.raise_descriptor_limit()
    folder = Path(mkdtemp(prefix="tentaculo-bench-"))
    folder.chmod(0o755)
    ports = process.free_ports()
    try:
        (folder / "upstream").mkdir()
        with upstream.running(folder / "upstream", options.load_core, ports) as (web, live):
            bed = Bed(options, web, live, folder, ports)
            try:
                yield bed
            finally:
                bed.stop_all()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _before(options: Options) -> dict[str, str]:
    """How busy the machine and its host are, by the keys of `results.BEFORE`."""
    slow = max(machine.slow_share(core) for core in (options.proxy_core, options.load_core))
    return {"load average": f"{machine.load_average():.1f}", "slow": f"{slow:.1%}"}


def _sample(bed: Bed, case: str, peer: Peer, number: int) -> Sample:
    try:
        sample = Sample(peer.name, number, MEASURES[case](bed, peer))
    except BenchError as error:
        sample = Sample(peer.name, number, error=str(error))
    shown = "  ".join(f"{key} {value:,.2f}" for key, value in sample.values.items())
    print(f"{case:12} round {number}  {peer.name:12} {shown or sample.error}", file=sys.stderr, flush=True)
    return sample


def _describe(peer: Peer) -> str:
    return "; ".join(part for part in (_version(peer), peer.note) if part)


def _version(peer: Peer) -> str:
    if not peer.version:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - the peers' own programs
            [program(peer.version[0]), *peer.version[1:]],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd=ROOT,
        )
    except (BenchError, OSError):
        return "not installed"
    said = done.stdout + done.stderr
    found = _NUMBER.search(said)
    return said.strip() if " on " in said else found[0] if found else "?"


def _tidy(argv: list[str], bed: Bed) -> list[str]:
    """Without this machine's paths."""
    return [part.replace(f"{bed.folder}", "$WORK").replace(f"{ROOT}/", "").replace(f"{ROOT}", ".") for part in argv]
