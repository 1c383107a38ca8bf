"""Reads the values of declared types from TOML data, and reports every fault with its path.

A form is a declared type, with constraints beside it if it is `Annotated`: text, number, flag, path, `Literal`, a list
`tuple[X, ...]`, a table with free names `dict[str, X]`, a Section, and each of these `| None`. No fault repeats the
refused value. A scalar of the environment is `EnvironmentText`, which may contain a number or a flag.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

from tentaculo.config.errors import ConfigError, ConfigFaults, KeyPath, did_you_mean
from tentaculo.config.section import Check, Parse, Prepare, Section, keys_of
from tentaculo.config.types import parse_flag

AddFault = Callable[[KeyPath, str], None]
"""Receives each fault: its path and a message."""
Reader = Callable[[Any, KeyPath, AddFault], Any]
"""Returns the value for the data at a path, or reports its faults and returns REFUSED."""

REFUSED: Final = object()
"""Stands for a value that has a fault."""

AnySection = TypeVar("AnySection", bound=Section)

_WHOLE = re.compile(r"[+-]?[0-9]+(?:_[0-9]+)*(?:\.0+)?")
_MOST_DIGITS = 1000
"""Python refuses to convert numbers with more than a few thousand digits."""


class EnvironmentText(str):
    """A scalar from the environment. Numbers and flags are text there."""


def read(section: type[AnySection], data: Mapping[str, Any]) -> AnySection:
    """Read a section from TOML tables. Raises ConfigError with every fault."""
    faults = ConfigFaults({})
    value = reader_for(section)(data, (), faults.add)
    if value is REFUSED:
        raise ConfigError(list(faults))
    section_value: AnySection = value
    return section_value


@cache
def reader_for(form: Any) -> Reader:
    """The reader for values of `form`. Raises TypeError for an unsupported type."""
    origin, args = get_origin(form), get_args(form)
    if origin is Annotated:
        return _constrained(args[0], args[1:])
    if origin in (typing.Union, types.UnionType) and len(args) == 2 and type(None) in args:
        return _optional(next(arg for arg in args if arg is not type(None)))
    if origin is Literal:
        return _literal(args)
    if origin is tuple and args[1:] == (...,):
        return _list(args[0])
    if origin is dict:
        return _names(args[0], args[1])
    if isinstance(form, type) and issubclass(form, Section):
        return _section(form)
    if form in _SCALARS:
        return _calling(_SCALARS[form])
    raise TypeError(f"{form} is not a supported type of a configuration key")


def _calling(function: Callable[[Any], Any]) -> Reader:
    def read_value(data: Any, path: KeyPath, add_fault: AddFault) -> Any:
        try:
            return function(data)
        except ValueError as error:
            add_fault(path, str(error))
            return REFUSED

    return read_value


def _constrained(form: Any, constraints: tuple[Any, ...]) -> Reader:
    parse = [constraint.function for constraint in constraints if isinstance(constraint, Parse)]
    inner = _calling(parse[0]) if parse else reader_for(form)
    before = [_calling(constraint.function) for constraint in constraints if isinstance(constraint, Prepare)]
    after = [_calling(constraint.function) for constraint in constraints if isinstance(constraint, Check)]
    steps = (*before, inner, *after)
    return inner if len(steps) == 1 else _in_order(steps)


def _in_order(steps: tuple[Reader, ...]) -> Reader:
    def read_steps(data: Any, path: KeyPath, add_fault: AddFault) -> Any:
        for step in steps:
            data = step(data, path, add_fault)
            if data is REFUSED:
                break
        return data

    return read_steps


def _optional(form: Any) -> Reader:
    inner = reader_for(form)

    def read_optional(data: Any, path: KeyPath, add_fault: AddFault) -> Any:
        return None if data is None else inner(data, path, add_fault)

    return read_optional


def _literal(words: tuple[str, ...]) -> Reader:
    *first, last = map(repr, words)
    message = f"must be one of {', '.join(first)} or {last}"

    def read_word(data: Any, path: KeyPath, add_fault: AddFault) -> Any:
        if isinstance(data, str) and data in words:
            return str(data)
        add_fault(path, message)
        return REFUSED

    return read_word


def _list(form: Any) -> Reader:
    inner = reader_for(form)

    def read_list(data: Any, path: KeyPath, add_fault: AddFault) -> Any:
        if not isinstance(data, list | tuple):
            add_fault(path, "must be a list")
            return REFUSED
        values = [inner(item, (*path, index), add_fault) for index, item in enumerate(data)]
        return REFUSED if REFUSED in values else tuple(values)

    return read_list


def _names(key_form: Any, form: Any) -> Reader:
    name, inner = reader_for(key_form), reader_for(form)

    def read_names(data: Any, path: KeyPath, add_fault: AddFault) -> Any:
        if not isinstance(data, dict):
            add_fault(path, "must be a table")
            return REFUSED
        values = {}
        is_valid = True
        for key, item in data.items():
            here = (*path, str(key))
            read_key, value = name(key, here, add_fault), inner(item, here, add_fault)
            is_valid = is_valid and read_key is not REFUSED and value is not REFUSED
            values[read_key] = value
        return values if is_valid else REFUSED

    return read_names


def _section(section: type[Section]) -> Reader:
    keys = keys_of(section)
    readers: dict[str, Reader] = {}  # made as they are needed: most files have few of the sections
    required = [name for name, key in keys.items() if key.is_required]

    def read_section(data: Any, path: KeyPath, add_fault: AddFault) -> Any:
        if isinstance(data, section):
            return data
        if not isinstance(data, dict):
            add_fault(path, "must be a table")
            return REFUSED
        values = {}
        is_valid = True
        for name, item in data.items():
            here = (*path, str(name))
            if name not in keys:
                add_fault(here, "unknown key" + did_you_mean(str(name), keys))
                is_valid = False
                continue
            if name not in readers:
                readers[name] = reader_for(keys[name].form)
            values[name] = value = readers[name](item, here, add_fault)
            is_valid = is_valid and value is not REFUSED
        for name in required:
            if name not in data:
                add_fault((*path, name), "is required")
                is_valid = False
        return _checked(section(**values), path, add_fault) if is_valid else REFUSED

    return read_section


def _check(section: Section) -> Section:
    section.check()
    return section


_checked = _calling(_check)


def _text(data: Any) -> str:
    if not isinstance(data, str):
        raise ValueError("must be text")
    try:
        data.encode()
    except UnicodeEncodeError:  # a lone surrogate, from JSON or from an environment variable that is not UTF-8
        raise ValueError("must be text") from None
    return str(data)


def _path(data: Any) -> Path:
    # A file name may contain bytes that are not UTF-8.
    if not isinstance(data, str | Path):
        raise ValueError("must be text")
    return Path(data)


def _number(data: Any) -> float:
    # bool is an int in Python, and `port = true` would be port 1; a quoted number in a file is a fault.
    if isinstance(data, bool) or not isinstance(data, int | float | EnvironmentText):
        raise ValueError("must be a number")
    try:
        return float(data if not isinstance(data, str) or data.isascii() else "")
    except (ValueError, OverflowError):
        raise ValueError("must be a number") from None


def _whole_number(data: Any) -> int:
    if isinstance(data, bool) or (isinstance(data, str) and not isinstance(data, EnvironmentText)):
        raise ValueError("must be a number")
    if isinstance(data, str):
        is_whole = len(data) <= _MOST_DIGITS and _WHOLE.fullmatch(data) is not None
        data = data.partition(".")[0]
    else:
        # The remainder of infinity and of NaN is NaN, which is not 0.
        is_whole = isinstance(data, int | float) and data % 1 == 0
    if not is_whole:
        raise ValueError("must be a whole number")
    return int(data)


def _flag(data: Any) -> bool:
    if isinstance(data, EnvironmentText):
        return parse_flag(data)
    # `enabled = "no"` is ambiguous, so it is a fault.
    if not isinstance(data, bool):
        raise ValueError("must be true or false, without quotes")
    return data


_SCALARS: dict[Any, Callable[[Any], Any]] = {
    str: _text,
    float: _number,
    int: _whole_number,
    bool: _flag,
    Path: _path,
}
