"""The benchmark's command: measure, then write the tables and the plot.

    python -m bench [--cases get,post|quick] [--peers ours,nginx] [--rounds N] [--seconds S] [--render]

Results are kept under build/bench, a file for each case; docs/benchmark.md and .svg are made of all that are there. A
trial (fewer peers, rounds or seconds than usual) is kept and written under build/bench/trial instead.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from bench import plot, results, run, table
from bench.options import parse
from bench.peers.peer import ROOT
from bench.peers.registry import peers
from bench.process import BenchError

_KEPT = ROOT / "build" / "bench"


def main() -> int:
    """The exit code: 0, or 1 where nothing could be measured."""
    # So that the proxies end with this too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    known = peers()
    options = parse(sys.argv[1:], [peer.name for peer in known])
    kept = _KEPT / "trial" if options.is_trial else _KEPT
    try:
        if not options.only_render:
            run.run(options, known, kept)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    found = results.load(kept)
    _write(kept if options.is_trial else ROOT / "docs", found, is_trial=options.is_trial)
    return 0


def _write(folder: Path, found: list[results.CaseResult], *, is_trial: bool) -> None:
    page, picture = folder / "benchmark.md", folder / "benchmark.svg"
    page.write_text(table.document(found, is_trial=is_trial), encoding="utf-8")
    picture.write_text(plot.svg(found), encoding="utf-8")
    print(f"written: {page.relative_to(ROOT)}, {picture.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
