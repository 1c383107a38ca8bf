"""The fault bench's command: break replicas, and write what came of it.

    python -m bench.faults [--quick] [--rows crash,hang] [--peers ours,nginx] [--rounds N] [--rows-at-once N]
                           [--features balancing,hedging,limit]

A whole run writes docs/faults.md; a trial (fewer rows, peers or rounds) build/faults/trial.md. Either is printed. What
each rig saw last is kept in build/faults. The exit code is 0 whatever the verdict, and 1 where nothing could be measured.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from bench import machine
from bench.faults import table
from bench.faults.options import parse
from bench.faults.run import KEPT, run
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
    target = KEPT / "trial.md" if options.is_trial else ROOT / "docs" / "faults.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    print(page)
    print(f"written: {target.relative_to(ROOT)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
