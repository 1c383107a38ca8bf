"""The parameters of a native path, declared once: what is checked is also what the API documents describe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

from multidict import MultiMapping

from tentaculo.model.failure import Failure, Problem
from tentaculo.model.text import printable

MOST_PARAMETERS = 256
"""Parameters in the query of an own path. To read thousands of them takes the event loop many milliseconds."""
_MOST_SHOWN = 40
_NUMBER = re.compile(r"[0-9]{1,9}")


class Parameter(NamedTuple):
    """One parameter of a query string."""

    name: str
    description: str
    """What it means, as Markdown of one paragraph."""
    schema: Mapping[str, Any]
    """The JSON Schema of its value, or of one of its values. An empty value always counts as a missing one."""
    is_list: bool = False
    """Whether it may be repeated."""


TICKET = Parameter("ticket", "A ticket of `POST /auth/ticket`, in place of the token.", {"type": "string"})
"""The dispatcher takes it out of the query where it authenticates the caller."""


def number_parameter(name: str, description: str, *, default: int, most: int) -> Parameter:
    """A number from 1 to `most`, for `read_number`."""
    return Parameter(name, description, {"type": "integer", "minimum": 1, "maximum": most, "default": default})


def read_number(query: Mapping[str, str], parameter: Parameter) -> int:
    """The value of a `number_parameter`, its default where it is missing or empty. Raises `Problem` (400)."""
    text = query.get(parameter.name, "")
    if not text:
        return int(parameter.schema["default"])
    most = parameter.schema["maximum"]
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
        _refuse(f"{parameter.name} must be a number from 1 to {most}.")
    return int(text)


def check_names(query: MultiMapping[str], known: Iterable[Parameter]) -> None:
    """Raise `Problem` (400) for a parameter that is not known, or that is repeated and is not a list.

    A misspelt filter that was ignored would select everything.
    """
    lists = {parameter.name: parameter.is_list for parameter in known}
    for name in query:
        if name not in lists:
            _refuse(f'"{printable(name, _MOST_SHOWN)}" is no parameter of this path; it takes {", ".join(lists)}.')
        if not lists[name] and len(query.getall(name)) > 1:
            _refuse(f"{name} may be there only once.")


def _refuse(detail: str) -> NoReturn:
    raise Problem(Failure.BAD_REQUEST, detail)
