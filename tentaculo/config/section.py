"""The base of every table of the configuration, and the declaration of a key.

    port: Annotated[Port, Doc("Port to listen on.", zero="any free port", active=True)] = 8000

A key is declared once. The environment's names, the text of `tentaculo init`, `tentaculo.example.toml`, the tables of
`docs/configuration.md` and `docs/limits.md` and the JSON Schema are made of the declarations; `make docs` writes the
files. A new key therefore touches three files by hand: its declaration, the module that uses it, and a test.

A constraint stands beside the type too. Its function receives a value and returns the value to use, or raises
ValueError. The error text names the fault and never repeats the value. `schema` holds the JSON Schema keywords with
the same meaning, for editors.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Final, Self, get_args, get_origin

import msgspec

JsonSchema = dict[str, Any]

INTERNAL: Final = object()
"""Marks a field that the loader sets; in a file it is an unknown key."""
UNSET: Final = object()
"""Stands for a value that is not given, where None is a value."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Details:
    unit: str = ""
    """Unit of the value: seconds, bytes, days."""
    default: str = ""
    """The default in words, where the value itself does not explain it."""
    zero: str = ""
    """What the value 0 means."""
    beyond: str = ""
    """What happens beyond the limit, for docs/limits.md. Only limits have it."""
    example: Any = UNSET
    """Value in the example file, as TOML has it; without it, the example shows the default."""
    variant: Any = UNSET
    """Value in the second example table, for keys that exclude one of the first. For a table: its comment."""
    active: bool = False
    """Whether the example file sets the key, instead of showing it in a comment."""
    names: tuple[str, ...] = ()
    """For a table of named tables: the names of the first and the second example table."""
    secret: bool = False
    """Whether its values may be secrets although their type is not `Secret`: people see a mask instead."""


@dataclass(frozen=True, slots=True, eq=False)
class Doc(_Details):
    """What people read about a key or a table. Stands beside the type in `Annotated`."""

    meaning: str


class Section(msgspec.Struct, frozen=True, gc=False):
    """A frozen table of the configuration.

    An instance made in code is not validated; `reader.read` makes a validated one from a file's tables. None is in a cycle,
    so that the garbage collector need not look at it: a thousand services have five thousand.
    """

    def check(self) -> None:
        """Find keys that contradict each other. Raises ValueError, whose text is the fault."""

    def replace(self, **changes: Any) -> Self:
        """A copy with other values. They are not validated."""
        return msgspec.structs.replace(self, **changes)


class Declared(msgspec.Struct, frozen=True):
    """A key as its section declares it."""

    form: Any
    """Its type, with its constraints."""
    doc: Doc
    default: Any
    """UNSET where the key is required."""

    @property
    def is_required(self) -> bool:
        """Whether a file must set the key."""
        return self.default is UNSET


@cache
def keys_of(section: type[Section]) -> Mapping[str, Declared]:
    """The keys that a file may set, in the order of their declaration. Raises TypeError for a key without Doc."""
    keys = {}
    for one in msgspec.structs.fields(section):
        form = one.type
        notes = get_args(form)[1:] if get_origin(form) is Annotated else ()
        if INTERNAL in notes:
            continue
        doc = next((note for note in notes if isinstance(note, Doc)), None)
        if doc is None:
            raise TypeError(f"{section.__name__}.{one.name} has no Doc")
        default = UNSET if one.required else one.default
        if one.default_factory is not msgspec.NODEFAULT:
            default = one.default_factory()
        keys[one.name] = Declared(form, doc, default)
    return keys


def _keywords() -> JsonSchema:
    return {}


@dataclass(frozen=True, slots=True)
class Parse:
    """`function` makes the value of what the file holds, of any type. The declared type is not checked."""

    function: Callable[[Any], Any]
    schema: JsonSchema = field(default_factory=_keywords, compare=False)
    """Schema of what the file holds."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """`function` changes what the file holds, of any type, before its type is checked."""

    function: Callable[[Any], Any]
    schema: JsonSchema = field(default_factory=_keywords, compare=False)
    """Schema of what a file may hold instead of the declared type."""


@dataclass(frozen=True, slots=True)
class Check:
    """`function` checks the value after its type is checked."""

    function: Callable[[Any], Any]
    schema: JsonSchema = field(default_factory=_keywords, compare=False)
    """Keywords that are added to the schema of the type."""


def at_least(bound: float) -> Check:
    """A number that is at least `bound`."""
    return _bounded(operator.ge, bound, "at least", "minimum")


def at_most(bound: float) -> Check:
    """A number that is at most `bound`."""
    return _bounded(operator.le, bound, "at most", "maximum")


def more_than(bound: float) -> Check:
    """A number that is more than `bound`."""
    return _bounded(operator.gt, bound, "more than", "exclusiveMinimum")


def at_most_long(length: int) -> Check:
    """Text of at most `length` characters."""

    def check(value: str) -> str:
        if len(value) > length:
            raise ValueError(f"has more than {length} characters")
        return value

    return Check(check, {"maxLength": length})


def _not_empty(value: Any) -> Any:
    if not value:
        raise ValueError("must not be empty")
    return value


NOT_EMPTY = Check(_not_empty, {"minLength": 1, "minItems": 1})
"""Text with at least one character, or a list with at least one item."""


def _bounded(holds: Callable[[float, float], bool], bound: float, words: str, keyword: str) -> Check:
    def check(value: float) -> float:
        # Every comparison with NaN is false, so NaN is within no bound.
        if not holds(value, bound):
            raise ValueError(f"must be {words} {bound:.12g}")
        return value

    return Check(check, {keyword: bound})
