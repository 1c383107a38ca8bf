"""What may stand beside a type, in `Annotated`, to say more of a value than its type does.

A function here gets a value and gives it back, as it is to be kept, or raises ValueError, which says what is wrong in
words that do not repeat the value.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Parse:
    """`function` makes the value of whatever the file holds, of any type; what it gives is not looked at again."""

    function: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Prepare:
    """`function` is shown what the file holds, of any type, before its type is looked at."""

    function: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Check:
    """`function` is shown the value, once it has its type."""

    function: Callable[[Any], Any]


def at_least(bound: float) -> Check:
    """A number from `bound` on."""
    return _bounded(operator.ge, bound, "at least")


def at_most(bound: float) -> Check:
    """A number up to `bound`."""
    return _bounded(operator.le, bound, "at most")


def more_than(bound: float) -> Check:
    """A number above `bound`."""
    return _bounded(operator.gt, bound, "more than")


def at_most_long(length: int) -> Check:
    """Text of at most `length` characters."""

    def check(value: str) -> str:
        if len(value) > length:
            raise ValueError(f"has more than {length} characters")
        return value

    return Check(check)


def _not_empty(value: Any) -> Any:
    if not value:
        raise ValueError("must not be empty")
    return value


NOT_EMPTY = Check(_not_empty)
"""Text or a list with something in it."""


def _bounded(holds: Callable[[float, float], bool], bound: float, words: str) -> Check:
    def check(value: float) -> float:
        # Not-a-number holds nothing, and so is within no bound.
        if not holds(value, bound):
            raise ValueError(f"must be {words} {bound:.12g}")
        return value

    return Check(check)
