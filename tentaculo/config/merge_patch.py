"""JSON Merge Patch (RFC 7396) over tables: what changes one table into another. Pure; no function changes its arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tentaculo.config.errors import KeyPath

Table = dict[str, Any]

MISSING: Any = object()
"""Stands for a value that is not there."""


def merged(target: Any, patch: Any) -> Any:
    """`target` with `patch` over it: null removes a member, an object is merged, any other value replaces (section 2)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def difference(old: Table, new: Table) -> Table:
    """The smallest patch that makes `new` of `old`. Neither may have null as a member: a patch cannot express it."""
    patch: Table = dict.fromkeys(name for name in old if name not in new)
    for name, value in new.items():
        before = old.get(name, MISSING)
        if isinstance(before, dict) and isinstance(value, dict):
            if inner := difference(before, value):
                patch[name] = inner
        elif not is_same(before, value):
            patch[name] = value
    return patch


def leaves(patch: Table, place: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """The path and the value of all that a patch sets or removes; an object of a patch is no leaf unless it is empty."""
    for name, value in patch.items():
        here = (*place, name)
        if isinstance(value, dict) and value:
            yield from leaves(value, here)
        else:
            yield here, value


def value_at(table: Any, place: KeyPath) -> Any:
    """The value at a path of names, MISSING where there is none."""
    for name in place:
        if not isinstance(table, dict) or name not in table:
            return MISSING
        table = table[name]
    return table


def with_value(table: Mapping[str, Any], place: KeyPath, value: Any) -> Table:
    """A copy of `table` with `value` at `place`; MISSING removes what is there, and the tables that are empty then."""
    name, *rest = place
    copy = {str(key): inner for key, inner in table.items()}
    if rest:
        below = copy.get(str(name))
        value = with_value(below if isinstance(below, dict) else {}, tuple(rest), value) or MISSING
    if value is MISSING:
        copy.pop(str(name), None)
    else:
        copy[str(name)] = value
    return copy


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are equal in a file. In Python true is 1, and 1 is 1.0; in a file a flag is no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other)
