"""From what a rig saw to numbers. Pure.

- `detected`: seconds from the beginning of the fault to the moment from which, for two seconds, the broken replica gets
  less than a tenth of its share of the traffic. Trials and refused probes are so few that they are no use of it.
- `recovered`: seconds from the end of the fault to the moment from which, for one second, it gets most of its share
  again; where it is the only one, to the moment from which, for one second, callers get what they ask for.
- `failed`: requests from the beginning of the fault to the end of the load that got no answer, a cut one or a 5xx.
- `hurt`: those, and the ones that got a good answer after more than `LATE` seconds.
- `p99`: milliseconds within which 99 % of the same requests got a good answer; 30 s for each that did not.
- `ejected`: seconds in which a replica that works got less than a quarter of its share.

A time is infinite where it did not come to pass, and missing where it cannot.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import inf

from bench.faults.catalogue import LATE, PATIENCE, Row
from bench.faults.trace import Request, Trace
from bench.stats import percentile

_OUT, _OUT_SECONDS = 0.1, 2.0
_IN, _IN_SECONDS = 0.6, 1.0
_WELL = 0.95
_STEP, _EJECTED = 1.0, 0.25


def measure(trace: Trace, row: Row) -> dict[str, float]:
    """The metrics of one row behind one proxy."""
    share = trace.rate / trace.replicas
    counted = [request for request in trace.requests if request.due >= 0]
    found = {
        "failed": float(sum(_has_failed(request.status) for request in counted)),
        "hurt": float(sum(not _is_fine(request) for request in counted)),
        "asked": float(len(counted)),
        "p99": _p99(counted),
        "ejected": _ejected(trace.well, share, trace.finished) if trace.replicas > 1 else 0.0,
    }
    if row.fault.is_about_load:
        return {key: value for key, value in found.items() if key not in ("ejected", "shown", "recovered")}
    if row.fault.works:
        found["ejected"] += _ejected(trace.broken, share, trace.finished)
    if trace.shows:
        found["shown"] = inf if trace.shown is None else max(0.0, trace.shown)
    if row.replicas == 1:
        found["recovered"] = _served_again(trace)
    if row.fault.works or row.fault.flaps or row.fault.overloads:
        return found
    found["detected"] = _detected(trace.broken, share, trace.ended)
    if row.replicas > 1 and found["detected"] < inf:
        found["recovered"] = _used_again(trace.broken, share, trace.ended, trace.finished)
    return found


def _has_failed(status: int) -> bool:
    return status == 0 or status >= 500


def _p99(requests: Sequence[Request]) -> float:
    seconds = [PATIENCE if _has_failed(request.status) else request.seconds for request in requests]
    return 1000 * percentile(seconds, 99) if seconds else 0.0


def _is_fine(request: Request) -> bool:
    return not _has_failed(request.status) and request.seconds <= LATE


def _detected(moments: Sequence[float], share: float, ended: float) -> float:
    ranked = sorted(moment for moment in moments if moment >= 0)
    for position, moment in enumerate([0.0, *ranked]):
        if moment + _OUT_SECONDS > ended:
            break
        if bisect_left(ranked, moment + _OUT_SECONDS) - position < _OUT * share * _OUT_SECONDS:
            return moment
    return inf


def _used_again(moments: Sequence[float], share: float, ended: float, finished: float) -> float:
    ranked = sorted(moment for moment in moments if moment >= ended)
    for position, moment in enumerate(ranked):
        if moment + _IN_SECONDS > finished:
            break
        if bisect_left(ranked, moment + _IN_SECONDS) - position >= _IN * share * _IN_SECONDS:
            return moment - ended
    return inf


def _served_again(trace: Trace) -> float:
    ranked = sorted((r for r in trace.requests if r.due >= trace.ended), key=lambda request: request.due)
    good = list(map(_is_fine, ranked))
    span = int(trace.rate * _IN_SECONDS)
    for position in range(len(ranked) - span + 1):
        if good[position] and sum(good[position : position + span]) >= _WELL * span:
            return ranked[position].due - trace.ended
    return inf


def _ejected(moments: Sequence[float], share: float, finished: float) -> float:
    ranked = sorted(moments)
    steps = int(finished / _STEP)
    counts = (bisect_left(ranked, (step + 1) * _STEP) - bisect_left(ranked, step * _STEP) for step in range(steps))
    return _STEP * sum(count < _EJECTED * share * _STEP for count in counts)
