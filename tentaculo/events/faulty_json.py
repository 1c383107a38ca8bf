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
    faults: list[FieldError] = []
    try:
        value = json.loads(data.decode(), parse_constant=lambda _: _NOT_JSON, parse_float=_number)
        value = _kept(value, whole, 0, faults)
    except (ValueError, RecursionError):
        return None, []
    return value, faults


def _number(text: str) -> float | _Faulty:
    value = float(text)
    return value if math.isfinite(value) else _TOO_LARGE


def _kept(value: Any, path: str, depth: int, faults: list[FieldError]) -> Any:
    """`value` without what cannot be kept. Raises ValueError where it is nested too deeply."""
    if isinstance(value, str) and not _is_whole(value):
        value = _CUT
    if isinstance(value, _Faulty):
        if len(faults) < MOST_FAULTS:
            faults.append(FieldError(path[:_MOST_PATH] or "body", value.message))
        return None
    if depth == DEPTH and isinstance(value, dict | list):
        raise ValueError
    if isinstance(value, list):
        return [_kept(one, f"{path}[{number}]", depth + 1, faults) for number, one in enumerate(value)]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, one in value.items():
        inner = f"{path}.{_shown(name)}" if path else _shown(name)
        if _is_whole(name):
            found[name] = _kept(one, inner, depth + 1, faults)
        else:
            _kept(_CUT, inner, depth, faults)
    return found


def _is_whole(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _shown(name: str) -> str:
    return printable(name, _MOST_NAME) or "(a name that is not printable)"
