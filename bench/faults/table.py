"""docs/faults.md out of the results: the verdicts, a table for each row, how it was done, the machine."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import isinf

from bench.faults.catalogue import BY_NAME, CALM, FEW, LATE, METRICS, RATE, WELL, Metric, Row
from bench.faults.options import Options
from bench.faults.peers import BY_NAME as PEERS
from bench.faults.peers import OURS, named
from bench.faults.peers import PEERS as ALL_PEERS
from bench.faults.run import LAG, Results
from bench.faults.verdict import Verdict, judge, overall
from bench.peers.peer import program
from bench.process import BenchError
from bench.stats import Spread

JUDGED = ("haproxy", "nginx")
"""The proxies with which the gateway is compared first."""
_OTHERS = tuple(peer.name for peer in ALL_PEERS if peer is not OURS)
_INTRO = """\
# Broken replicas

Written by `make faults`; don't edit.{what}

A service with one, two or three replicas gets {rate:.0f} requests a second, four GETs and a POST in turn, each on its own
connection, on a fixed schedule that does not depend on the responses; a replica takes {work:.0f} ms for each. After {calm:.0f} seconds the first replica fails, for
{lasts} seconds (per round), and the load continues for {after:.0f} seconds after that; rows with other times or rates
say so. The fault begins at the same distance from a probe for every proxy, another one in each round. The proxies of a row are tested at about the same time, as many as have {at_once:.0f} requests a second together. Numbers
are medians over {rounds}, with the minimum and the maximum in parentheses where they differ. For every number less is better.

{lateness}

| number | meaning |
|---|---|
| out of use after | from the beginning of the fault until the failed replica gets less than a tenth of its share of the traffic for at least two seconds |
| shown after | until the proxy's own page or API shows that something is wrong; nginx has none in its free version |
| in use again after | from the end of the fault until the replica gets most of its share again; if it is the only one, until clients get successful responses again |
| failed | requests with no response, an incomplete one, or a 5xx, after the beginning of the fault |
| failed or late | those, and successful responses after more than {late:.0f} s |
| p99 | milliseconds within which 99 % of the requests were answered, 30 s for each that failed; it counts in the rows about load |
| healthy one out of use | seconds in which a replica that works got less than a quarter of its share |

"Never" means not during the fault. A dash means that there is nothing to measure: a proxy that never took a replica
out of use cannot use it again.
"""
_METHOD = """\
## How the proxies are set up

- All: 2 s to connect, 10 s for a response, keep-alive connections to the replicas. None retries a request that got a
  response, or a POST that was sent; all may try another replica if one cannot be reached.
- **Tentáculo Link**: its defaults, except those timeouts, `breaker = { open_for = 0.5 }` and `probe = { interval = 2, timeout = 2 }`, so it
  probes as often as HAProxy; both probe once a second during a change, and need three failures or two successes.
- It runs twice more, with and without these features: the choice by load and latency (or in turn), hedges, the limit of
  concurrency. By default hedges are off and the others on. Retries have no switch: they have a budget.
- **HAProxy**: active checks of `/health` every 2 s (its default), `fastinter 1s`, `fall 3`, `rise 2`; `observe layer7`,
  ten errors in a row mark a replica down; `option redispatch 1`, `retry-on conn-failure empty-response`, no replay of
  POST; sessions of a replica that goes down are ended.
- **nginx**: its free version, which evaluates traffic only: `max_fails=3 fail_timeout=10s`, `proxy_next_upstream` as it is.
- HAProxy and nginx also with least-connections balancing: round robin is the default of both, and HAProxy's manual
  recommends it for HTTP.
- In the row of an overload each has a limit of what is in flight besides: HAProxy `maxconn 32` with `timeout queue 500ms`,
  nginx `limit_conn 32`. An operator who has measured this service sets such numbers; Tentáculo Link learns its own.
  There a refused request counts like a late one.

What this does not show: after a hang that ends by itself, a replica may still respond to all waiting requests. If it is
the only replica, nginx keeps its clients waiting for up to 10 s and then serves them, while Tentáculo Link and HAProxy
refuse requests at once after the first 10 s.

