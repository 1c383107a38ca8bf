"""What the pages say of services in words: the state, the reason, the breaker, and all of them in one sentence. Pure.

A reason is a code with values. What a service said, and a text without a code, stays as it came: it stands between the
characters that isolate it from the direction of the text around it, and `marked` opens its language there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from markupsafe import Markup, escape

from tentaculo.model.health import (
    BreakerState,
    BreakerView,
    Counts,
    DegradedKind,
    EndpointView,
    Health,
    ServiceView,
    state_name,
)
from tentaculo.model.reason import Reason
from tentaculo.model.text import format_time, printable
from tentaculo.web.languages import MOST_NAMED, Language, language

ISOLATE, POP = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"
_OWN: Final = ("date", "expected", "paths", "place")
"""Values that are texts of no language."""
_DEPTH: Final = 20
"""Reasons within reasons that are followed."""
UNREADABLE: Final = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What a code or values raise that this version does not know: a later one, or somebody else, wrote them into the database."""
_FOREIGN = re.compile(f"([^{ISOLATE}]*)({ISOLATE}?[^{POP}{ISOLATE}]*{POP}?)")
"""A part of the gateway's own words, and one that somebody else wrote after it."""
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2} UTC")
"""As `format_time` writes it."""
_DAYS = re.compile(r"(\d{1,6}) days?")


class State(NamedTuple):
    """How the state of one service is shown: never by colour alone."""

    key: str
    """Names its symbol."""
    word: str
    tone: str
    """Names its colour: `up`, `slow`, `down`, `plan` or `off`."""

    is_trouble: bool
    """Whether a person should look at it."""
    sign: Markup
    """Its symbol in its colour."""

    @classmethod
    def of(cls, name: str, word: str) -> State:
        """The state of this name, with this word for it."""
        tone = TONES[name]
        return cls(name, word, tone, name in TROUBLES, symbol(name, tone))


_SYMBOL = Markup('<svg class="i {}" viewBox="0 0 24 24" aria-hidden="true"><use href="#i-{}"/></svg>')


@lru_cache(maxsize=256)
def symbol(key: str, tone: str = "") -> Markup:
    """The symbol with this key, which `parts.symbols` has, in the colour of `tone`."""
    return _SYMBOL.format(tone, key)


MOST_CHOICES: Final = 100
"""Services among which one chooses in a form. Of more, the name is typed, and some are proposed."""
ENGLISH = language("en")
"""Of what programs read: documents and feeds."""
TONES: Final = {
    "down": "down",
    "failing": "slow",
    "degraded": "slow",
    "slow": "slow",
    "maintenance": "plan",
    "unknown": "off",
    "up": "up",
    "off": "off",
}
"""The tone of each state by its name, the worst first."""
RANKS: Final = {name: place for place, name in enumerate(TONES)}
"""The place of each state in a list with the worst first: 0 is down."""
TROUBLES: Final = frozenset(name for name, tone in TONES.items() if tone in ("down", "slow"))
"""The states at which a person should look."""


def state_of(health: Health, kind: DegradedKind | None = None, *, t: Language) -> State:
    """How a health is shown, a degraded one with its kind."""
    return state(state_name(health, kind), t)


@lru_cache(maxsize=64)
def state(name: str, t: Language) -> State:
    """How a state is shown, such as that of a `ServiceView`."""
    return State.of(name, t(f"state.{name}"))


def predicate(key: str, count: int, t: Language) -> str:
    """What a sentence says of `count` services in a state: `is down`, `are down`."""
    return t(f"state.is_{key}", count=count)


def is_usable(view: EndpointView) -> bool:
    """Whether requests can be sent to an address."""
    return view.health.is_healthy and view.breaker.state is not BreakerState.OPEN


def reason(view: ServiceView, t: Language, most: int = 300) -> str:
    """Why a service is in its state, in `most` characters; empty for one that is up. See `said`."""
    if view.is_cut_off:
        breaker = view.breaker
        text, cause = (breaker.reason, breaker.cause) if breaker.reason else (view.reason, view.cause)
        return t("state.cut_off", reason=said(text, cause, t, most))
    return "" if view.health is Health.UP else said(view.reason, view.cause, t, most)


def choices(services: Iterable[str]) -> list[str]:
    """The services among which one chooses in a form; none where they are too many for a list."""
    found = sorted(set(services))
    return found if len(found) <= MOST_CHOICES else []


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
    counted = [view for view in services if view.health is not Health.OFF]
    candidates = [view for view in counted if view.root is None] or counted
    ranks = [RANKS[view.state] for view in candidates]
    least = min(ranks, default=0)
    return [view for view, rank in zip(candidates, ranks, strict=True) if rank == least]


