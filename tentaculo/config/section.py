"""The base of every table of the configuration, and the declaration of a key.

    port: Annotated[Port, Doc("Port to listen on.", zero="any free port", active=True)] = 8000

A key is declared once. The environment's names, the text of `tentaculo init`, `tentaculo.example.toml`, the tables of
`docs/configuration.md` and `docs/limits.md` and the JSON Schema are made of the declarations; `make docs` writes the
files. A new key therefore touches three files by hand: its declaration, the module that uses it, and a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, Self, get_args, get_origin, get_type_hints

import msgspec

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


@dataclass(frozen=True, slots=True, eq=False)
class Doc(_Details):
    """What people read about a key or a table. Stands beside the type in `Annotated`."""

    meaning: str


class Section(msgspec.Struct, frozen=True):
    """A frozen table of the configuration.

    An instance made in code is not validated; `reader.read` makes a validated one from a file's tables.
    """

    def check(self) -> None:
        """Find keys that contradict each other. Raises ValueError, whose text is the fault."""

    def replace(self, **changes: Any) -> Self:
        """A copy with other values. They are not validated."""
        return msgspec.structs.replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Declared:
    """A key as its section declares it."""

    form: Any
    """Its type, with the constraints of `constraints.py`."""
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
    hints = get_type_hints(section, include_extras=True)
    keys = {}
    for field in msgspec.structs.fields(section):
        form = hints[field.name]
        notes = get_args(form)[1:] if get_origin(form) is Annotated else ()
        if INTERNAL in notes:
            continue
        doc = next((note for note in notes if isinstance(note, Doc)), None)
        if doc is None:
            raise TypeError(f"{section.__name__}.{field.name} has no Doc")
        default = UNSET if field.required else field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        keys[field.name] = Declared(form, doc, default)
    return keys
