"""Replays the access log of a gateway: what would other methods have earned with the recorded calls?

python -m bench.model_rotation.replay FILE
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from bench.model_rotation.policies import POLICIES, Policy

MOST_GROUPS = 20
ROUNDS = 20
"""Each method replays a log so many times, with other random numbers."""


class Call(NamedTuple):
    """One recorded call of a group."""

    target: str
    probability: float
    reward: float
    seconds: float


class Replayed(NamedTuple):
    """What one method earned in a log."""

    log: str
    method: str
    used: int
    of: int
    reward: float
    half: float
    """Half of the interval of 95 % around it, over calls."""


def read(lines: Iterable[str]) -> Mapping[str, Sequence[Call]]:
    """The calls by service in JSON lines of an access log. Others, and calls without a probability, are passed over."""
    found: dict[str, list[Call]] = {}
    for line in lines:
        try:
            record = json.loads(line)
            numbers = (float(record[name]) for name in ("probability", "reward", "ms"))
            probability, reward, milliseconds = numbers
            call = Call(str(record["target"]), probability, reward, milliseconds / 1000)
        except (ValueError, KeyError, TypeError):
            continue
        found.setdefault(str(record.get("service")), []).append(call)
    return dict(list(found.items())[:MOST_GROUPS])


def replay(log: str, calls: Sequence[Call], seed: str) -> list[Replayed]:
    """Every method over the calls of one group."""
    names = sorted({call.target for call in calls})
    if len(names) < 2:
        return []
    results = []
    for method, make in POLICIES.items():
        rewards: list[float] = []
        for number in range(ROUNDS):
            chance = random.Random(f"{seed} {number}")
            policy = make(len(names), chance)
            rewards += _earned(policy, _uniform(calls, chance), names)
        half = 1.96 * stdev(rewards) / sqrt(len(rewards) / ROUNDS) if len(rewards) > 1 else 0.0
        value = mean(rewards) if rewards else 0.0
        results.append(Replayed(log, method, len(rewards) // ROUNDS, len(calls), value, half))
    return results


def _uniform(calls: Sequence[Call], chance: random.Random) -> Iterable[Call]:
    """The calls, of which the more probable ones are kept less often: those that are left were chosen uniformly."""
    least = min(call.probability for call in calls)
    return (call for call in calls if chance.random() < least / call.probability)


def _earned(policy: Policy, calls: Iterable[Call], names: Sequence[str]) -> list[float]:
    """The rewards of the recorded calls that `policy` chooses too."""
    earned: list[float] = []
    moment = 0.0
    for call in calls:
        chosen = policy.choose(moment)
        if names[chosen] != call.target:
            policy.skip(chosen)
            continue
        moment += call.seconds
        earned.append(call.reward)
        policy.learn(chosen, call.reward, call.seconds, moment)
    return earned


def replay_file(file: Path, seed: str) -> list[Replayed]:
    """Every group of a log."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        groups = read(lines)
    return [one for name, calls in groups.items() for one in replay(f"{file.name}: {name}", calls, seed)]


def replay_lines(replayed: Sequence[Replayed]) -> Iterator[str]:
    """The section of the report."""
    yield "## Replay"
    yield ""
    if not replayed:
        yield "`make eval LOG=file` replays an access log of a gateway whose `rotation.floor` is 0.5. None was given."
        return
    yield (
        "A log is replayed by rejection (Li, Chu, Langford and Wang, 2011): a method is asked for each recorded call; where it"
        " chooses the recorded target, it earns and learns the recorded reward, else the call is passed over. That is"
        " without bias where the recorded choices were uniform. Calls with another probability are kept with a chance"
        " in proportion to the least one, so that those that are left are uniform."
    )
    yield ""
    yield "| log | method | calls used | of | mean reward |"
    yield "|---|---|---|---|---|"
    for one in replayed:
        yield f"| {one.log} | {one.method} | {one.used} | {one.of} | {one.reward:.3f} ± {one.half:.3f} |"


if __name__ == "__main__":
    for _line in replay_lines(replay_file(Path(sys.argv[1]), "replay")):
        print(_line)
