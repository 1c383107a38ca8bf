"""Why a service has its health, in the language of the page. Pure.

A reason is a code with values. What a service said, and a text without a code, stays as it came: it stands between the
characters that isolate it from the direction of the text around it, and `marked` opens its language there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup, escape

from tentaculo.model.reason import Reason
from tentaculo.model.text import format_time, printable
from tentaculo.web.languages import Language

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
