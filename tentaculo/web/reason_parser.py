"""Reads a reason from its English text, where its code and values were not kept: in a change of state, or an ending. Pure.

Whatever has not the form of a reason stays a text as it came.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from string import Formatter
from typing import Any, Final

from tentaculo.model.reason import TEXTS, Reason

_LONGEST: Final = 400
"""Characters of a text that is read; a longer one stays as it came."""
_DEPTH: Final = 6
"""Reasons within reasons that are read."""
_MOST_PARTS: Final = 8
_NUMBER: Final = r"\d{1,15}(?:\.\d{1,6})?"
_FORMS: Final = {
    **dict.fromkeys(
        ("status", "seconds", "milliseconds", "failed", "requests", "passed", "count", "needed", "total"), _NUMBER
    ),
    "date": r"\d{4}-\d\d-\d\d",
    "left": r"less than a day|\d{1,6} days?",
    "health": "up|degraded|down|unknown|maintenance|off",
    "paths": r"/\S*(?:(?:, | and )/\S*)*",
}
"""The form of a value by its name. Any other is text, and maybe a reason."""
_NOT_READ: Final = ("value_missing", "value_is", "value_is_not", "stated", "maintenance_until")
"""Codes whose texts many other sentences are like: the disk is full."""
_LISTS: Final = ("faults", "parts")


@functools.lru_cache(maxsize=512)
def parse(text: str, depth: int = _DEPTH) -> Reason | None:
    """The reason whose English text `text` is; None where it has not the form of one."""
    if depth < 0 or len(text) > _LONGEST or text.count("; ") > _MOST_PARTS:
        return None
    for code, form in _forms():
        if found := form.fullmatch(text):
            values = {name: _value(name, value, depth - 1) for name, value in found.groupdict().items()}
            if code == "several" and not any(isinstance(one, Reason) for one in values["parts"]):
                continue
            return Reason(text, code, values)
    return None


def _value(name: str, text: str, depth: int) -> Any:
    if name in _LISTS:
        return [parse(part, depth) or part for part in text.split("; ")]
    return text if name in _FORMS else parse(text, depth) or text


@functools.cache
def _forms() -> list[tuple[str, re.Pattern[str]]]:
    """The form of the text of each code, those with the most words of their own first."""
    order = sorted(TEXTS.items(), key=lambda item: -sum(len(words) for words, _ in _parts(item[1])))
    return [(code, re.compile("".join(_form(text)))) for code, text in order if code not in _NOT_READ]


def _parts(text: str) -> Iterator[tuple[str, str | None]]:
    for words, name, _, _ in Formatter().parse(text):
        yield words, name


def _form(text: str) -> Iterator[str]:
    if text == "{parts}":
        yield "(?P<parts>.+; .+)"
        return
    for words, name in _parts(text):
        yield re.escape(words)
        if name:
            yield f"(?P<{name}>{_FORMS.get(name, '.+?')})"
