"""docs/benchmark.md out of the results: targets, a table for each case, the machine, versions, commands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from bench.catalogue import BY_NAME, Case, Metric, Target
from bench.results import BEFORE, CaseResult
from bench.stats import Spread, ratios

OURS, REFERENCE = "ours", "nginx"
_INTRO = """\
# Benchmark

Written by `make bench`; don't edit. {what}

One core for the proxy, another for the load and the upstream. Each round measures every proxy once, in turn, so that a
machine that gets slower meanwhile is the same for all; ratios are made within a round. A cell is the median over the
rounds, with the least and the most in parentheses. Every proxy keeps its connections to the upstream, sets the forwarded
headers, and gets the same nine request headers. Tentáculo Link has its defaults on: token check, request id, metrics,
breaker, health probes, database, access log (to a file); the others log no requests unless the table says so.

Where the row of the upstream itself is close to the fastest proxies, it is the load and the upstream that bound those:
`proxy busy` says how much of its core a proxy used.
"""
_SLOW = (
    "Slow is the part of five seconds, before the case, in which one of the two cores did fixed work at less than half of "
    "its usual speed. Where it is more than 1 %, a p99 is as much the machine's as the proxy's; the host of a virtual "
    "machine pauses it without a trace in /proc/stat."
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A target, and what became of it."""

    case: Case
    target: Target
    against: str
    """What it is compared with, in words; empty for a value that stands alone."""
    reached: Spread | None

    @property
    def is_met(self) -> bool | None:
        """By the median; None where it was not measured."""
        if self.reached is None:
            return None
        median, bound = self.reached.median, self.target.bound
        return median >= bound if self.target.at_least else median <= bound


def document(results: Sequence[CaseResult], *, is_trial: bool) -> str:
    """The whole page."""
    what = "**A trial: short, or with few peers; not for publication.**" if is_trial else ""
    parts = [_INTRO.format(what=what).replace("edit. \n", "edit.\n"), _targets(results)]
    parts += [_section(result) for result in results]
    parts += [_machine(results), _versions(results), _commands(results)]
    return "\n".join(parts)


def judge(result: CaseResult) -> list[Judgement]:
    """Ours against each target of the case."""
    case = BY_NAME[result.case]
    return [_judge(result, case, target) for target in case.targets]


def _judge(result: CaseResult, case: Case, target: Target) -> Judgement:
    ours = result.values(OURS, target.metric)
    if not target.peers:
        return Judgement(case, target, "", Spread.of(ours.values()))
    found = {peer: result.values(peer, target.metric) for peer in target.peers}
    medians = {peer: spread.median for peer, values in found.items() if (spread := Spread.of(values.values()))}
    names = " or ".join(result.titles.get(peer, peer) for peer in target.peers)
    if not medians:
        return Judgement(case, target, names, None)
    best = (max if target.at_least else min)(medians, key=lambda peer: medians[peer])
    return Judgement(case, target, result.titles.get(best, best), ratios(ours, found[best]))


def cell(spread: Spread | None, digits: int) -> str:
    """Median, least and most."""
    if spread is None:
        return "–"
    middle, low, high = (f"{value:,.{digits}f}" for value in (spread.median, spread.low, spread.high))
    return middle if spread.count == 1 else f"{middle} ({low}–{high})"


def _targets(results: Sequence[CaseResult]) -> str:
    lines = ["## Targets", "", "| case | target | reached | |", "|---|---|---|---|"]
    for result in results:
        for judged in judge(result):
            metric = _metric(judged.case, judged.target.metric)
            bound = f"{'≥' if judged.target.at_least else '≤'} {judged.target.bound:g}"
            asked = (
                f"{metric.label} {bound} × {judged.against}"
                if judged.against
                else f"{metric.label} {bound} {metric.unit}"
            )
            digits = 2 if judged.against else metric.digits
            verdict = {True: "met", False: "**missed**", None: "not measured"}[judged.is_met]
            lines.append(f"| {judged.case.title} | {asked.strip()} | {cell(judged.reached, digits)} | {verdict} |")
    return "\n".join([*lines, ""])


def _metric(case: Case, key: str) -> Metric:
    return next(metric for metric in case.metrics if metric.key == key)


def _section(result: CaseResult) -> str:
    case = BY_NAME[result.case]
    has_reference = REFERENCE in result.titles
    heads: list[str] = []
    for metric in case.metrics:
        heads.append(f"{metric.label}, {metric.unit}" if metric.unit else metric.label)
        if metric.compared and has_reference:
            heads.append("÷ nginx")
    rows = [["", *heads], ["---", *("---:" for _ in heads)]]
    rows += [
        [f"**{title}**" if peer == OURS else title, *_cells(result, case, peer)]
        for peer, title in result.titles.items()
    ]
    failures = [f"{result.titles[peer]}: {error}." for peer in result.titles for error in result.errors(peer)]
    return "\n".join(
        [
            f"## {case.title}",
            "",
            f"How: {case.how}. {_times(result.rounds)} of {result.seconds:g} s.",
            "",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            *(line for failure in failures for line in (f"Failed: {_plain(failure)}", "")),
        ]
    )


def _cells(result: CaseResult, case: Case, peer: str) -> list[str]:
    cells: list[str] = []
    for metric in case.metrics:
        values = result.values(peer, metric.key)
        cells.append(
            "failed" if not values and result.errors(peer) else cell(Spread.of(values.values()), metric.digits)
        )
        if metric.compared and REFERENCE in result.titles:
            cells.append(cell(ratios(values, result.values(REFERENCE, metric.key)), 2))
    return cells


def _times(rounds: int) -> str:
    return "One round" if rounds == 1 else f"{rounds} rounds"


def _plain(text: str) -> str:
    return text.split("\n")[0][:300].replace("|", "/").replace("<", "(").replace(">", ")")


def _machine(results: Sequence[CaseResult]) -> str:
    lines = ["## Machine", ""]
    seen: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for result in results:
        same = tuple((key, value) for key, value in result.machine.items() if key not in BEFORE)
        measured, load, slow = (result.machine.get(key, "?") for key in BEFORE)
        seen.setdefault(same, []).append(f"{result.case} {measured}, load average {load}, slow {slow}")
    for same, cases in seen.items():
        lines += [f"- {key}: {value}" for key, value in same]
        lines += ["- measured: " + "; ".join(cases), ""]
    lines += [_SLOW, ""]
    return "\n".join(lines)


def _versions(results: Sequence[CaseResult]) -> str:
    titles = {peer: title for result in results for peer, title in result.titles.items()}
    notes = {peer: note for result in results for peer, note in result.notes.items() if peer in titles}
    return "\n".join(["## Versions", "", *(f"- {titles[peer]}: {notes[peer]}" for peer in titles if peer in notes), ""])


def _commands(results: Sequence[CaseResult]) -> str:
    """Each proxy's and each load's first command line; they differ in ports, paths and numbers only."""
    known = {name: argv for result in reversed(results) for name, argv in result.commands.items()}
    lines = [
        "## Commands",
        "",
        "As they were run; `$WORK` is the temporary folder with the configuration files, which",
        "`bench/peers` writes.",
        "",
        "```sh",
    ]
    lines += [f"# {name}\n{_shell(known[name])}" for name in sorted(known)]
    return "\n".join([*lines, "```", ""])


def _shell(argv: Sequence[str]) -> str:
    return " ".join(map(_quoted, argv))


def _quoted(part: str) -> str:
    """As a shell takes it; `$WORK` stays a variable."""
    return '"$WORK"'.join(shlex.quote(piece) if piece else "" for piece in part.split("$WORK")) or "''"
