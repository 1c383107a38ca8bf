"""Which members of a JSON text have values that cannot be kept, so that a response can name them. Pure.

Many encoders write NaN and Infinity, and cut texts inside a surrogate pair, where the text is else the JSON that it should be.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from tentaculo.events.schemas import DEPTH, Envelope, FieldError, JsonError, Rejected, parse_json
from tentaculo.model.text import printable

MOST_FAULTS = 16
"""Faults that are listed of one text."""
MOST_VALUES = 4096
"""Values that are looked at: it takes 2 ms. Of a text with more the whole is faulty, not its members."""
_MOST_NAME, _MOST_PATH = 64, 200
"""Characters of a member's name, and of a whole path."""
_MASKS = ((b"\\\\", b"__"), (b"\\u", b"__"), (b"NaN", b"1e1"), (b"Infinity", b"12345678"))


class _Faulty(NamedTuple):
    """Stands for a value that JSON does not have."""

    message: str


_NOT_JSON = _Faulty("is NaN or Infinity, which JSON does not have")
_TOO_LARGE = _Faulty("is a number beyond a double")
_CUT = _Faulty("has half of a surrogate pair, which UTF-8 does not have")


def parse_members(data: bytes, whole: str = "") -> tuple[Any, list[FieldError]]:
    """The value of a JSON text, and a fault for each member whose value cannot be kept; that one is null in the value.

    `whole` is the name of the text itself, empty for that of an event. Raises `JsonError` where no member is to blame.
    """
    try:
        return parse_json(data), []
    except JsonError:
        value, faults = _read_faulty(data, whole)
        if not faults:
            raise
        return value, faults


def with_value_faults(verdict: Envelope | Rejected, faults: list[FieldError]) -> Envelope | Rejected:
    """`verdict` about a value of `parse_members`, with its faults."""
    if not faults:
        return verdict
    others = verdict.faults if isinstance(verdict, Rejected) else ()
    return Rejected((*(one for one in others if not _is_of_null(one, faults)), *faults))


def _is_of_null(fault: FieldError, faults: list[FieldError]) -> bool:
    """Whether a fault is that of a null which stands for one of `faults`. Canonical fields are named without their object."""
    if fault.message.endswith(" null"):
        return any(f".{one.field}".endswith(f".{fault.field}") for one in faults)
    return any(one.field == fault.field for one in faults)


def masked(text: bytes) -> bytes:
    """A text of the same size, in which values that JSON does not have are others. Where items begin and end stays."""
    for value, mask in _MASKS:
        text = text.replace(value, mask)
    return text


def _read_faulty(data: bytes, whole: str) -> tuple[Any, list[FieldError]]:
    search = _Search()
    try:
        value = search.keep(json.loads(data.decode(), parse_constant=lambda _: _NOT_JSON), whole, 0)
    except (ValueError, RecursionError):
        return None, []
    return value, search.faults


class _Search:
    """Looks for what cannot be kept in one value."""

    def __init__(self) -> None:
        self.faults: list[FieldError] = []
        self._left = MOST_VALUES

    def keep(self, value: Any, path: str, depth: int) -> Any:
        """`value` without what cannot be kept. Raises ValueError where it is nested too deeply, or has too many values."""
        if isinstance(value, list | dict):
            self._left -= len(value)
            if depth == DEPTH or self._left < 0:
                raise ValueError
            return self._members(value, path, depth + 1)
        fault = _fault_of(value)
        if fault is None:
            return value
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(FieldError(path[:_MOST_PATH] or "body", fault.message))
        return None

    def _members(self, value: list[Any] | dict[str, Any], path: str, depth: int) -> Any:
        if isinstance(value, list):
            return [self.keep(one, f"{path}[{number}]", depth) for number, one in enumerate(value)]
        found = {}
        for name, one in value.items():
            inner = f"{path}.{_shown(name)}" if path else _shown(name)
            if _is_whole(name):
                found[name] = self.keep(one, inner, depth)
            else:
                self.keep(_CUT, inner, depth)
        return found


def _fault_of(value: Any) -> _Faulty | None:
    if isinstance(value, str):
        return None if _is_whole(value) else _CUT
    if isinstance(value, float) and not math.isfinite(value):
        return _TOO_LARGE
    return value if isinstance(value, _Faulty) else None


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(name: str) -> str:
    return printable(name, _MOST_NAME) or "(a name that is not printable)"