def headline(services: Sequence[ServiceView], t: Language, named: Sequence[ServiceView] | None = None) -> str:
    """The worst true sentence about the fleet. `named` are the `worst` of `services`, where they are known."""
    if not services:
        return t("headline.no_services")
    named = worst(services) if named is None else named
    if not named:
        return t("headline.all_off")
    counted = len([view for view in services if view.health is not Health.OFF])
    key = named[0].state
    if counted > 1 and (key == "up" or (len(named) == counted and key != "unknown")):
        return t("headline.everything", is_so=predicate(key, 1, t))
    names = [view.name for view in named]
    subject = t.listed(names) if len(names) <= MOST_NAMED else t("common.services", count=len(names))
    is_so = predicate(key, len(named), t)
    affected = len([view for view in services if view.root is not None and view.health is Health.DOWN])
    if key == "down" and affected:
        with_them = "headline.with_it" if len(named) == 1 else "headline.with_them"
        return t(with_them, names=subject, is_so=is_so, count=affected)
    return t("headline.sentence", names=subject, is_so=is_so)


def named_troubles(found: Sequence[ServiceView]) -> list[str]:
    """Of the `worst` services the names of those with trouble that the headline names."""
    return [view.name for view in found] if 0 < len(found) <= MOST_NAMED and found[0].state in TROUBLES else []


def said(text: str, cause: Reason | None, t: Language, most: int) -> str:
    """A reason in at most `most` characters: from its code and values, and `text` where they are not known."""
    words = None
    if cause is not None and cause.code:
        try:
            words = _sentence(cause.code, cause.values, t, most, _DEPTH)
        except UNREADABLE:
            words = None
    return cut(words, most) if words is not None else foreign(text, most)


def public(cause: Reason | None) -> Reason | None:
    """A reason without any text of a service; None where that cannot be told apart."""
    try:
        return None if cause is None else cause.public
    except UNREADABLE:
        return None


def foreign(text: str, most: int) -> str:
    """What somebody else wrote, in at most `most` printable characters, apart from the text around it."""
    shown = printable(text, most)
    return f"{ISOLATE}{shown}{POP}" if shown.strip("…") else shown


def cut(words: str, most: int) -> str:
    """The first `most` characters of `words`, of which the isolates do not count. No isolate stays open."""
    if len(words) <= most:
        return words
    found: list[str] = []
    room, is_open = most - 1, False
    for character in words:
        if character in (ISOLATE, POP):
            is_open = character == ISOLATE
        elif room:
            room -= 1
        else:
            return "".join(found).rstrip() + "…" + (POP if is_open else "")
        found.append(character)
    return words


def marked(text: str, clock: Callable[[datetime], str]) -> Markup:
    """`text` as markup, escaped, with an element around each part whose language is not known.

    Each time of the gateway's own words becomes what `clock` says of it; its title is the exact one in UTC.
    """
    if ISOLATE not in text and POP not in text and " UTC" not in text:
        return escape(text)
    found = _FOREIGN.findall(str(escape(text)))
    parts = [(_timed(own, clock) if " UTC" in own else own) + rest for own, rest in found]
    return Markup("".join(parts).replace(ISOLATE, '<bdi lang="">').replace(POP, "</bdi>"))  # noqa: S704


def _timed(words: str, clock: Callable[[datetime], str]) -> str:
    def element(found: re.Match[str]) -> str:
        try:
            at = datetime.strptime(found[0], "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)
            said = escape(clock(at))
        except (ValueError, OverflowError):
            return found[0]  # a text of the configuration that only looks like a time
        return f'<time datetime="{at:%Y-%m-%dT%H:%MZ}" title="{at:%Y-%m-%d %H:%M:%S} UTC">{said}</time>'

    return _TIME.sub(element, words)


def plain(text: str) -> str:
    """`text` without isolates."""
    return text.replace(ISOLATE, "").replace(POP, "")


def _sentence(code: str, values: Mapping[str, Any], t: Language, most: int, depth: int) -> str:
    shown = {name: _value(name, value, t, most, depth - 1) for name, value in values.items()}
    return t(f"reason.{code}", **shown)


def _value(name: str, value: Any, t: Language, most: int, depth: int) -> str:
    if depth < 0:
        return "…"
    if isinstance(value, list):
        return "; ".join(_value(name, one, t, most, depth) for one in value)
    if isinstance(value, Reason):
        return _sentence(value.code, value.values, t, most, depth) if value.code else foreign(value, most)
    if isinstance(value, Mapping):
        # A reason as it was stored.
        return _sentence(value["code"], value["values"], t, most, depth)
    if isinstance(value, bool | None):
        return str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return t.decimal(f"{value:g}")
    if name == "health":
        return t(f"state.{value}").lower()
    if name == "time":
        return format_time(datetime.fromisoformat(value))
    if name == "left":
        return _left(value, t)
    if name in _OWN:
        return printable(value, most).replace(" and ", t("common.and", names="", last=""))
    return foreign(value, most)


def _left(text: str, t: Language) -> str:
    """How long a certificate is valid yet."""
    found = _DAYS.fullmatch(text)
    return t.duration(int(found[1]) * 86400) if found else t("reason.less_than_a_day")
