"""Every key of the configuration, read from the declarations: for the names of variables, and for the files made of them.

These are the documents, the commented configuration that `tentaculo init` writes, and the JSON Schema for editors that
complete TOML.
"""

from __future__ import annotations

import json
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from tentaculo.config.schema import Config
from tentaculo.config.section import UNSET, Check, Declared, Doc, JsonSchema, Parse, Prepare, Section, keys_of
from tentaculo.config.types import Secret

ANY = "*"
"""Stands in a path for a name in a table of tables, or for a place in a list."""


class KeyKind(StrEnum):
    """How a key's value is written in the environment: a scalar as plain text, the others as JSON."""

    SCALAR = "scalar"
    LIST = "list"
    TABLE = "table"


class Key(msgspec.Struct, frozen=True):
    """One key. `path` is ("services", "*", "breaker", "failures") for `services.<name>.breaker.failures`."""

    path: tuple[str, ...]
    kind: KeyKind
    is_section: bool
    """Whether it is a table with fixed keys of its own, or a list or table of such tables."""
    declared: Declared

    @property
    def doc(self) -> Doc:
        """The `Doc` of its declaration."""
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


def walk(
    section: type[Section] = Config,
    path: tuple[str, ...] = (),
    is_wanted: Callable[[tuple[str, ...]], bool] = lambda _: True,
) -> Iterator[Key]:
    """Every key below `section`, each table before its own keys; those of tables whose path `is_wanted`."""
    for name, key in keys_of(section).items():
        here = (*path, name)
        kind, below, inner = _kind_of(key.form)
        yield Key(here, kind, inner is not None, key)
        if inner is not None and is_wanted(here):
            yield from walk(inner, here + below, is_wanted)


def _kind_of(form: Any) -> tuple[KeyKind, tuple[str, ...], type[Section] | None]:
    """The kind of a form, the path between it and the tables inside it, and the section of those tables."""
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


SCHEMA_FILE = "tentaculo.schema.json"
_WIDTH = 120
_HEADER = """\
Tentáculo Link: the configuration, with every key there is.

A line that begins with # and a space is a comment. A line that begins with # and a key shows the default of the key,
or an example; remove the # to set the key. `tentaculo check` shows every fault of this file.

An environment variable overrides each key of this file: TENTACULO_SERVER_PORT, TENTACULO_DATABASE_URL,
TENTACULO_SERVICES_EXAMPLE_URL. Lists and tables are written there as JSON.

The first line is for editors that complete and validate TOML (Taplo, Even Better TOML). The schema it names is printed
by `tentaculo config schema`."""


def example_text(schema: str = SCHEMA_FILE) -> str:
    """The whole file. `schema` is the path of the JSON Schema, relative to the file."""
    lines = [f"#:schema {schema}", ""]
    lines += [f"# {line}".rstrip() for line in _HEADER.splitlines()]
    for key in _keys(Config):
        lines += _tables(key, ())
    return "\n".join(lines) + "\n"


class _Table(msgspec.Struct, frozen=True):
    """One table of the example."""

    path: tuple[str, ...]
    is_active: bool
    is_variant: bool

    def heading(self, *, is_array: bool) -> str:
        name = ".".join(self.path)
        return self.line(f"[[{name}]]" if is_array else f"[{name}]", is_active=True)

    def line(self, line: str, *, is_active: bool) -> str:
        """`line` as a setting, or in a comment."""
        return line if self.is_active and is_active else f"#{line}"


def _keys(section: type[Section]) -> list[Key]:
    return [key for key in walk(section) if len(key.path) == 1]


def _tables(key: Key, parent: tuple[str, ...], *, is_active: bool = True) -> Iterator[str]:
    """The lines of one table, or of the two example tables of a list or of named tables."""
    form = bare_form(key.declared.form)
    is_array = get_origin(form) is tuple
    section = section_of(get_args(form)[-1] if get_origin(form) is dict else get_args(form)[0] if is_array else form)
    assert section is not None
    names = key.doc.names or ("", "")
    comments = (key.description,) if key.doc.variant is UNSET else (key.description, key.doc.variant)
    for number, (comment, name) in enumerate(zip(comments, names, strict=False)):
        path = (*parent, *key.path, name) if name else (*parent, *key.path)
        table = _Table(path, is_active and key.doc.active and number == 0, number == 1)
        yield from ("", *_comment(comment), table.heading(is_array=is_array))
        yield from _settings(table, section)


