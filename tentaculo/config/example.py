"""The commented configuration that `tentaculo init` writes, made of the declarations of the keys."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args, get_origin

from tentaculo.config.key_reference import Key, bare_form, format_toml, section_of, walk
from tentaculo.config.schema import Config
from tentaculo.config.section import UNSET, Section

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


def text(schema: str = SCHEMA_FILE) -> str:
    """The whole file. `schema` is the path of the JSON Schema, relative to the file."""
    lines = [f"#:schema {schema}", ""]
    lines += [f"# {line}".rstrip() for line in _HEADER.splitlines()]
    for key in _keys(Config):
        lines += _tables(key, ())
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class _Table:
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
