"""Secrets of the configuration: which keys have them or name files of them, and tables in which a mask stands in their place.

A key is secret where its type is `Secret`, or where its declaration says `secret`. There is no other list: what shows a
configuration to people masks it here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, get_args

from tentaculo.config.errors import ConfigFault, KeyPath, dotted
from tentaculo.config.key_reference import ANY, Key, bare_form, walk
from tentaculo.config.merge_patch import MISSING, Table, leaves
from tentaculo.config.types import Secret

MASK = "**********"
"""Stands for a secret."""
FILE_FAULT = "names a file, which only the configuration file can"
_ROUTE_IDENTITY = ("prefix", "host", "exact")


def is_secret(key: Key) -> bool:
    """Whether the values of a key are secrets."""
    return key.doc.secret or _holds(key.declared.form, Secret)


def is_file(key: Key) -> bool:
    """Whether the values of a key are paths of files."""
    return _holds(key.declared.form, Path)


def secret_keys() -> frozenset[tuple[str, ...]]:
    """The paths of the secret keys, with ANY for each free name and each place in a list."""
    return frozenset(key.path for key in walk() if is_secret(key))


@cache
def file_keys() -> frozenset[tuple[str, ...]]:
    """The paths of the keys that name files."""
    return frozenset(key.path for key in walk() if is_file(key))


def files_named(patch: Table) -> Iterator[KeyPath]:
    """The places at which a change names a file."""
    for place, value in leaves(patch):
        if value is not None and any(_is_at(place, key) for key in file_keys()):
            yield place


def faults_of_files(patch: Table) -> Iterator[ConfigFault]:
    """A fault for each file that a change names: the gateway sends to a service what it reads there."""
    for place in files_named(patch):
        yield ConfigFault(dotted(place), FILE_FAULT)


def _is_at(place: KeyPath, key: tuple[str, ...]) -> bool:
    return len(place) == len(key) and all(step in (ANY, part) for part, step in zip(place, key, strict=True))


def masked(tables: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of tables as TOML or JSON has them, with a mask for each secret.

    An empty text stays: it means that there is none.
    """
    copy: dict[str, Any] = _masked(tables, _tree())
    return copy


def is_masked(place: KeyPath) -> bool:
    """Whether a value at `place` is a secret, or a part of one."""
    node: _Node | None = _tree()
    for part in place:
        node = node.below.get(str(part)) or node.below.get(ANY) if node is not None else None
        if node is None:
            return False
        if node.is_secret:
            return True
    return False


def restored(new: Any, old: Any, place: KeyPath = ()) -> Any:
    """`new` with the secrets of `old` where it has the mask in their place, as what was read and is sent back has.

    A mask stays where `old` has no secret to put there: `masks_left` finds it. `place` is that of `new`.
    """
    if isinstance(new, dict):
        before = old if isinstance(old, dict) else {}
        return {name: restored(value, before.get(name, MISSING), (*place, name)) for name, value in new.items()}
    if isinstance(new, list):
        return [restored(value, _counterpart(new, value, n, old), (*place, n)) for n, value in enumerate(new)]
    has_mask = isinstance(new, str) and new == MASK and is_masked(place)
    return old if has_mask and isinstance(old, str) else new


def masks_left(tables: Any, place: KeyPath = ()) -> Iterator[KeyPath]:
    """The secret places whose value is the mask."""
    if isinstance(tables, dict):
        for name, value in tables.items():
            yield from masks_left(value, (*place, name))
    elif isinstance(tables, list):
        for number, value in enumerate(tables):
            yield from masks_left(value, (*place, number))
    elif isinstance(tables, str) and tables == MASK and is_masked(place):
        yield place


def _counterpart(items: list[Any], item: Any, number: int, old: Any) -> Any:
    """The item of a list from before that `item` stands for.

    A route is recognised by what it takes, wherever it stands now. Another item counts only in a list of equal length.
    """
    if not isinstance(old, list):
        return MISSING
    if isinstance(item, dict) and "prefix" in item:
        alike = [one for one in old if isinstance(one, dict) and _route(one) == _route(item)]
        return alike[0] if len(alike) == 1 else MISSING
    return old[number] if len(old) == len(items) else MISSING


def _route(table: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(table.get(name) for name in _ROUTE_IDENTITY)


@dataclass(slots=True)
class _Node:
    below: dict[str, _Node] = field(default_factory=dict)
    is_secret: bool = False


@cache
def _tree() -> _Node:
    root = _Node()
    for path in secret_keys():
        node = root
        for part in path:
            node = node.below.setdefault(part, _Node())
        node.is_secret = True
    return root


def _masked(value: Any, node: _Node | None) -> Any:
    if node is not None and node.is_secret:
        return _all_masked(value)
    if isinstance(value, Mapping):
        return {
            name: _masked(inner, (node.below.get(str(name)) or node.below.get(ANY)) if node else None)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_masked(inner, node.below.get(ANY) if node else None) for inner in value]
    return value


def _all_masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _all_masked(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_all_masked(inner) for inner in value]
    return MASK if value not in ("", None) else value


def _holds(form: Any, kind: type) -> bool:
    """Whether a declared type is `kind`, or a list or a table with free names of it."""
    form = bare_form(form)
    return form is kind or any(_holds(arg, kind) for arg in get_args(form) if arg is not Ellipsis)
