"""Variables in a compose file, and the file `.env` beside it, by the rules of the Compose specification.

https://github.com/compose-spec/compose-spec/blob/main/12-interpolation.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tentaculo.model.text import printable

Variables = Mapping[str, str]
"""Values by name. The environment wins over the file."""
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_OPERATOR = re.compile(r":?[-?+]")
_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][\w.-]*)[ \t]*[=:][ \t]*", re.ASCII)
_COMMENT = re.compile(r"(?:^|[ \t])#")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_MOST_NESTED = 8


class ComposeError(ValueError):
    """The file is not a compose file. The message has the reason."""


def substitute(text: str, variables: Variables) -> str:
    """`text` with the values of its variables. A variable without a value is empty.

    Raises `ComposeError` where the file demands a value (`${NAME:?reason}`) that is not there.
    """
    value, _ = _until(text, 0, variables, depth=0)
    return value


def _until(text: str, position: int, variables: Variables, *, depth: int) -> tuple[str, int]:
    """The value of `text` from `position` to its end, or within braces to their end; and the position behind that."""
    found: list[str] = []
    while position < len(text):
        character = text[position]
        if character == "}" and depth:
            break
        if character != "$":
            found.append(character)
            position += 1
        elif text.startswith("$$", position):
            found.append("$")
            position += 2
        elif text.startswith("${", position):
            value, position = _braced(text, position + 2, variables, depth=depth + 1)
            found.append(value)
        elif (name := _NAME.match(text, position + 1)) is not None:
            found.append(variables.get(name[0], ""))
            position = name.end()
        else:
            found.append(character)
            position += 1
    return "".join(found), position


def _braced(text: str, position: int, variables: Variables, *, depth: int) -> tuple[str, int]:
    """The value of `${…}` whose name begins at `position`, and the position behind the brace."""
    name = _NAME.match(text, position)
    if name is None or depth > _MOST_NESTED:
        raise ComposeError(f"{printable(text, 80)} has a variable that is not valid")
    operator = _OPERATOR.match(text, name.end())
    end = operator.end() if operator else name.end()
    demanded = "" if operator is None else operator[0]
    value = variables.get(name[0])
    is_set = value is not None and (value != "" or not demanded.startswith(":"))
    # A part that is not used may demand what is not there.
    other, end = _until(text, end, variables if demanded[-1:] == ("+" if is_set else "-") else _Anything(), depth=depth)
    if not text.startswith("}", end) or (not operator and other):
        raise ComposeError(f"{printable(text, 80)} has a variable that is not valid")
    if demanded.endswith("?") and not is_set:
        reason = f": {printable(other, 80)}" if other else ""
        raise ComposeError(f"the variable {name[0]} has no value{reason}")
    if demanded.endswith("+"):
        return (other if is_set else ""), end + 1
    return (value or "") if is_set or not operator else other, end + 1


class _Anything(dict[str, str]):
    """Values for a part that is not used: nothing that it demands is missing."""

    def get(self, name: str, default: object = None) -> str:
        return "x"


def read_env_file(text: str, environ: Variables) -> dict[str, str]:
    """The assignments of a `.env` file, for the variables that `environ` does not have. Other lines are skipped.

    A value in single quotes is as it stands. In double quotes and without quotes it may have variables.
    """
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        assignment = _ASSIGNMENT.match(text, position)
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        if assignment is not None and assignment.end() <= end:
            value, end = _value(text, assignment.end(), end, {**found, **environ})
            found[assignment[1]] = value
        position = end + 1
    return found


def _value(text: str, begin: int, end: int, variables: Variables) -> tuple[str, int]:
    """The value that begins at `begin` in the line that ends at `end`, and the end of its last line."""
    quote = text[begin : begin + 1]
    if quote in ("'", '"'):
        close = begin + 1
        while close < len(text) and text[close] != quote:
            close += 2 if quote == '"' and text[close] == "\\" else 1
        if close < len(text):
            line_end = text.find("\n", close)
            inside = text[begin + 1 : close]
            if quote == '"':
                inside = substitute(_ESCAPE.sub(_unescaped, inside), variables)
            return inside, len(text) if line_end < 0 else line_end
    line = text[begin:end]
    comment = _COMMENT.search(line)
    return substitute((line[: comment.start()] if comment else line).strip(), variables), end


def _unescaped(found: re.Match[str]) -> str:
    character = found[1]
    return "$$" if character == "$" else _ESCAPES.get(character, character)
