"""What every table of the configuration has in common, and how its keys are declared.

    port: Annotated[Port, "Port to listen on. Default 8000; 0 takes any free port."] = 8000

The text beside the form says meaning, unit and default: the reference and the environment's names are made of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, Self, get_args, get_origin, get_type_hints

import msgspec

INTERNAL: Final = object()
"""Marks a field that loading fills in; in a file it is an unknown key."""


class Section(msgspec.Struct, frozen=True):
    """A frozen table. One that is made in code is taken as it is; `forms.read` makes one of what a file holds."""

    def check(self) -> None:
        """Find keys that contradict each other, when each is well by itself. Raises ValueError, which says what."""

    def replace(self, **changes: Any) -> Self:
        """The same with other values, which are taken as they are."""
        return msgspec.structs.replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Declared:
    """A key as its section declares it."""

    form: Any
    """Its type, with the marks of `marks.py`."""
    description: str
    is_required: bool


@cache
def keys_of(section: type[Section]) -> Mapping[str, Declared]:
    """The keys that a file may set, in the order of their declaration."""
    hints = get_type_hints(section, include_extras=True)
    fields = section.__struct_fields__
    required = fields[: len(fields) - len(section.__struct_defaults__)]
    keys = {}
    for name in fields:
        notes = get_args(hints[name])[1:] if get_origin(hints[name]) is Annotated else ()
        if INTERNAL not in notes:
            description = next((note for note in notes if isinstance(note, str)), "")
            keys[name] = Declared(hints[name], description, name in required)
    return keys
