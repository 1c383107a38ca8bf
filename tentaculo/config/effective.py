"""The values that a configuration has in the end, for people: their sources, differences to the file, and an export."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tentaculo.config.errors import KeyPath, dotted
from tentaculo.config.key_reference import ANY, Key, bare_form, walk
from tentaculo.config.layers import Layered, Source
from tentaculo.config.masking import is_masked, masked
from tentaculo.config.merge_patch import MISSING, Table, difference, leaves, value_at, with_value
from tentaculo.config.reader import EnvironmentText
from tentaculo.config.toml_text import toml_text, toml_value
from tentaculo.config.types import parse_flag


@dataclass(frozen=True, slots=True)
class Difference:
    """A key whose value is another than the configuration file says. Secrets are masked."""

    place: KeyPath
    in_file: Any
    """MISSING where the file does not set it."""
    effective: Any
    """MISSING where it is removed."""
    source: Source

    @property
    def name(self) -> str:
        """The key, dotted."""
        return dotted(self.place)

    @property
    def is_added(self) -> bool:
        """Whether the file does not set it."""
        return self.in_file is MISSING

    @property
    def is_removed(self) -> bool:
        """Whether only the file sets it."""
        return self.effective is MISSING

    @property
    def before(self) -> str | None:
        """The value of the file as TOML."""
        return None if self.in_file is MISSING else toml_value(self.in_file)

    @property
    def after(self) -> str | None:
        """The effective value as TOML."""
        return None if self.effective is MISSING else toml_value(self.effective)


def effective_values(layered: Layered, *, with_overrides: bool = True) -> Table:
    """All values that are set, as a file could have them: those of the environment have their types. Has secrets."""
    values: Table = _typed(layered.effective if with_overrides else layered.overlay.data, ())
    return values


def differences(layered: Layered) -> Iterator[Difference]:
    """What differs from the configuration file, key by key."""
    tables, values = layered.tables, effective_values(layered)
    before, after = masked(tables), masked(values)
    for place, _ in leaves(difference(tables, values)):
        yield Difference(place, value_at(before, place), value_at(after, place), layered.reason(place))


def sources_of(layered: Layered, values: Table) -> dict[str, Source]:
    """Where each value of `values` is from, by dotted key. A list is one value."""
    return {dotted(place): layered.source(place) for place, _ in leaves(values)}


def with_all_defaults(values: Table) -> Table:
    """`values` with the default of each key that is not set, where the key has one."""
    own, each = _defaults()
    filled = _filled(values, own)
    if isinstance(services := filled.get("services"), dict):
        filled["services"] = {
            name: _filled(table, each) if isinstance(table, dict) else table for name, table in services.items()
        }
    return filled


@cache
def _defaults() -> tuple[Table, Table]:
    """The defaults of the sections, and those of one service, as tables."""
    own: Table = {}
    each: Table = {}
    for key in walk():
        default = MISSING if key.is_section else _default(key)
        if default is MISSING:
            continue
        if ANY not in key.path:
            own = with_value(own, key.path, default)
        elif key.path[:2] == ("services", ANY) and ANY not in key.path[2:]:
            each = with_value(each, key.path[2:], default)
    return own, each


def _filled(values: Table, defaults: Table) -> Table:
    """`values` with what only `defaults` have, in the tables inside too."""
    filled = dict(values)
    for name, default in defaults.items():
        found = values.get(name, MISSING)
        if found is MISSING:
            filled[name] = default
        elif isinstance(found, dict) and isinstance(default, dict):
            filled[name] = _filled(found, default)
    return filled


def export_text(layered: Layered, *, with_secrets: bool) -> str:
    """TOML that can replace the configuration file: the file with the changes. Without secrets it has masks, in comments.

    Values of the environment are not in it. What they set is listed at the top.
    """
    lines = ["# Made by `tentaculo config export` of the configuration file and the changes."]
    for place, variable in sorted(layered.overlay.variables.items(), key=lambda item: item[1]):
        lines.append(f"# The environment sets {dotted(place)}: {variable}")
    if with_secrets:
        return "\n".join(lines) + "\n\n" + toml_text(layered.changed)
    values = masked(layered.changed)
    text = toml_text(
        values,
        comment=lambda place: "a secret; set it here, in a file or by the environment" if _hides(values, place) else "",
        is_hidden=lambda place: _hides(values, place),
    )
    return "\n".join(lines) + "\n\n" + text


def _hides(values: Table, place: KeyPath) -> bool:
    """Whether a mask stands at `place`, and the key is written as a comment."""
    if not is_masked(place):
        return False
    table: Any = values
    for part in place:
        table = table[part]
    # An empty text says that there is none.
    return not isinstance(table, Mapping) and table != ""


def _default(key: Key) -> Any:
    """The default as a file would have it; MISSING where it is only in words."""
    try:
        return tomllib.loads(f"value = {key.default}")["value"]
    except tomllib.TOMLDecodeError:
        return MISSING


def _typed(value: Any, place: tuple[str, ...]) -> Any:
    """`value` with the scalars of the environment in their declared types."""
    if isinstance(value, dict):
        return {name: _typed(inner, (*place, str(name))) for name, inner in value.items()}
    if not isinstance(value, EnvironmentText):
        return value
    key = _keys().get(place) or _keys().get(("services", ANY, *place[2:]))
    form = bare_form(key.declared.form) if key is not None else str
    try:
        if form is bool:
            return parse_flag(value)
        if form in (int, float):
            return int(value) if form is int else float(value)
    except ValueError:
        pass
    return str(value)


@cache
def _keys() -> Mapping[tuple[str, ...], Key]:
    return {key.path: key for key in walk()}
