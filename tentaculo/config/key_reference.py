"""Every key of the configuration, read from the declarations: for environment names and for documents."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from tentaculo.config.schema import Config
from tentaculo.config.section import UNSET, Declared, Doc, Section, keys_of
from tentaculo.config.types import Secret

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
    declared: Declared

    @property
    def doc(self) -> Doc:
        """What its declaration says about it."""
        return self.declared.doc

    @property
    def default(self) -> str:
        """The default for people, as TOML or in words; "required" where there is none."""
        return self.doc.default or format_default(self.declared.default)

    @property
    def description(self) -> str:
        """Meaning, unit and default, in sentences. A table has a meaning only."""
        sentences = [self.doc.meaning]
        if self.doc.unit:
            sentences.append(f"Unit: {self.doc.unit}.")
        if self.doc.zero:
            sentences.append(f"0 means {self.doc.zero}.")
        if not self.is_section and "Required" not in self.doc.meaning:
            sentences.append("Required." if self.declared.is_required else f"Default: {self.default}.")
        return " ".join(sentences)


def walk(section: type[Section] = Config, path: tuple[str, ...] = ()) -> Iterator[Key]:
    """Every key below `section`, each table before its own keys."""
    for name, key in keys_of(section).items():
        here = (*path, name)
        kind, below, inner = _kind_of(key.form)
        yield Key(here, kind, inner is not None, key)
        if inner is not None:
            yield from walk(inner, here + below)


def _kind_of(form: Any) -> tuple[KeyKind, tuple[str, ...], type[Section] | None]:
    """Kind of a form, what stands between it and the tables inside it, and those tables' section."""
    form = bare_form(form)
    origin, args = get_origin(form), get_args(form)
    if origin is dict:
        return KeyKind.TABLE, (ANY,), section_of(args[1])
    if origin is tuple:
        return KeyKind.LIST, (ANY,), section_of(args[0])
    section = section_of(form)
    return (KeyKind.TABLE if section else KeyKind.SCALAR), (), section


def section_of(form: Any) -> type[Section] | None:
    """The section that a key of type `form` holds, None for other types."""
    form = bare_form(form)
    return form if isinstance(form, type) and issubclass(form, Section) else None


def format_default(default: Any) -> str:
    """A declared default for people: TOML, "none" for nothing, "required" where there is none."""
    if default is UNSET:
        return "required"
    return "none" if default in (None, (), {}) else format_toml(default)


def format_toml(value: Any) -> str:
    """`value` as TOML, on one line."""
    if isinstance(value, Secret):
        value = value.reveal()
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {format_toml(item)}' for key, item in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_toml, value))}]"
    if isinstance(value, str) and '"' in value and "'" not in value:
        return f"'{value}'"
    # TOML writes true, false, numbers and plain strings like JSON.
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


def bare_form(form: Any) -> Any:
    """The type `form` without `Annotated` and without `| None`."""
    while True:
        origin, args = get_origin(form), get_args(form)
        if origin is Annotated:
            form = args[0]
        elif origin in (typing.Union, types.UnionType) and type(None) in args and len(args) == 2:
            form = next(arg for arg in args if arg is not type(None))
        else:
            return form