The configurations are in `bench/faults/peers.py`, the faults in `bench/faults/catalogue.py`.
"""


def document(results: Results, options: Options, about: Mapping[str, str]) -> str:
    """The whole page."""
    rows = [BY_NAME[name] for name in options.rows if name in results.samples]
    parts = [_intro(options, results), _verdicts(rows, results), _switches(rows, options, results)]
    parts += [*(_section(row, options, results) for row in rows), _METHOD, _machine(options, about, results)]
    return "\n".join(parts)


def _intro(options: Options, results: Results) -> str:
    phases = _phases("crash", options)
    return _INTRO.format(
        what=" **A trial, not for publication.**" if options.is_trial else "",
        rate=RATE,
        work=1000 * WELL.work,
        calm=CALM,
        lasts=_joined(lasts for lasts, _ in phases),
        after=phases[0][1],
        at_once=options.at_once,
        rounds=_rounds(phases),
        late=LATE,
        lateness=_lateness(results),
    )


def _lateness(results: Results) -> str:
    """Whether the load came when it was due."""
    text = (
        f"The load came on time: in the worst rig whose numbers count, 99 % of the requests were sent at most"
        f" {1000 * results.lag:.0f} ms late, of {1000 * LAG:.0f} ms that are allowed."
    )
    if results.repeated:
        text += f" {results.repeated} times it came later, since the machine was busy; those numbers do not count."
    return text + f" The whole run took {results.seconds / 60:.0f} minutes."


def _joined(numbers: Iterable[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def _verdicts(rows: Sequence[Row], results: Results) -> str:
    lines = [
        "## Ours against the better of HAProxy and nginx",
        "",
        "Each number is compared with the better of the two; a row is worse if any number is worse. A difference of",
        f"at most half a second, {FEW} requests, 5 ms or a tenth counts as equal. The last column compares with the",
        "best of their variants with least-connections balancing as well.",
        "",
        "| fault | ours is | better in | worse in | variants too |",
        "|---|---|---|---|---|",
    ]
    tally: Counter[Verdict] = Counter()
    for row in rows:
        verdicts = judge(row, results.numbers(row.name), OURS.name, JUDGED)
        with_variants = judge(row, results.numbers(row.name), OURS.name, _OTHERS)
        tally[overall(verdicts)] += 1
        cells = [row.title, f"**{overall(verdicts).value}**"]
        cells += [_labels(verdicts, Verdict.BETTER), _labels(verdicts, Verdict.WORSE)]
        lines.append("| " + " | ".join([*cells, overall(with_variants).value]) + " |")
    counted = ", ".join(f"{verdict.value} in {tally[verdict]}" for verdict in Verdict)
    return "\n".join([*lines, "", f"Of {len(rows)} rows: {counted}.", ""])


def _switches(rows: Sequence[Row], options: Options, results: Results) -> str:
    """Ours with its features against ours without them; empty where no variant of ours ran."""
    variants = [name for name in options.peers if name.startswith("ours:")]
    if not variants:
        return ""
    every, none = variants
    lines = [
        "## With and without the features",
        "",
        f"The same comparison within Tentáculo Link: “{named(none).title}” against its defaults, and against “{named(every).title}”.",
        "",
        "| fault | the defaults are | better in | worse in | with the features named it is | better in | worse in |",
        "|---|---|---|---|---|---|---|",
    ]
    tallies = {name: Counter[Verdict]() for name in (OURS.name, every)}
    for row in rows:
        cells = [row.title]
        for name, tally in tallies.items():
            verdicts = judge(row, results.numbers(row.name), name, [none])
            tally[overall(verdicts)] += 1
            cells += [
                f"**{overall(verdicts).value}**",
                _labels(verdicts, Verdict.BETTER),
                _labels(verdicts, Verdict.WORSE),
            ]
        lines.append(f"| {' | '.join(cells)} |")
    counted = (", ".join(f"{verdict.value} in {tally[verdict]}" for verdict in Verdict) for tally in tallies.values())
    return "\n".join(
        [*lines, "", "Of {} rows: the defaults {}; with the features named {}.".format(len(rows), *counted), ""]
    )


def _labels(verdicts: Mapping[str, Verdict], wanted: Verdict) -> str:
    labels = {metric.key: metric.label.removesuffix(", s").removesuffix(", ms") for metric in METRICS}
    return ", ".join(labels[key] for key, verdict in verdicts.items() if verdict is wanted) or "–"


def _section(row: Row, options: Options, results: Results) -> str:
    numbers = results.numbers(row.name)
    lines = [
        f"## {row.title[0].upper()}{row.title[1:]}",
        "",
        f"{row.fault.how[0].upper()}{row.fault.how[1:]}.{_own_phases(row, options)}",
        "",
        "| proxy | " + " | ".join(metric.label for metric in METRICS) + " |",
        "|---" * (len(METRICS) + 1) + "|",
    ]
    for peer in [*ALL_PEERS, *(named(name) for name in numbers if name.startswith("ours:"))]:
        if found := numbers.get(peer.name):
            title = f"**{peer.title}**" if peer is OURS else peer.title
            lines.append(f"| {title} | " + " | ".join(_cell(metric, found) for metric in METRICS) + " |")
    return "\n".join([*lines, ""])


def _own_phases(row: Row, options: Options) -> str:
    """What differs from the other rows."""
    phases = _phases(row.name, options)
    if (row.fault.rate, phases) == (RATE, _phases("crash", options)):
        return ""
    lasts, (_, after) = _joined(one for one, _ in phases), phases[0]
    return (
        f" Here {row.fault.rate:.0f} requests a second in {_rounds(phases)}; the fault lasts {lasts} seconds,"
        f" with {after:g} seconds after it."
    )


def _phases(row: str, options: Options) -> list[tuple[float, float]]:
    return [options.phases(row, number) for number in range(options.rounds_of(row))]


def _rounds(phases: Sequence[object]) -> str:
    return "one round" if len(phases) == 1 else f"{len(phases)} rounds"


def _cell(metric: Metric, found: Mapping[str, Spread]) -> str:
    spread = found.get(metric.key)
    if spread is None:
        return "–"
    shown = [_number(value, metric.digits) for value in (spread.median, spread.low, spread.high)]
    text = shown[0] if shown[1] == shown[2] else f"{shown[0]} ({shown[1]}–{shown[2]})"
    if metric.key in ("failed", "hurt") and (asked := found.get("asked")):
        text += f", {spread.median / asked.median:.1%}"
    return text


def _number(value: float, digits: int) -> str:
    return "never" if isinf(value) else f"{value:,.{digits}f}"


def _machine(options: Options, about: Mapping[str, str], results: Results) -> str:
    lines = ["## Machine", "", *(f"- {key}: {value}" for key, value in about.items())]
    lines += [f"- {PEERS[name].title}: {_version(PEERS[name].version)}" for name in options.peers if name in _TOLD]
    lines += [f"- failed: {what}: {why}" for what, why in results.errors.items()]
    return "\n".join([*lines, ""])


_TOLD = (OURS.name, *JUDGED)


def _version(argv: Sequence[str]) -> str:
    try:
        found = program(argv[0])
    except BenchError:
        return "not installed"
    done = subprocess.run([found, *argv[1:]], capture_output=True, text=True, check=False, timeout=30)  # noqa: S603 - the peers' own
    return ((done.stdout + done.stderr).strip().splitlines() or ["?"])[0]
