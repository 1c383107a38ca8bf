"""Every key of the configuration, read off the schema: for environment names, suggestions and the reference."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from tentaculo.config.schema import Config

ANY = "*"
"""Stands in a path for a name in a table of tables, or for a place in a list."""

INTERNAL = ("name", "folder", "plain_token")
"""Fields that loading fills in; in a file they are unknown keys."""


class Kind(StrEnum):
    """How a key's value is written in the environment: a scalar as plain text, the others as JSON."""

    SCALAR = "scalar"
    LIST = "list"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `path` is ("services", "*", "breaker", "failures") for `services.<name>.breaker.failures`."""

    path: tuple[str, ...]
    kind: Kind
    is_section: bool
    """Whether it is a table with fixed keys of its own, or a list or table of such tables."""
    description: str
    """Meaning, unit and default."""


def walk(model: type[BaseModel] = Config, path: tuple[str, ...] = ()) -> Iterator[Key]:
    """Every key below `model`, each table before its own keys."""
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        here = (*path, name)
        kind, below, inner = _look(field.annotation)
        yield Key(here, kind, inner is not None, field.description or "")
        if inner is not None:
            yield from walk(inner, here + below)


def children(place: Sequence[str | int]) -> list[str]:
    """The keys that may stand at `place`, a real path such as ("services", "madre"). Empty where any may."""
    known = {key.path for key in walk()}
    parent: tuple[str, ...] = ()
    for step in place:
        parent = (*parent, step) if isinstance(step, str) and (*parent, step) in known else (*parent, ANY)
    return [path[-1] for path in known if path[:-1] == parent and path[-1] != ANY]


def _look(annotation: Any) -> tuple[Kind, tuple[str, ...], type[BaseModel] | None]:
    """Kind of a field's type, what stands between it and the tables inside it, and those tables' model."""
    annotation = _bare(annotation)
    origin, args = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Kind.TABLE, (), annotation
    if origin is dict:
        return Kind.TABLE, (ANY,), _model(args[1])
    if origin is tuple:
        return Kind.LIST, (ANY,), _model(args[0])
    return Kind.SCALAR, (), None


def _model(annotation: Any) -> type[BaseModel] | None:
    annotation = _bare(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _bare(annotation: Any) -> Any:
    """The type without `Annotated` and without `| None`."""
    while True:
        origin, args = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            annotation = args[0]
        elif origin in (typing.Union, types.UnionType) and type(None) in args and len(args) == 2:
            annotation = next(arg for arg in args if arg is not type(None))
        else:
            return annotation
