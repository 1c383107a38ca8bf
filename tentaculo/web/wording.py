"""What the page says in words: states, times, breakers, and the fleet in one sentence. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from tentaculo.model.health import (
    BreakerState,
    BreakerView,
    Counts,
    DegradedKind,
    EndpointView,
    Health,
    ServiceView,
    words_of,
)
from tentaculo.model.text import format_duration


class State(NamedTuple):
    """How the state of one service is shown: never by colour alone."""

    key: str
    """Names its symbol."""
    word: str
    phrase: str
    """As part of a sentence: `is …`."""
    tone: str
    """Names its colour: `up`, `slow`, `down`, `plan` or `off`."""

    @property
    def is_trouble(self) -> bool:
        """Whether a person should look at it."""
        return self.tone in ("down", "slow")


NOTHING = "\N{EN DASH}"
"""Shown where there is no number."""
_FAILING = State("failing", "Failing", "failing", "slow")
_SLOW = State("slow", "Slow", "slow", "slow")
_TONES = {
    Health.UP: "up",
    Health.DEGRADED: "slow",
    Health.DOWN: "down",
    Health.MAINTENANCE: "plan",
    Health.OFF: "off",
    Health.UNKNOWN: "off",
}
_WORST_FIRST = ("down", "failing", "degraded", "slow", "maintenance", "unknown", "up", "off")


def state(view: ServiceView) -> State:
    """How a service is shown. Behind an open breaker its requests fail."""
    return _FAILING if is_cut_off(view) else state_of(view.health, view.kind)


def state_of(health: Health, kind: DegradedKind | None = None) -> State:
    """How a health is shown, a degraded one with its kind."""
    if health is Health.DEGRADED and kind is not None:
        return _FAILING if kind is DegradedKind.FAILING else _SLOW
    words = words_of(health)
    return State(health.value, words.label, words.phrase, _TONES[health])


def rank(view: ServiceView) -> int:
    """The place of a service in a list with the worst first: 0 is down."""
    return _WORST_FIRST.index(state(view).key)


def is_cut_off(view: ServiceView) -> bool:
    """Whether an open breaker refuses the requests of a service that nothing else keeps from them."""
    return view.breaker.state is BreakerState.OPEN and view.health in (Health.UP, Health.DEGRADED, Health.UNKNOWN)


def is_usable(view: EndpointView) -> bool:
    """Whether requests can be sent to an address."""
    return view.health.is_healthy and view.breaker.state is not BreakerState.OPEN


def reason(view: ServiceView) -> str:
    """Why a service is in its state; empty for one that is up."""
    if is_cut_off(view):
        return f"its circuit breaker is open: {view.breaker.reason or view.reason}"
    return "" if view.health is Health.UP else view.reason


def ago(then: datetime | None, now: datetime) -> str:
    """`then` as seen from `now`: `never`, `just now`, `8 s ago`."""
    if then is None:
        return "never"
    seconds = (now - then).total_seconds()
    return "just now" if seconds < 2 else f"{format_duration(seconds, units=1)} ago"


def clock(moment: datetime, now: datetime) -> str:
    """A moment in the zone of `now`, with its date unless that is today: `14:02`, `27 Nov, 14:02`."""
    moment = moment.astimezone(now.tzinfo)
    return f"{moment:%H:%M}" if moment.date() == now.date() else f"{moment:%-d %b, %H:%M}"


def day(moment: datetime, now: datetime) -> str:
    """The day of a moment in the zone of `now`: `Today`, `Yesterday`, `27 Nov`, `27 Nov 2025`."""
    moment = moment.astimezone(now.tzinfo)
    days = (now.date() - moment.date()).days
    if days in (0, 1):
        return "Yesterday" if days else "Today"
    return f"{moment:%-d %b}" if moment.year == now.year else f"{moment:%-d %b %Y}"


def zone_name(moment: datetime) -> str:
    """The name of the zone of `moment` at that time: `UTC`, `CET`; `UTC-03` where a zone has no letters."""
    name = moment.tzname() or "UTC"
    return f"UTC{name}" if name[0] in "+-" else name


def rate(number: float | None) -> str:
    """A number a minute, with the digits that mean something: `0.2`, `64`, `1,240`."""
    if number is None:
        return NOTHING
    return f"{number:,.0f}" if number >= 9.95 or number == 0 else f"{number:.1f}"


def share(part: float | None) -> str:
    """A part of a whole, cut and never rounded up: `99.98 %`; 100 % is said of nothing less."""
    if part is None:
        return NOTHING
    # The nearest thousandth first: 0.29 * 100 is a little less than 29.
    hundredths = math.floor(round(part * 10_000, 3))
    return f"{hundredths // 100}.{hundredths % 100:02} %" if hundredths % 100 else f"{hundredths // 100} %"


def failed_share(part: float | None) -> str:
    """A part that failed: `38 %`, `0.03 %`. Of a few in a great number it never says none, and 100 % only of all."""
    if part is None:
        return NOTHING
    percent = part * 100
    if 0 < percent < 0.01:
        return "< 0.01 %"
    return f"{math.floor(percent + 1e-9)} %" if percent >= 10 or not percent else f"{percent:.2g} %"


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


def worst(services: Iterable[ServiceView]) -> list[ServiceView]:
    """The services of which the headline speaks: the worst of those that explain themselves, and of all if there are none.

    What fails because of another service is not the headline. Services that are off never are.
    """
    counted = [view for view in services if view.health.is_counted]
    ranks = {id(view): rank(view) for view in counted}
    candidates = [view for view in counted if view.root is None] or counted
    least = min((ranks[id(view)] for view in candidates), default=0)
    return [view for view in candidates if ranks[id(view)] == least]


def headline(services: Sequence[ServiceView]) -> str:
    """The worst true sentence about the fleet."""
    if not services:
        return "No services are configured yet."
    named = worst(services)
    if not named:
        return "Every service is off."
    counted = sum(view.health.is_counted for view in services)
    found = state(named[0])
    if found.key == "up":
        return "Everything is up." if counted > 1 else f"{named[0].name} is up."
    if len(named) == counted and counted > 1 and found.key != "unknown":
        return f"Everything is {found.phrase}."
    verb = "is" if len(named) == 1 else "are"
    sentence = f"{_subject([view.name for view in named])} {verb} {found.phrase}"
    affected = sum(view.root is not None and view.health is Health.DOWN for view in services)
    if found.key == "down" and affected:
        return f"{sentence}, and {count_of(affected, 'service')} with {'it' if len(named) == 1 else 'them'}."
    return f"{sentence}."


MOST_NAMED: Final = 3
"""Services that a sentence names."""


def _subject(names: Sequence[str]) -> str:
    return listed(names) if len(names) <= MOST_NAMED else count_of(len(names), "service")


def named_troubles(services: Iterable[ServiceView]) -> list[str]:
    """The names of the services with trouble that the headline names."""
    found = worst(services)
    return [view.name for view in found] if 0 < len(found) <= MOST_NAMED and state(found[0]).is_trouble else []


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: `a, b and c`; of many, the first three and how many more."""
    if len(names) > MOST_NAMED + 1:
        return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def count_of(number: int, noun: str) -> str:
    """`1 service`, `1,200 services`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
