"""What the page says in words: states, times, breakers, and the fleet in one sentence. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

from markupsafe import Markup

from tentaculo.model.health import (
    BreakerState,
    BreakerView,
    Counts,
    DegradedKind,
    EndpointView,
    Health,
    ServiceView,
)
from tentaculo.model.service_rates import share_interval
from tentaculo.model.text import printable
from tentaculo.web import reasons
from tentaculo.web.languages import Language, language


class State(NamedTuple):
    """How the state of one service is shown: never by colour alone."""

    key: str
    """Names its symbol."""
    word: str
    tone: str
    """Names its colour: `up`, `slow`, `down`, `plan` or `off`."""

    @property
    def is_trouble(self) -> bool:
        """Whether a person should look at it."""
        return self.tone in ("down", "slow")

    @property
    def sign(self) -> Markup:
        """Its symbol in its colour."""
        return symbol(self.key, self.tone)


_SYMBOL = Markup('<svg class="i {}" viewBox="0 0 24 24" aria-hidden="true"><use href="#i-{}"/></svg>')


@lru_cache(maxsize=256)
def symbol(key: str, tone: str = "") -> Markup:
    """The symbol with this key, which `parts.symbols` has, in the colour of `tone`."""
    return _SYMBOL.format(tone, key)


NOTHING = "\N{EN DASH}"
"""Shown where there is no number."""
MOST_CHOICES: Final = 100
"""Services among which one chooses in a form. Of more, the name is typed, and some are proposed."""
ENGLISH = language("en")
"""Of what programs read: documents and feeds."""
_TONES = {
    "down": "down",
    "failing": "slow",
    "degraded": "slow",
    "slow": "slow",
    "maintenance": "plan",
    "unknown": "off",
    "up": "up",
    "off": "off",
}
"""The tone of each state by its key, the worst first."""
_RANKS: Final = {key: place for place, key in enumerate(_TONES)}


def state_key(view: ServiceView) -> str:
    """The key of the state of a service. Behind an open breaker its requests fail."""
    return "failing" if is_cut_off(view) else key_of(view.health, view.kind)


def key_of(health: Health, kind: DegradedKind | None = None) -> str:
    """The key of a health, of a degraded one with its kind."""
    return kind.value if health is Health.DEGRADED and kind is not None else health.value


def tone_of(key: str) -> str:
    """The tone of the state of a key."""
    return _TONES[key]


def is_trouble(view: ServiceView) -> bool:
    """Whether a person should look at a service."""
    return _TONES[state_key(view)] in ("down", "slow")


def state(view: ServiceView, t: Language) -> State:
    """How a service is shown."""
    return state_of_key(state_key(view), t)


def state_of(health: Health, kind: DegradedKind | None = None, *, t: Language) -> State:
    """How a health is shown, a degraded one with its kind."""
    return state_of_key(key_of(health, kind), t)


@lru_cache(maxsize=64)
def state_of_key(key: str, t: Language) -> State:
    """How the state of a key is shown."""
    return State(key, t(f"state.{key}"), _TONES[key])


def predicate(key: str, count: int, t: Language) -> str:
    """What a sentence says of `count` services in a state: `is down`, `are down`."""
    return t(f"state.is_{key}", count=count)


def rank(view: ServiceView) -> int:
    """The place of a service in a list with the worst first: 0 is down."""
    return _RANKS[state_key(view)]


def is_trouble_rank(place: int) -> bool:
    """Whether a person should look at a service of this rank."""
    return place <= _RANKS["slow"]


def is_cut_off(view: ServiceView) -> bool:
    """Whether an open breaker refuses the requests of a service that nothing else keeps from them."""
    return view.breaker.state is BreakerState.OPEN and view.health in (Health.UP, Health.DEGRADED, Health.UNKNOWN)


def is_usable(view: EndpointView) -> bool:
    """Whether requests can be sent to an address."""
    return view.health.is_healthy and view.breaker.state is not BreakerState.OPEN


def reason(view: ServiceView, t: Language, most: int = 300) -> str:
    """Why a service is in its state, in `most` characters; empty for one that is up. See `reasons.said`."""
    if is_cut_off(view):
        breaker = view.breaker
        text, cause = (breaker.reason, breaker.cause) if breaker.reason else (view.reason, view.cause)
        return t("state.cut_off", reason=reasons.said(text, cause, t, most))
    return "" if view.health is Health.UP else reasons.said(view.reason, view.cause, t, most)


def ago(then: datetime | None, now: datetime, t: Language) -> str:
    """`then` as seen from `now`: `never`, `just now`, `8 s ago`."""
    if then is None:
        return t("common.never")
    seconds = (now - then).total_seconds()
    return t("common.just_now") if seconds < 2 else t("common.ago", duration=t.duration(seconds))


def clock(moment: datetime, now: datetime, t: Language) -> str:
    """A moment in the zone of `now`, with its date unless that is today: `14:02`, `27 Nov, 14:02`."""
    moment = moment.astimezone(now.tzinfo)
    return f"{moment:%H:%M}" if moment.date() == now.date() else f"{t.short_date(moment)}, {moment:%H:%M}"


def day(moment: datetime, now: datetime, t: Language) -> str:
    """The day of a moment in the zone of `now`: `Today`, `Yesterday`, `27 Nov`, `27 Nov 2025`."""
    moment = moment.astimezone(now.tzinfo)
    days = (now.date() - moment.date()).days
    if days in (0, 1):
        return t("common.yesterday") if days else t("common.today")
    return t.short_date(moment, year=moment.year != now.year)


def choices(services: Iterable[str]) -> list[str]:
    """The services among which one chooses in a form; none where they are too many for a list."""
    found = sorted(set(services))
    return found if len(found) <= MOST_CHOICES else []


def zone_name(moment: datetime) -> str:
    """The name of the zone of `moment` at that time: `UTC`, `CET`; `UTC-03` where a zone has no letters."""
    name = moment.tzname() or "UTC"
    return f"UTC{name}" if name[0] in "+-" else name


def rate(number: float | None, t: Language) -> str:
    """A number a minute, with the digits that mean something: `0.2`, `64`, `1,240`."""
    if number is None:
        return NOTHING
    return t.number(number, 0 if number >= 9.95 or number == 0 else 1)


def share(part: float | None, t: Language) -> str:
    """A part of a whole, cut and never rounded up: `99.98 %`; 100 % is said of nothing less."""
    if part is None:
        return NOTHING
    # The nearest thousandth first: 0.29 * 100 is a little less than 29.
    hundredths = math.floor(round(part * 10_000, 3))
    return f"{t.number(hundredths / 100, 2 if hundredths % 100 else 0)} %"


def failed_share(part: float | None, t: Language) -> str:
    """A part that failed: `38 %`, `0.03 %`. Of a few in a great number it never says none, and 100 % only of all."""
    if part is None:
        return NOTHING
    percent = part * 100
    if 0 < percent < 0.01:
        return f"< {t.number(0.01, 2)} %"
    if percent >= 10 or not percent:
        return f"{math.floor(percent + 1e-9)} %"
    return f"{t.decimal(f'{percent:.2g}')} %"


def failed_interval(failed: int, counted: int, t: Language) -> str:
    """What may be behind a share of failures of so few results: `95 % interval 0.4 % to 3.2 %`; empty where there were none."""
    if not counted:
        return ""
    low, high = share_interval(failed, counted)
    return t("service.failed_interval", low=failed_share(low, t), high=failed_share(high, t))


def latency(seconds: float | None, t: Language) -> str:
    """A latency with two or three digits that mean something: `0.41 ms`, `12 ms`, `1.8 s`."""
    if seconds is None:
        return NOTHING
    if seconds >= 0.9995:
        return f"{t.number(seconds, 1 if seconds < 9.95 else 0)} s"
    milliseconds = seconds * 1000
    digits = 2 if milliseconds < 0.995 else 1 if milliseconds < 9.95 else 0
    return f"{t.number(milliseconds, digits)} ms"


def gauge(number: float, t: Language) -> str:
    """A number of any size with three digits that mean something: `0.0412`, `12.5`, `1,240`, `4,100,000`."""
    rounded = float(f"{number:.3g}")
    return t.number(rounded, 0 if rounded.is_integer() else min(9, 2 - math.floor(math.log10(abs(rounded)))))


def breaker(view: BreakerView, t: Language) -> str:
    """A breaker in words."""
    if view.state is BreakerState.OPEN:
        if view.retry_after > 0:
            return t("breaker.open_until", duration=t.duration(view.retry_after + 0.999))
        return t("breaker.open")
    if view.state is BreakerState.HALF_OPEN:
        return t("breaker.half_open")
    if view.failure_count:
        return t("breaker.closed_after", count=view.failure_count)
    return t("breaker.closed")


def counted(counts: Counts, key: str, t: Language) -> str:
    """`812 probes, 3 failed`, with the key of the text for the number of them; empty where there were none."""
    total = counts.ok + counts.failed
    if not total:
        return ""
    shown = t(key, count=total)
    return t("common.of_them_failed", counted=shown, count=counts.failed) if counts.failed else shown


def worst(services: Iterable[ServiceView]) -> list[ServiceView]:
    """The services of which the headline speaks: the worst of those that explain themselves, and of all if there are none.

    What fails because of another service is not the headline. Services that are off never are.
    """
    counted = [view for view in services if view.health.is_counted]
    ranks = {id(view): rank(view) for view in counted}
    candidates = [view for view in counted if view.root is None] or counted
    least = min((ranks[id(view)] for view in candidates), default=0)
    return [view for view in candidates if ranks[id(view)] == least]


def headline(services: Sequence[ServiceView], t: Language, named: Sequence[ServiceView] | None = None) -> str:
    """The worst true sentence about the fleet. `named` are the `worst` of `services`, where they are known."""
    if not services:
        return t("headline.no_services")
    named = worst(services) if named is None else named
    if not named:
        return t("headline.all_off")
    counted = sum(view.health.is_counted for view in services)
    key = state_key(named[0])
    if len(named) == counted and counted > 1 and key != "unknown":
        return t("headline.everything", is_so=predicate(key, 1, t))
    if key == "up" and counted > 1:
        return t("headline.everything", is_so=predicate(key, 1, t))
    names = [view.name for view in named]
    subject = listed(names, t) if len(names) <= MOST_NAMED else t("common.services", count=len(names))
    is_so = predicate(key, len(named), t)
    affected = sum(view.root is not None and view.health is Health.DOWN for view in services)
    if key == "down" and affected:
        with_them = "headline.with_it" if len(named) == 1 else "headline.with_them"
        return t(with_them, names=subject, is_so=is_so, count=affected)
    return t("headline.sentence", names=subject, is_so=is_so)


MOST_NAMED: Final = 3
"""Services that a sentence names."""


def named_troubles(found: Sequence[ServiceView]) -> list[str]:
    """Of the `worst` services the names of those with trouble that the headline names."""
    return [view.name for view in found] if 0 < len(found) <= MOST_NAMED and is_trouble(found[0]) else []


def listed(names: Sequence[str], t: Language) -> str:
    """Names in a sentence: `a, b and c`; of many, the first three and how many more."""
    if len(names) > MOST_NAMED + 1:
        return joined(names, MOST_NAMED, t=t)
    return t("common.and", names=", ".join(names[:-1]), last=names[-1]) if len(names) > 1 else "".join(names)


def joined(names: Sequence[str], most: int = 10, longest: int | None = None, *, t: Language) -> str:
    """The first `most` names, and how many more there are: `a, b and 3 more`. With `longest` each is cut."""
    shown = ", ".join(name if longest is None else printable(name, longest) for name in names[:most])
    return shown if len(names) <= most else t("common.and_more", names=shown, count=len(names) - most)
