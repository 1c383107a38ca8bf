"""Writes the report, as the results came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from statistics import mean, stdev

from bench.model_rotation import parameters as p
from bench.model_rotation.policies import BALANCER, IN_TURN, OURS, POLICIES
from bench.model_rotation.replay import Replayed, replay_lines
from bench.model_rotation.simulation import Scenario
from tentaculo.insight.rotation import FLOOR, GAMMA, PRIOR, SIGMA

Regrets = Mapping[Scenario, Mapping[str, Sequence[float]]]
"""The regret of each run, by scenario and policy."""


def render(regrets: Regrets, replayed: Sequence[Replayed], *, seed: int, design: Sequence[str], runs: int) -> str:
    """The whole document."""
    return "\n".join(_lines(regrets, replayed, seed=seed, design=design, runs=runs)) + "\n"


def of_bar(scenario: Scenario) -> bool:
    """Whether the bar's first half is about this scenario."""
    return scenario.calls == p.BAR_CALLS and not scenario.shifts and scenario.gap >= p.BAR_GAP


def ratio(ours: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """The ratio of two means with its interval of 95 %.

    By the delta method for pairs: both methods had the same draws in each run.
    """
    value = mean(ours) / mean(others)
    half = 1.96 * sqrt(_variance([one - value * other for one, other in zip(ours, others, strict=True)])) / mean(others)
    return value, value - half, value + half


def excess(ours: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """How much greater the mean of `ours` is, and half of the interval of 95 %, of pairs as in `ratio`."""
    differences = [one - other for one, other in zip(ours, others, strict=True)]
    return mean(differences), 1.96 * sqrt(_variance(differences))


def _variance(values: Sequence[float]) -> float:
    """Of their mean."""
    return stdev(values) ** 2 / len(values) if len(values) > 1 else 0.0


def _lines(
    regrets: Regrets, replayed: Sequence[Replayed], *, seed: int, design: Sequence[str], runs: int
) -> Iterator[str]:
    yield "# Model rotation: how good it is"
    yield ""
    yield (
        "[Configuration](configuration.md#model-rotation) says what model rotation is. This page is the output of"
        " `make eval`, as it came out; nothing in it was edited. It simulates groups of targets and counts the *regret*"
        " of each method: how much more the best target was expected to earn, summed over all calls. A simulation ranks"
        " designs. It promises nothing about your models: the status page and the access log have their rewards."
    )
    yield ""
    yield from _verdict(regrets)
    yield ""
    for shifts in p.SHIFTS:
        word = "Without shifts" if not shifts else "One shift" if shifts == 1 else f"{shifts} shifts"
        yield f"## {word}"
        yield ""
        yield from _table([one for one in regrets if one.shifts == shifts and one.gap], regrets)
        yield ""
    yield "## Equal success, unequal latency"
    yield ""
    yield (
        f"All targets succeed equally often; all but the best take {p.SLOWER:g} times as long. This is what a load balancer"
        " measures, and what the default weight of latency, 0.2, makes small."
    )
    yield ""
    yield from _table([one for one in regrets if one.is_of_latency], regrets)
    yield ""
    yield from replay_lines(replayed)
    yield ""
    yield from _method(seed, design, runs)


def _verdict(regrets: Regrets) -> Iterator[str]:
    found = {one: ratio(regrets[one][OURS], regrets[one][BALANCER]) for one in regrets if of_bar(one)}
    worst = max(found, key=lambda one: found[one][0])
    is_under = all(value <= p.BAR_RATIO for value, _, _ in found.values())
    yield (
        f"The bar was set before. At {p.BAR_CALLS} calls without shifts, for gaps of success of at least {p.BAR_GAP:g} and"
        f" equal latencies, at most 1/3 of the regret of {BALANCER}: **{'met' if is_under else 'missed'}**. The worst of"
        f" {len(found)} scenarios, {worst.targets} targets with a gap of {worst.gap:g}, has"
        f" {found[worst][0]:.2f} of it ({found[worst][1]:.2f} to {found[worst][2]:.2f})."
    )
    yield ""
    early = [one for one in regrets if one.calls == p.BAR_EARLY]
    worse = {one: excess(regrets[one][OURS], regrets[one][IN_TURN]) for one in early}
    bad = [one for one, (more, half) in worse.items() if more > half]
    names = "; ".join(
        f"{one.targets} targets, gap {one.gap:g}, {one.shifts} shifts: {worse[one][0]:+.1f} ± {worse[one][1]:.1f}"
        for one in bad
    )
    yield (
        f"At {p.BAR_EARLY} calls not significantly worse than {IN_TURN}: **{'missed' if bad else 'met'}** in"
        f" {len(early) - len(bad)} of {len(early)} scenarios{f'. Worse in: {names}' if bad else ''}."
    )


def _table(scenarios: Sequence[Scenario], regrets: Regrets) -> Iterator[str]:
    yield f"| targets | gap | shifts | calls | {' | '.join(POLICIES)} | beside {BALANCER} |"
    yield "|" + "---|" * (5 + len(POLICIES))
    for one in scenarios:
        cells = [f"{mean(runs):.1f} ± {1.96 * sqrt(_variance(runs)):.1f}" for runs in regrets[one].values()]
        value, low, high = ratio(regrets[one][OURS], regrets[one][BALANCER])
        gap = f"{one.gap:g}" if one.gap else "latency"
        yield (
            f"| {one.targets} | {gap} | {one.shifts} | {one.calls} | {' | '.join(cells)} |"
            f" {value:.2f} ({low:.2f}–{high:.2f}) |"
        )


def _method(seed: int, design: Sequence[str], runs: int) -> Iterator[str]:
    yield "## How it was measured"
    yield ""
    yield (
        f"- **Rewards** are 0 for a failure, else 1 − {p.LATENCY_WEIGHT:g} × min(1, latency / {p.LATENCY_LIMIT:g} s). Latencies"
        f" are log-normal with a median of {p.LATENCY:g} s and a deviation of {p.LATENCY_SPREAD:g} of the logarithm, the same"
        " for all targets but in the table of latency."
    )
    yield (
        f"- **The best target** succeeds with a probability from {p.BEST[0]:g} to {p.BEST[1]:g}, drawn for each run; every"
        " other one less often by the gap, which is the hardest case. A shift makes the next target the best one, after"
        " equal parts of the calls."
    )
    yield f"- **{p.IN_FLIGHT} calls are under way** at any time: what came of one is known so much later."
    yield (
        f"- **Runs**: {runs} of each scenario and method. Intervals are normal ones of 95 % over them; those of the ratio are"
        " by the delta method, and those that compare two methods are of pairs, since each run of both has the same draws. Regret is of expected rewards, so that the luck of single calls is not in it."
    )
    yield (
        "- **The order**: `bench/model_rotation/parameters.py` was committed first. Then γ, σ, the prior and the floor were"
        f" tuned on design seeds ({', '.join(design)}) and committed; then the seed of the evaluation ({seed}) was drawn."
        f" Tuned were γ {GAMMA:g}, σ {SIGMA:g}, prior {PRIOR:g} calls, floor {FLOOR:g} for each target. The issue's γ 0.995"
        " and floor 0.02 adapt faster to shifts, and missed the bar with six targets on the design seeds."
    )
    yield (
        f"- **The others**: {IN_TURN}; {BALANCER} of two random targets, which measures latency and nothing else, as the"
        " gateway's own balancer does for endpoints; ε-greedy with ε 0.1 and UCB1 over all calls of the run; and Thompson"
        " sampling with γ 1. What never forgets is best without shifts and worst with them."
    )
