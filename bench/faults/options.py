"""What to run: from the command line, as `make faults` passes it on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from bench.faults.catalogue import BY_NAME, QUICK, ROWS
from bench.faults.peers import FEATURES, PEERS, variants

AT_ONCE = 350.0
"""Requests a second of all rigs together: about 0.6 of one processor core, the proxies and the replicas included."""
_QUICK_LASTS, _QUICK_AFTER = 8.0, 8.0


@dataclass(frozen=True, slots=True)
class Options:
    """One run."""

    rows: tuple[str, ...]
    peers: tuple[str, ...]
    rounds: int | None
    """Of each row; None for as many as its fault has durations."""
    at_once: float
    """Requests a second of all rigs that run at the same time; one rig may have more."""
    is_quick: bool
    is_trial: bool
    """Less than everything: what it writes is not the published page."""

    def rounds_of(self, row: str) -> int:
        """How often a row is measured."""
        return self.rounds or len(BY_NAME[row].fault.lasts)

    def phases(self, row: str, number: int) -> tuple[float, float]:
        """Seconds of the fault of a row in the round `number`, from 0 on, and of the traffic after it."""
        fault = BY_NAME[row].fault
        if self.is_quick:
            return _QUICK_LASTS, min(_QUICK_AFTER, fault.after)
        return fault.lasts[number % len(fault.lasts)], fault.after


def parse(argv: Sequence[str]) -> Options:
    """Read the command line; wrong usage ends the program with 2."""
    rows, peers = [row.name for row in ROWS], [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(
        prog="bench.faults", description="Broken replicas behind Tentáculo Link and peers."
    )
    parser.add_argument("--rows", default="", help=f"comma-separated; all: {','.join(rows)}")
    parser.add_argument("--peers", default="", help=f"comma-separated; all: {','.join(peers)}")
    parser.add_argument(
        "--features",
        help=f"also ours with and without these, comma-separated; all, if all peers run: {','.join(FEATURES)}",
    )
    parser.add_argument("--rounds", type=int, help="of each row; by default as many as its fault has durations")
    parser.add_argument(
        "--at-once",
        type=float,
        default=AT_ONCE,
        help=f"requests a second of all rigs together, default {AT_ONCE:.0f}; less takes longer, for a busy machine",
    )
    parser.add_argument("--quick", action="store_true", help=f"one short round of {', '.join(QUICK)}")
    given = parser.parse_args(argv)
    chosen_rows = _chosen(parser, "row", given.rows, rows)
    chosen_peers = _chosen(parser, "peer", given.peers, peers)
    wanted = given.features if given.features is not None or given.peers or given.quick else ",".join(FEATURES)
    features = _chosen(parser, "feature", wanted, FEATURES) if wanted else ()
    if (given.rounds is not None and given.rounds < 1) or given.at_once <= 0:
        parser.error("rounds and requests at once must be more than 0")
    is_whole = (chosen_rows, chosen_peers, features) == (tuple(rows), tuple(peers), FEATURES)
    is_trial = given.quick or not is_whole or given.rounds is not None
    chosen_peers += tuple(peer.name for peer in variants(features)) if features else ()
    if given.quick and not given.rows:
        chosen_rows = QUICK
    rounds = 1 if given.quick else given.rounds
    return Options(chosen_rows, chosen_peers, rounds, given.at_once, given.quick, is_trial)


def _chosen(parser: argparse.ArgumentParser, kind: str, given: str, known: Sequence[str]) -> tuple[str, ...]:
    names = [name.strip() for name in given.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no such {kind}: {', '.join(unknown)}. There are: {', '.join(known)}")
    return tuple(name for name in known if name in names) or tuple(known)
