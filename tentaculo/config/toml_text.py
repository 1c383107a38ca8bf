"""Writes tables as TOML, with a comment on keys that need one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from typing import Any

from tentaculo.config.errors import KeyPath

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_MUST_ESCAPE = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]')

Comment = Callable[[KeyPath], str]
"""Returns the comment on a key; empty for none. It is one line."""
IsHidden = Callable[[KeyPath], bool]
"""Whether a key is written as a comment, so that it is not set."""


def toml_text(tables: Mapping[str, Any], comment: Comment = lambda _: "", is_hidden: IsHidden = lambda _: False) -> str:
    """`tables` as a TOML document. None stands for no value and is left out."""
    lines = [*_table(tables, (), comment, is_hidden)]
    return "\n".join(lines).strip("\n") + "\n" if lines else ""


def toml_value(value: Any) -> str:
    """A value as TOML, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        members = [f"{toml_key(name)} = {toml_value(inner)}" for name, inner in value.items() if inner is not None]
        return f"{{ {', '.join(members)} }}" if members else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return f'"{_MUST_ESCAPE.sub(_escaped, str(value))}"'


def toml_key(name: str) -> str:
    """A key as TOML: quoted where it must be."""
    return name if _BARE.fullmatch(name) else toml_value(str(name))


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    # A lone surrogate is no Unicode scalar value, and TOML cannot have it.
    if "\ud800" <= character <= "\udfff":
        return "\ufffd"
    return _ESCAPES.get(character) or f"\\u{ord(character):04x}"


def _table(table: Mapping[str, Any], place: KeyPath, comment: Comment, is_hidden: IsHidden) -> Iterator[str]:
    given = {str(name): value for name, value in table.items() if value is not None}
    # TOML has the keys of a table before the tables inside it.
    for name, value in given.items():
        if not _is_table(value) and not _is_tables(value):
            yield _setting(name, value, (*place, name), comment, is_hidden)
    for name, value in given.items():
        here = (*place, name)
        if _is_table(value):
            yield from _headed(value, here, comment, is_hidden)
        elif _is_tables(value):
            for number, inner in enumerate(value):
                yield from ("", f"[[{_heading(here)}]]{_remark(comment(here))}")
                yield from _table(inner, (*here, number), comment, is_hidden)


def _headed(table: Mapping[str, Any], place: KeyPath, comment: Comment, is_hidden: IsHidden) -> Iterator[str]:
    # A table that only holds tables needs no heading of its own.
    if not table or any(not _is_table(value) for value in table.values()):
        yield from ("", f"[{_heading(place)}]{_remark(comment(place))}")
    yield from _table(table, place, comment, is_hidden)


def _setting(name: str, value: Any, place: KeyPath, comment: Comment, is_hidden: IsHidden) -> str:
    mark = "# " if is_hidden(place) else ""
    return f"{mark}{toml_key(name)} = {toml_value(value)}{_remark(comment(place))}"


def _heading(place: KeyPath) -> str:
    return ".".join(toml_key(part) for part in place if isinstance(part, str))


def _remark(words: str) -> str:
    return f"  # {words}" if words else ""


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_table, value))
