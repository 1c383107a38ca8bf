"""What to run: from the command line, as `make faults` passes it on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from bench.faults.catalogue import AFTER, LASTS, QUICK, ROWS
from bench.faults.peers import FEATURES, PEERS, variants

_QUICK_LASTS, _QUICK_AFTER = (8.0,), 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """One run."""

    rows: tuple[str, ...]
    peers: tuple[str, ...]
    lasts: tuple[float, ...]
    """Seconds of the fault, round by round."""
    after: float
    rows_at_once: int
    is_trial: bool
    """Less than everything: what it writes is not the published page."""


def parse(argv: Sequence[str]) -> Options:
    """Read the command line; wrong usage ends the program with 2."""
    rows, peers = [row.name for row in ROWS], [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(
        prog="bench.faults", description="Broken replicas behind Tentáculo Link and peers."
    )
    parser.add_argument("--rows", default="", help=f"comma-separated; all: {','.join(rows)}")
    parser.add_argument("--peers", default="", help=f"comma-separated; all: {','.join(peers)}")
    parser.add_argument(
        "--features", default="", help=f"also ours with and without these, comma-separated: {','.join(FEATURES)}"
    )
    parser.add_argument("--rounds", type=int, default=len(LASTS), help=f"default {len(LASTS)}")
    parser.add_argument(
        "--rows-at-once", type=int, default=1, help="default 1; more takes less time on an idle machine"
    )
    parser.add_argument("--quick", action="store_true", help=f"one short round of {', '.join(QUICK)}")
    given = parser.parse_args(argv)
    chosen_rows = _chosen(parser, "row", given.rows, rows)
    chosen_peers = _chosen(parser, "peer", given.peers, peers)
    features = _chosen(parser, "feature", given.features, FEATURES) if given.features else ()
    if given.rounds < 1 or given.rows_at_once < 1:
        parser.error("rounds and rows at once must be more than 0")
    lasts = tuple(LASTS[number % len(LASTS)] for number in range(given.rounds))
    is_trial = given.quick or (chosen_rows, chosen_peers) != (tuple(rows), tuple(peers)) or len(lasts) < len(LASTS)
    chosen_peers += tuple(peer.name for peer in variants(features)) if features else ()
    if given.quick:
        chosen_rows = chosen_rows if given.rows else QUICK
        return Options(chosen_rows, chosen_peers, _QUICK_LASTS, _QUICK_AFTER, given.rows_at_once, is_trial)
    return Options(chosen_rows, chosen_peers, lasts, AFTER, given.rows_at_once, is_trial)


def _chosen(parser: argparse.ArgumentParser, kind: str, given: str, known: Sequence[str]) -> tuple[str, ...]:
    names = [name.strip() for name in given.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no such {kind}: {', '.join(unknown)}. There are: {', '.join(known)}")
    return tuple(name for name in known if name in names) or tuple(known)
