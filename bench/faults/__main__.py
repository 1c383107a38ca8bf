"""The fault bench's command: break replicas, and write what came of it.

    python -m bench.faults [--quick] [--rows crash,hang] [--peers ours,nginx] [--rounds N] [--at-once N]
                           [--features balancing,hedging,limit]

A whole run writes docs/faults.md, but only if every number of it was measured, with a load that came on time; a trial
(fewer rows, peers or rounds) and a run that lacks a number write build/faults/trial.md. Either is printed. What each rig
saw last is kept in build/faults. The exit code is 0 whatever the verdict, and 1 where something could not be measured.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from bench import machine
from bench.faults import table
from bench.faults.options import parse
from bench.faults.rig import KEPT
from bench.faults.run import run
from bench.peers.peer import ROOT


def main() -> int:
    """The exit code."""
    options = parse(sys.argv[1:])
    # So that the rigs end with this too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    about = machine.describe()
    try:
        results = asyncio.run(run(options))
    except KeyboardInterrupt:
        return 130
    if not results.samples:
        print(f"bench.faults: nothing was measured: {results.errors}", file=sys.stderr)
        return 1
    page = table.document(results, options, about)
    is_published = not options.is_trial and not results.errors
    target = ROOT / "docs" / "faults.md" if is_published else KEPT / "trial.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    print(page)
    print(f"written: {target.relative_to(ROOT)}", file=sys.stderr)
    if results.errors:
        print(f"bench.faults: not published, since numbers are missing: {results.errors}", file=sys.stderr)
    return 1 if results.errors else 0


if __name__ == "__main__":
    sys.exit(main())
