"""Every key of the configuration, read off the schema: for environment names and the reference."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, get_args, get_origin

from tentaculo.config.schema import Config
from tentaculo.config.section import Section, keys_of

ANY = "*"
"""Stands in a path for a name in a table of tables, or for a place in a list."""


class KeyKind(StrEnum):
    """How a key's value is written in the environment: a scalar as plain text, the others as JSON."""

    SCALAR = "scalar"
    LIST = "list"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `path` is ("services", "*", "breaker", "failures") for `services.<name>.breaker.failures`."""

    path: tuple[str, ...]
    kind: KeyKind
    is_section: bool
    """Whether it is a table with fixed keys of its own, or a list or table of such tables."""
    description: str
    """Meaning, unit and default."""


def walk(section: type[Section] = Config, path: tuple[str, ...] = ()) -> Iterator[Key]:
    """Every key below `section`, each table before its own keys."""
    for name, key in keys_of(section).items():
        here = (*path, name)
        kind, below, inner = _look(key.form)
        yield Key(here, kind, inner is not None, key.description)
        if inner is not None:
            yield from walk(inner, here + below)


def _look(form: Any) -> tuple[KeyKind, tuple[str, ...], type[Section] | None]:
    """Kind of a form, what stands between it and the tables inside it, and those tables' section."""
    form = _bare(form)
    origin, args = get_origin(form), get_args(form)
    if origin is dict:
        return KeyKind.TABLE, (ANY,), _section(args[1])
    if origin is tuple:
        return KeyKind.LIST, (ANY,), _section(args[0])
    section = _section(form)
    return (KeyKind.TABLE if section else KeyKind.SCALAR), (), section


def _section(form: Any) -> type[Section] | None:
    form = _bare(form)
    return form if isinstance(form, type) and issubclass(form, Section) else None


def _bare(form: Any) -> Any:
    """The type without `Annotated` and without `| None`."""
    while True:
        origin, args = get_origin(form), get_args(form)
        if origin is Annotated:
            form = args[0]
        elif origin in (typing.Union, types.UnionType) and type(None) in args and len(args) == 2:
            form = next(arg for arg in args if arg is not type(None))
        else:
            return form
