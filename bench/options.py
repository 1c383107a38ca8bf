"""What to measure: from the command line, as `make bench` passes it on."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

from bench.catalogue import BY_NAME, CASES, QUICK
from bench.peers.registry import BASELINE

ROUNDS, SECONDS = 3, 3.0


@dataclass(frozen=True, slots=True)
class Options:
    """One run."""

    cases: tuple[str, ...]
    peers: tuple[str, ...]
    rounds: int
    seconds: float
    proxy_core: int
    load_core: int
    is_trial: bool
    """Shorter than it should be, with fewer peers or with another checkout: its tables are not the published ones."""
    only_render: bool


def parse(argv: Sequence[str], known_peers: Sequence[str]) -> Options:
    """Read the command line; wrong usage ends the program with 2."""
    parser = argparse.ArgumentParser(prog="bench", description="Tentáculo Link and its peers on one core.")
    parser.add_argument("--cases", default="", help=f"comma-separated, or quick; all: {','.join(BY_NAME)}")
    parser.add_argument("--peers", default="", help=f"comma-separated; all: {','.join(known_peers)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of each measurement; default {SECONDS:g}")
    parser.add_argument("--proxy-core", type=int, default=0, help="default 0")
    parser.add_argument("--load-core", type=int, default=1, help="of the load and the upstream; default 1")
    parser.add_argument("--render", action="store_true", help="write the tables of what was measured before")
    given = parser.parse_args(argv)
    cases = _chosen(parser, "case", given.cases, [case.name for case in CASES])
    peers = _chosen(parser, "peer", given.peers, known_peers)
    if given.rounds < 1 or given.seconds <= 0:
        parser.error("rounds and seconds must be more than 0")
    cores = sorted(os.sched_getaffinity(0))
    if not {given.proxy_core, given.load_core} <= set(cores):
        parser.error(f"the cores here are {cores}; with fewer than two, nothing can be compared")
    is_partial = len(peers) < len(known_peers) or BASELINE in peers
    is_trial = is_partial or given.rounds < ROUNDS or given.seconds < SECONDS
    return Options(
        *(cases, peers, given.rounds, given.seconds, given.proxy_core, given.load_core, is_trial, given.render)
    )


def _chosen(parser: argparse.ArgumentParser, kind: str, given: str, known: Sequence[str]) -> tuple[str, ...]:
    if given == "quick" and kind == "case":
        return QUICK
    names = [name.strip() for name in given.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no such {kind}: {', '.join(unknown)}. There are: {', '.join(known)}")
    return tuple(name for name in known if name in names) or tuple(known)
