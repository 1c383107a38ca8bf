"""Conditions of a JSON response: `status == "ok"`, `queue.depth < 100`, `workers[0].alive`. Pure.

    condition  = path [ operator literal ]
    path       = ( name | "[" index "]" ) { "." name | "[" index "]" }
    name       = letters, digits, _ and -, or any text as a JSON string: checks."disk /"
    index      = a whole number from 0
    operator   = == != < <= > >=
    literal    = a number, a JSON string, true, false or null

A path without an operator is true where the value is neither null nor false. Where a path leads nowhere, every condition
is false, `!=` too. `==` and `!=` compare values of one type, numbers as numbers. The other operators compare numbers with
numbers and text with text, and are false for anything else.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_-]*)
          | (?P<text>"(?:[^"\\]|\\.)*")
          | \[\s*(?P<index>[0-9]{1,9})\s*\])""",
    re.VERBOSE,
)
_COMPARISON = re.compile(r"\s*(==|!=|<=|>=|<|>)\s*(.*)\Z", re.DOTALL)
MAX_LENGTH = 500
"""Characters of a condition."""
_SHOWN = 40
"""Characters of a value that are shown."""

_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Condition:
    """One parsed condition. `str()` returns it as it was written."""

    text: str
    path: tuple[str | int, ...]
    comparison: str = ""
    """The operator, empty where there is only a path."""
    literal: str | float | bool | None = None

    def __str__(self) -> str:
        return self.text

    def complaint(self, value: Any) -> str:
        """Why the condition is false for `value`, decoded JSON, in words; empty where it is true.

        Text from `value` is printable, on one line, and has at most 40 characters.
        """
        found = self._find(value)
        if found is _MISSING:
            return f"{self._place} is missing"
        if not self.comparison:
            return f"{self._place} is {_show(found)}" if found is None or found is False else ""
        if self._holds(found):
            return ""
        return f"{self._place} is {_show(found)}, not {self.comparison} {json.dumps(self.literal, ensure_ascii=False)}"

    def is_found_in(self, value: Any) -> bool:
        """Whether the path leads to a value."""
        return self._find(value) is not _MISSING

    @property
    def _place(self) -> str:
        place = ""
        for step in self.path:
            place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else step
        return place

    def _find(self, value: Any) -> Any:
        for step in self.path:
            if isinstance(step, int):
                if not isinstance(value, list) or step >= len(value):
                    return _MISSING
                value = value[step]
            elif isinstance(value, dict) and step in value:
                value = value[step]
            else:
                return _MISSING
        return value

    def _holds(self, found: Any) -> bool:
        alike = _kind(found) == _kind(self.literal)
        if self.comparison == "==":
            return alike and found == self.literal
        if self.comparison == "!=":
            return not (alike and found == self.literal)
        return alike and _kind(found) in ("number", "text") and _ORDERINGS[self.comparison](found, self.literal)


def parse(text: str) -> Condition:
    """Parse a condition. Raises ValueError with the reason in words."""
    if len(text) > MAX_LENGTH:
        raise ValueError(f"has more than {MAX_LENGTH} characters")
    path: list[str | int] = []
    place = 0
    while match := _TOKEN.match(text, place):
        if path and (match["index"] is None) is not (text[place - 1] == "."):
            break
        path.append(_step(match))
        place = match.end()
        if text[place : place + 1] == ".":
            place += 1
        elif text[place : place + 1] != "[":
            break
    if not path or text[place - 1 : place] == ".":
        raise ValueError('must begin with a path, such as queue.depth or items[0]."a name"')
    rest = text[place:]
    if not rest.strip():
        return Condition(text, tuple(path))
    comparison = _COMPARISON.match(rest)
    if comparison is None:
        raise ValueError("must have one of == != < <= > >= after its path")
    return Condition(text, tuple(path), comparison[1], _literal(comparison[1], comparison[2]))


def _step(match: re.Match[str]) -> str | int:
    if match["index"] is not None:
        return int(match["index"])
    if match["name"] is not None:
        return match["name"]
    try:
        quoted: str = json.loads(match["text"])
    except ValueError:
        raise ValueError("has a quoted name that is no JSON string") from None
    return quoted


def _literal(comparison: str, text: str) -> str | float | bool | None:
    try:
        value = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        value = _MISSING
    if value is _MISSING or isinstance(value, list | dict):
        raise ValueError('must compare with a number, a "text", true, false or null')
    if comparison in _ORDERINGS and _kind(value) not in ("number", "text"):
        raise ValueError(f"can use {comparison} with a number or a text only")
    literal: str | float | bool | None = value
    return literal


def _reject_constant(word: str) -> Any:
    raise ValueError(word)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "other"


def _show(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    cut = value[: _SHOWN * 2] if isinstance(value, str) else value
    shown = "".join(c for c in json.dumps(cut, ensure_ascii=False) if c.isprintable())
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
