"""What the page says in words: states, times, breakers, and the fleet in one sentence. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from tentaculo.model.health import BreakerState, BreakerView, Counts, Health, ServiceView, words_of
from tentaculo.model.text import format_duration, format_time, printable


class State(NamedTuple):
    """How one service's state is shown: never by colour alone."""

    key: str
    """Names its symbol and its accent in the template."""
    word: str
    phrase: str
    """As part of a sentence: `is …`."""


NOTHING = "\N{EN DASH}"
"""Shown where there is no number."""
_RANKS = {Health.DOWN: 0, Health.DEGRADED: 2, Health.MAINTENANCE: 3}
_CUT_OFF_RANK = 1
"""Services to look at, the most severe first: an open breaker comes after down and before degraded."""


def state(view: ServiceView) -> State:
    """How the health of a service is shown: the same health that metrics and log events name."""
    return _state_of(view.health)


def _state_of(health: Health) -> State:
    words = words_of(health)
    return State(health.value, words.label, words.phrase)


def is_cut_off(view: ServiceView) -> bool:
    """Whether an open breaker refuses the requests of a service that nothing else keeps from them."""
    return view.breaker.state is BreakerState.OPEN and view.health in (Health.UP, Health.DEGRADED, Health.UNKNOWN)


def phrase(view: ServiceView) -> str:
    """The state of a service as the predicate of `is ...`, with its breaker where that is open."""
    return state(view).phrase + (" with an open circuit breaker" if is_cut_off(view) else "")


def is_usable(view: ServiceView) -> bool:
    """Whether callers can use the service."""
    return view.health.is_healthy and view.breaker.state is not BreakerState.OPEN


def ago(then: datetime | None, now: datetime) -> str:
    """`then` as seen from `now`: `never`, `just now`, `8 s ago`."""
    if then is None:
        return "never"
    seconds = (now - then).total_seconds()
    return "just now" if seconds < 2 else f"{format_duration(seconds, units=1)} ago"


def share(part: float | None) -> str:
    """A part of a whole, cut and never rounded up: `99.98 %`; 100 % is said of nothing less."""
    if part is None:
        return NOTHING
    # The nearest thousandth first: 0.29 * 100 is a little less than 29.
    hundredths = math.floor(round(part * 10_000, 3))
    return f"{hundredths // 100}.{hundredths % 100:02} %" if hundredths % 100 else f"{hundredths // 100} %"


def latency(seconds: float | None) -> str:
    """A latency with two or three digits that mean something: `0.41 ms`, `12 ms`, `1.8 s`."""
    if seconds is None:
        return NOTHING
    if seconds >= 0.9995:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    milliseconds = seconds * 1000
    digits = 2 if milliseconds < 0.995 else 1 if milliseconds < 9.95 else 0
    return f"{milliseconds:.{digits}f} ms"


def breaker(view: BreakerView) -> str:
    """A breaker in words."""
    if view.state is BreakerState.OPEN:
        return (
            f"Open, next try in {format_duration(view.retry_after + 0.999, units=1)}"
            if view.retry_after > 0
            else "Open, next try is due"
        )
    if view.state is BreakerState.HALF_OPEN:
        return "Half open, tries one request"
    if view.failure_count:
        return f"Closed, {view.failure_count} failed in a row"
    return "Closed"


def counted(counts: Counts, noun: str) -> str:
    """`812 probes, 3 failed`; empty where there were none."""
    total = counts.ok + counts.failed
    if not total:
        return ""
    failed = f", {counts.failed:,} failed" if counts.failed else ""
    return f"{total:,} {noun}{'' if total == 1 else 's'}{failed}"


def headline(services: Sequence[ServiceView]) -> str:
    """The fleet in one sentence."""
    counted = [view for view in services if view.health.is_counted]
    if not services:
        return "No services are configured yet."
    if not counted:
        return "Every service is off on purpose."
    total = len(counted)
    healthy = sum(map(is_usable, counted))
    if healthy == total:
        return f"{counted[0].name} is healthy." if total == 1 else f"All {total} services are healthy."
    if all(view.health is Health.UNKNOWN for view in counted):
        return f"Waiting for the first check of {'1 service' if total == 1 else f'{total} services'}."
    if healthy == 0:
        return f"{counted[0].name} is {phrase(counted[0])}." if total == 1 else f"None of {total} services is healthy."
    return f"{healthy} of {total} services {'is' if healthy == 1 else 'are'} healthy."


def mood(services: Iterable[ServiceView]) -> State:
    """The most severe state among the services that count, for the symbol beside the headline."""
    counted = [view for view in services if view.health.is_counted]
    shown = {Health.DEGRADED if is_cut_off(view) else view.health for view in counted}
    ranked = sorted(shown & _RANKS.keys(), key=_RANKS.__getitem__)
    return _state_of(ranked[0] if ranked else Health.UP if Health.UP in shown else Health.UNKNOWN)


def troubled(services: Iterable[ServiceView]) -> list[ServiceView]:
    """The services that a person should look at: the most severe first, those that another one affects last."""
    found = [view for view in services if is_cut_off(view) or view.health in _RANKS]
    return sorted(
        found, key=lambda view: (view.root is not None, _CUT_OFF_RANK if is_cut_off(view) else _RANKS[view.health])
    )


def trouble(view: ServiceView, now: datetime) -> str:
    """What is wrong with a service, as the end of a sentence that starts with its name."""
    reason = view.breaker.reason if is_cut_off(view) else view.full_reason
    since = "" if is_cut_off(view) else f" since {format_time(view.since, now)}"
    return f"is {phrase(view)}{since}{': ' + printable(reason, 160) if reason else ''}"


def tally(services: Iterable[ServiceView]) -> str:
    """How many services are in each state: `8 up, 1 down, 1 off`."""
    counts = Counter(state(view).word.lower() for view in services)
    return ", ".join(f"{count} {word}" for word, count in counts.most_common())
