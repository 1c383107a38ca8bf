"""The table `[services.<name>.probe]`: how a service is probed, and which responses are healthy.

Conditions of a JSON response: `status == "ok"`, `queue.depth < 100`, `workers[0].alive`.

    condition  = path [ operator literal ]
    path       = ( name | "[" index "]" ) { "." name | "[" index "]" }
    name       = letters, digits, _ and -, or any text as a JSON string: checks."disk /"
    index      = a whole number from 0
    operator   = == != < <= > >=
    literal    = a number, a JSON string, true, false or null

A path without an operator is true where the value is neither null nor false. If a path does not exist, every condition
is false, `!=` too. `==` and `!=` compare values of one type, numbers as numbers. The other operators compare numbers with
numbers and text with text, and are false for anything else.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Sequence
from math import isfinite, nan
from typing import Annotated, Any, Literal

import msgspec

from tentaculo.config.section import NOT_EMPTY, Doc, Parse, Section, at_least, at_most, at_most_long
from tentaculo.config.types import HeaderName, HeaderValue, Seconds, Share
from tentaculo.model.reason import because

_TOKEN = re.compile(
    r"""\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_-]*)
          | (?P<text>"(?:[^"\\]|\\.)*")
          | \[\s*(?P<index>[0-9]{1,9})\s*\])""",
    re.VERBOSE,
)
_HALF = re.compile(r"[\ud800-\udfff]")
"""Half of a surrogate pair, which JSON can escape and no text in UTF-8 has."""
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_COMPARISON = re.compile(r"\s*(==|!=|<=|>=|<|>)\s*(.*)\Z", re.DOTALL)
MAX_CONDITION = 500
"""Characters of a condition."""
_LONGEST_GAUGE = 54
MAX_GAUGES = 8
"""Numbers of one health response that early warnings follow."""
_SHOWN = 40
"""Characters of a value that are shown."""

_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MISSING = object()


class Condition(msgspec.Struct, frozen=True):
    """One parsed condition. `str()` returns it as it was written."""

    text: str
    path: tuple[str | int, ...]
    comparison: str = ""
    """The operator, empty where there is only a path."""
    literal: str | float | bool | None = None

    def __str__(self) -> str:
        return self.text

    def complaint(self, value: Any) -> str:
        """Why the condition is false for `value`, decoded JSON, in words; empty where it is true.

        Text from `value` is printable, on one line, and has at most 40 characters.
        """
        found = self._find(value)
        if found is _MISSING:
            return because("value_missing", place=self._place)
        if not self.comparison:
            is_false = found is None or found is False
            return because("value_is", place=self._place, value=_show(found)) if is_false else ""
        if self._holds(found):
            return ""
        expected = f"{self.comparison} {json.dumps(self.literal, ensure_ascii=False)}"
        return because("value_is_not", place=self._place, value=_show(found), expected=expected)

    @property
    def bound(self) -> float | None:
        """The number that the value may not reach; None where the condition is no bound."""
        return _finite(self.literal) if self.comparison in _ORDERINGS else None

    @property
    def is_upper(self) -> bool:
        """Whether the bound is an upper one."""
        return self.comparison in ("<", "<=")

    @property
    def gauge(self) -> str:
        """The name of the value as a signal: its path, at most 64 characters in all."""
        return f"gauge{'' if self.is_upper else '_low'}:{self._place[:_LONGEST_GAUGE]}"

    def number_in(self, value: Any) -> float | None:
        """The number in decoded JSON to which the path leads; None where there is none."""
        return _finite(self._find(value))

    def is_found_in(self, value: Any) -> bool:
        """Whether the path leads to a value."""
        return self._find(value) is not _MISSING

    @property
    def _place(self) -> str:
        place = ""
        for step in self.path:
            place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else step
        return place

    def _find(self, value: Any) -> Any:
        for step in self.path:
            if isinstance(step, int):
                if not isinstance(value, list) or step >= len(value):
                    return _MISSING
                value = value[step]
            elif isinstance(value, dict) and step in value:
                value = value[step]
            else:
                return _MISSING
        return value

    def _holds(self, found: Any) -> bool:
        alike = _kind(found) == _kind(self.literal)
        if self.comparison == "==":
            return alike and found == self.literal
        if self.comparison == "!=":
            return not (alike and found == self.literal)
        return alike and _kind(found) in ("number", "text") and _ORDERINGS[self.comparison](found, self.literal)


def parse_condition(text: str) -> Condition:
    """Parse a condition. Raises ValueError with the reason in words."""
    if len(text) > MAX_CONDITION:
        raise ValueError(f"has more than {MAX_CONDITION} characters")
    path: list[str | int] = []
    place = 0
    while match := _TOKEN.match(text, place):
        if path and (match["index"] is None) is not (text[place - 1] == "."):
            break
        path.append(_step(match))
        place = match.end()
        if text[place : place + 1] == ".":
            place += 1
        elif text[place : place + 1] != "[":
            break
    if not path or text[place - 1 : place] == ".":
        raise ValueError('must begin with a path, such as queue.depth or items[0]."a name"')
    rest = text[place:]
    if not rest.strip():
        return Condition(text, tuple(path))
    comparison = _COMPARISON.match(rest)
    if comparison is None:
        raise ValueError("must have one of == != < <= > >= after its path")
    return Condition(text, tuple(path), comparison[1], _literal(comparison[1], comparison[2]))


def _step(match: re.Match[str]) -> str | int:
    if match["index"] is not None:
        return int(match["index"])
    if match["name"] is not None:
        return match["name"]
    try:
        quoted: str = json.loads(match["text"])
    except ValueError:
        raise ValueError("has a quoted name that is no JSON string") from None
    if _UNSHOWN.search(quoted):
        raise ValueError("has a quoted name with a control character, or with half of a character")
    return quoted


def _literal(comparison: str, text: str) -> str | float | bool | None:
    try:
        value = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        value = _MISSING
    if value is _MISSING or isinstance(value, list | dict):
        raise ValueError('must compare with a number, a "text", true, false or null')
    if comparison in _ORDERINGS and _kind(value) not in ("number", "text"):
        raise ValueError(f"can use {comparison} with a number or a text only")
    if isinstance(value, str) and _HALF.search(value):
        raise ValueError("compares with a text that has half of a character")
    literal: str | float | bool | None = value
    return literal


def _reject_constant(word: str) -> Any:
    raise ValueError(word)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "other"


def _finite(value: Any) -> float | None:
    """A JSON number as a float; None for anything else."""
    try:
        number = float(value) if _kind(value) == "number" else nan
    except OverflowError:
        return None
    return number if isfinite(number) else None


def _show(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    cut = value[: _SHOWN * 2] if isinstance(value, str) else value
    shown = "".join(c for c in json.dumps(cut, ensure_ascii=False) if c.isprintable())
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"


_STATUS = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")
_MOST = 500
"""Characters of a pattern."""


class Pattern:
    """A regular expression that takes time in proportion to the text, whatever the text is.

    Its syntax is that of RE2 (https://github.com/google/re2/wiki/Syntax): no look-around and no back-references. With
    these, a hostile text can block other engines for ever, `re` among them.
    """

    __slots__ = ("_expression", "text")

    def __init__(self, text: str) -> None:
        """Raises ValueError with the reason if `text` is no regular expression."""
        if len(text) > _MOST:
            raise ValueError(f"has more than {_MOST} characters")
        import re2  # takes 3.5 MB of memory, and few configurations have a pattern

        options = re2.Options()
        options.log_errors = False
        try:
            self._expression = re2.compile(text, options)
        except (re2.error, ValueError):
            raise ValueError("is not a regular expression without look-around and back-references") from None
        self.text = text

    def __repr__(self) -> str:
        return f"<Pattern {self.text}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __reduce__(self) -> tuple[type[Pattern], tuple[str]]:
        # The compiled form cannot be pickled, and the supervisor passes the configuration to its workers.
        return Pattern, (self.text,)

    def is_in(self, text: str) -> bool:
        """Whether some part of `text` matches."""
        return self._expression.search(text) is not None


def _as_pattern(value: Any) -> Pattern:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return Pattern(value)


def _as_condition(value: Any) -> Condition:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return parse_condition(value)


def _as_statuses(value: Any) -> tuple[int, int]:
    match = _STATUS.fullmatch(str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if match is None:
        raise ValueError('must be a status such as 204, or a range such as "200-299"')
    low, high = int(match[1]), int(match[2] or match[1])
    if low > high:
        raise ValueError("is a range whose end is before its start")
    return low, high


_STATUS_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 100, "maximum": 599},
        {"type": "string", "pattern": f"^{_STATUS.pattern}$"},
    ]
}
Statuses = Annotated[tuple[int, int], Parse(_as_statuses, _STATUS_SCHEMA)]
Conditions = tuple[Annotated[Condition, Parse(_as_condition, {"type": "string", "maxLength": MAX_CONDITION})], ...]

_OF_BODIES = ("contains", "matches", "require", "prefer")
_OF_KIND = {
    "http": ("method", "headers", "status", *_OF_BODIES, "slow", "certificate_days"),
    "tcp": ("slow",),
    "tls": ("slow", "certificate_days"),
    "websocket": ("headers", "slow", "certificate_days"),
    "heartbeat": ("silence", *_OF_BODIES),
    "none": (),
}


class ProbeSettings(Section, frozen=True):
    """How the health of a service is probed."""

    kind: Annotated[
        Literal["http", "tcp", "tls", "websocket", "heartbeat", "none"],
        Doc(
            "Kind of the probe: http (a request), websocket (a handshake), tls (the certificate), tcp (a connection),"
            " heartbeat (the service sends POST /vx11/heartbeat/NAME) or none (only its requests decide)."
        ),
    ] = "http"
    interval: Annotated[Seconds, Doc("Time between probes.", unit="seconds")] = 10
    jitter: Annotated[
        Share, at_most(0.5), Doc("Share of the interval by which it varies at random, from 0 to 0.5.")
    ] = 0.1
    recheck: Annotated[
        Seconds,
        Doc("Time to the next probe while the last result contradicts the current state.", unit="seconds"),
    ] = 1
    timeout: Annotated[Seconds, Doc("How long one probe may take.", unit="seconds")] = 3
    failures: Annotated[
        int, at_least(1), Doc("Worse results in a row after which the state becomes worse.", unit="probes")
    ] = 3
    successes: Annotated[
        int, at_least(1), Doc("Better results in a row after which the state becomes better.", unit="probes")
    ] = 2
    method: Annotated[Literal["GET", "HEAD", "POST", "OPTIONS"], Doc("Method of the request.")] = "GET"
    headers: Annotated[
        dict[HeaderName, HeaderValue],
        Doc(
            "Headers of the request, beside those that every route of the service sets.",
            example={"Authorization": "Basic dXNlcjpwYXNz"},
            secret=True,
        ),
    ] = {}
    status: Annotated[
        tuple[Statuses, ...],
        NOT_EMPTY,
        Doc('Statuses, and ranges of them, of a healthy response: [200, "300-399"].', default="[200]", example=[200]),
    ] = ((200, 200),)
    contains: Annotated[
        Annotated[str, NOT_EMPTY, at_most_long(_MOST)] | None,
        Doc("Text that the response body must contain.", example="ready"),
    ] = None
    matches: Annotated[
        Annotated[Pattern, Parse(_as_pattern, {"type": "string", "maxLength": _MOST})] | None,
        Doc("Regular expression (RE2) that must match within the response body.", example="version [2-9]"),
    ] = None
    require: Annotated[
        Conditions,
        Doc("Conditions of the JSON response. The service is down if one is false.", example=["db.ok == true"]),
    ] = ()
    prefer: Annotated[
        Conditions,
        Doc(
            "Conditions of the JSON response. The service is degraded if one is false.",
            example=["queue.depth < 100", "workers[0].alive"],
        ),
    ] = ()
    slow: Annotated[
        Seconds | None,
        Doc("Response time above which the service is degraded.", unit="seconds", example=1),
    ] = None
    certificate_days: Annotated[
        int,
        at_least(0),
        Doc("The service is degraded if its certificate is valid for fewer days than this.", unit="days"),
    ] = 14
    silence: Annotated[Seconds, Doc("Time without a heartbeat after which the service is down.", unit="seconds")] = 60

    def check(self) -> None:
        """Raises ValueError for keys that the kind or the method of the probe does not support."""
        plain = ProbeSettings()
        known = _OF_KIND[self.kind]
        special = {key for keys in _OF_KIND.values() for key in keys}
        strange = sorted(key for key in special - {*known} if getattr(self, key) != getattr(plain, key))
        if strange:
            raise ValueError(f"has {' and '.join(strange)}, which a probe of kind {self.kind} does not support")
        of_body = [key for key in _OF_BODIES if getattr(self, key)]
        if self.method == "HEAD" and of_body:
            raise ValueError(f"has {' and '.join(of_body)}, but its method is HEAD, and a response to HEAD has no body")

    @property
    def gauges(self) -> Sequence[Condition]:
        """The conditions with a bound, `prefer` first, each value once: early warnings follow these numbers."""
        found: dict[str, Condition] = {}
        for one in (*self.prefer, *self.require):
            if one.bound is not None:
                found.setdefault(one.gauge, one)
        return list(found.values())[:MAX_GAUGES]

    @property
    def thresholds(self) -> tuple[int, int]:
        """The failures and successes in a row that change the state. One missed heartbeat is enough."""
        return (1, 1) if self.kind == "heartbeat" else (self.failures, self.successes)