def _settings(table: _Table, section: type[Section]) -> Iterator[str]:
    keys = _keys(section)
    for key in keys:
        if not key.is_section:
            yield from _setting(table, key)
    # TOML has the keys of a table before the tables inside it.
    for key in keys:
        if key.is_section and not table.is_variant:
            yield from _tables(key, table.path, is_active=table.is_active)


def _setting(table: _Table, key: Key) -> Iterator[str]:
    doc, default = key.doc, key.declared.default
    is_only_variant = doc.example is UNSET and doc.variant is not UNSET
    if (table.is_variant and doc.variant is UNSET) or (not table.is_variant and is_only_variant):
        return
    if not table.is_variant or is_only_variant:
        yield from _comment(key.description)
    value = doc.variant if table.is_variant else default if doc.example is UNSET else doc.example
    yield table.line(f"{key.path[0]} = {format_toml(value)}", is_active=doc.active)


def _comment(words: str) -> list[str]:
    return textwrap.wrap(
        words, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )


_TYPES: dict[Any, str] = {str: "string", Path: "string", int: "integer", float: "number", bool: "boolean"}
_NARROWER = {"minimum": max, "exclusiveMinimum": max, "maximum": min, "maxLength": min}


def json_schema_text() -> str:
    """The schema as a file."""
    return json.dumps(json_schema(), ensure_ascii=False, indent=2) + "\n"


def json_schema() -> JsonSchema:
    """The schema of the whole configuration, in the draft that Taplo and Even Better TOML understand.

    It accepts every valid file. Contradictions between keys, and some texts, only `tentaculo check` refuses.
    """
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of Tentáculo Link",
        **_section_schema(Config),
    }


def _section_schema(section: type[Section]) -> JsonSchema:
    keys = [key for key in walk(section) if len(key.path) == 1]
    found: JsonSchema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {key.path[0]: _key_schema(key) for key in keys},
    }
    required = [key.path[0] for key in keys if key.declared.is_required]
    return {**found, "required": required} if required else found


def _key_schema(key: Key) -> JsonSchema:
    found = {"description": key.description, **_form_schema(key.declared.form)}
    default = key.declared.default
    if isinstance(default, Secret):
        default = default.reveal()
    if isinstance(default, str | int | float):
        found["default"] = default
    return found


def _form_schema(form: Any) -> JsonSchema:
    """The schema of a declared type with its constraints."""
    if get_origin(form) is Annotated:
        return _constrained(*get_args(form))
    form = _without_none(form)
    origin, args = get_origin(form), get_args(form)
    if origin is Annotated:
        return _form_schema(form)
    if origin is Literal:
        return {"type": "string", "enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": _form_schema(args[0])}
    if origin is dict:
        names = {name: value for name, value in _form_schema(args[0]).items() if name != "type"}
        found: JsonSchema = {"type": "object", "additionalProperties": _form_schema(args[1])}
        return {**found, "propertyNames": names} if names else found
    section = section_of(form)
    return {"type": _TYPES[form]} if section is None else _section_schema(section)


def _without_none(form: Any) -> Any:
    others = [arg for arg in get_args(form) if arg is not type(None)]
    return others[0] if type(None) in get_args(form) and len(others) == 1 else form


def _constrained(form: Any, *constraints: Any) -> JsonSchema:
    parse = next((one for one in constraints if isinstance(one, Parse)), None)
    found = dict(parse.schema) if parse is not None else _form_schema(form)
    for constraint in constraints:
        if isinstance(constraint, Check):
            for keyword, value in _fitting(constraint.schema, found.get("type")).items():
                narrower = _NARROWER.get(keyword)
                found[keyword] = narrower(found[keyword], value) if narrower and keyword in found else value
    for constraint in constraints:
        if isinstance(constraint, Prepare) and constraint.schema:
            found = {"anyOf": [found, constraint.schema]}
    return found


def _fitting(keywords: JsonSchema, kind: str | None) -> JsonSchema:
    """`keywords` without the one of NOT_EMPTY that means another type."""
    strange = {"string": "minItems", "array": "minLength"}.get(kind or "")
    return {keyword: value for keyword, value in keywords.items() if keyword != strange}
