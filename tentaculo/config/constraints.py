"""Constraints that stand beside a type in `Annotated`.

The function of a constraint receives a value and returns the value to use, or raises ValueError. The error text names
the fault and never repeats the value. `schema` holds the JSON Schema keywords that say the same to an editor.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

JsonSchema = dict[str, Any]


def _keywords() -> JsonSchema:
    return {}


@dataclass(frozen=True, slots=True)
class Parse:
    """`function` makes the value of what the file holds, of any type. The declared type is not checked."""

    function: Callable[[Any], Any]
    schema: JsonSchema = field(default_factory=_keywords, compare=False)
    """Schema of what the file holds."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """`function` changes what the file holds, of any type, before its type is checked."""

    function: Callable[[Any], Any]
    schema: JsonSchema = field(default_factory=_keywords, compare=False)
    """Schema of what a file may hold instead of the declared type."""


@dataclass(frozen=True, slots=True)
class Check:
    """`function` checks the value after its type is checked."""

    function: Callable[[Any], Any]
    schema: JsonSchema = field(default_factory=_keywords, compare=False)
    """Keywords that are added to the schema of the type."""


def at_least(bound: float) -> Check:
    """A number that is at least `bound`."""
    return _bounded(operator.ge, bound, "at least", "minimum")


def at_most(bound: float) -> Check:
    """A number that is at most `bound`."""
    return _bounded(operator.le, bound, "at most", "maximum")


def more_than(bound: float) -> Check:
    """A number that is more than `bound`."""
    return _bounded(operator.gt, bound, "more than", "exclusiveMinimum")


def at_most_long(length: int) -> Check:
    """Text of at most `length` characters."""

    def check(value: str) -> str:
        if len(value) > length:
            raise ValueError(f"has more than {length} characters")
        return value

    return Check(check, {"maxLength": length})


def _not_empty(value: Any) -> Any:
    if not value:
        raise ValueError("must not be empty")
    return value


NOT_EMPTY = Check(_not_empty, {"minLength": 1, "minItems": 1})
"""Text with at least one character, or a list with at least one item."""


def _bounded(holds: Callable[[float, float], bool], bound: float, words: str, keyword: str) -> Check:
    def check(value: float) -> float:
        # Every comparison with NaN is false, so NaN is within no bound.
        if not holds(value, bound):
            raise ValueError(f"must be {words} {bound:.12g}")
        return value

    return Check(check, {keyword: bound})
