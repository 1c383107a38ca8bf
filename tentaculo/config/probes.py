"""The table `[services.<name>.probe]`: how a service is probed, and which responses are healthy."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from tentaculo.config import conditions
from tentaculo.config.conditions import Condition
from tentaculo.config.section import NOT_EMPTY, Doc, Parse, Section, at_least, at_most, at_most_long
from tentaculo.config.types import HeaderName, HeaderValue, Seconds, Share

_STATUS = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")
_MOST = 500
"""Characters of a pattern."""


class Pattern:
    """A regular expression that takes time in proportion to the text, whatever the text is.

    Its syntax is that of RE2 (https://github.com/google/re2/wiki/Syntax): no look-around and no back-references. With
    these, a hostile text can keep other engines busy for ever, `re` among them.
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
    return conditions.parse(value)


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
Conditions = tuple[
    Annotated[Condition, Parse(_as_condition, {"type": "string", "maxLength": conditions.MAX_LENGTH})], ...
]

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
    def thresholds(self) -> tuple[int, int]:
        """The failures and successes in a row that change the state. One missed heartbeat is enough."""
        return (1, 1) if self.kind == "heartbeat" else (self.failures, self.successes)
