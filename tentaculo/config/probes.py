"""The form of `[services.<name>.probe]`: how a service is asked for its health, and what is expected of its answer."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from tentaculo.config import conditions
from tentaculo.config.conditions import Condition
from tentaculo.config.constraints import NOT_EMPTY, Parse, at_least, at_most, at_most_long
from tentaculo.config.section import Section
from tentaculo.config.types import Seconds, Share

_STATUS = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")
_MOST = 500
"""Characters of a pattern."""


class Pattern:
    """A regular expression that takes time in proportion to the text, whatever the text is.

    Its syntax is that of RE2 (https://github.com/google/re2/wiki/Syntax): no look-around and no back-references, which
    are what lets a hostile text keep other engines, `re` among them, busy for ever.
    """

    __slots__ = ("_expression", "text")

    def __init__(self, text: str) -> None:
        """Raises ValueError, which says in words that it is none."""
        if len(text) > _MOST:
            raise ValueError(f"has more than {_MOST} characters")
        import re2  # takes 3.5 MB of memory, and few fleets have a pattern

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
        # What RE2 has made of it cannot be handed to another process, as the supervisor hands a configuration down.
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
        raise ValueError("is a range that ends before it begins")
    return low, high


Statuses = Annotated[tuple[int, int], Parse(_as_statuses)]
Conditions = tuple[Annotated[Condition, Parse(_as_condition)], ...]

_OF_ANSWERS = ("contains", "matches", "require", "prefer")
_OF_KIND = {
    "http": ("method", "status", *_OF_ANSWERS, "slow", "certificate_days"),
    "tcp": ("slow",),
    "tls": ("slow", "certificate_days"),
    "websocket": ("slow", "certificate_days"),
    "heartbeat": ("silence", *_OF_ANSWERS),
}


class ProbeSettings(Section, frozen=True):
    """How a service is asked for its health."""

    kind: Annotated[
        Literal["http", "tcp", "tls", "websocket", "heartbeat"],
        "http, websocket (a handshake), tls (the certificate), tcp (a connection) or heartbeat (the service"
        " calls POST /vx11/heartbeat/NAME). Default http.",
    ] = "http"
    interval: Annotated[Seconds, "Seconds between probes. Default 10."] = 10
    jitter: Annotated[
        Share, at_most(0.5), "Share of the interval by which it varies at random, up to 0.5. Default 0.1."
    ] = 0.1
    recheck: Annotated[
        Seconds, "Seconds to the next probe while the last one contradicts what is believed. Default 1."
    ] = 1
    timeout: Annotated[Seconds, "Seconds one probe may take. Default 3."] = 3
    failures: Annotated[
        int, at_least(1), "Probes in a row that must find it worse before that is believed. Default 3."
    ] = 3
    successes: Annotated[
        int, at_least(1), "Probes in a row that must find it better before that is believed. Default 2."
    ] = 2
    method: Annotated[
        Literal["GET", "HEAD", "POST", "OPTIONS"], "Method of the request: GET, HEAD, POST or OPTIONS. Default GET."
    ] = "GET"
    status: Annotated[
        tuple[Statuses, ...],
        NOT_EMPTY,
        'Statuses of the answer, and ranges of them, that are well: [200, "300-399"]. Default [200].',
    ] = ((200, 200),)
    contains: Annotated[
        Annotated[str, NOT_EMPTY, at_most_long(_MOST)] | None, "Text that the answer's body must contain. Default none."
    ] = None
    matches: Annotated[
        Annotated[Pattern, Parse(_as_pattern)] | None,
        "Regular expression that must match within the answer's body. Default none.",
    ] = None
    require: Annotated[
        Conditions, "Conditions of the answer's JSON without which it is down, such as 'db.ok == true'. Default none."
    ] = ()
    prefer: Annotated[
        Conditions, "Conditions without which it is degraded, such as 'queue.depth < 100'. Default none."
    ] = ()
    slow: Annotated[Seconds | None, "Seconds after which an answer is degraded. Default none."] = None
    certificate_days: Annotated[
        int,
        at_least(0),
        "Days that the certificate of an https address must still hold, else degraded. Default 14.",
    ] = 14
    silence: Annotated[Seconds, "Seconds without a heartbeat after which it is down. Default 60."] = 60

    def check(self) -> None:
        """Raises ValueError where it has keys that its kind or its method does not know."""
        plain = ProbeSettings()
        known = _OF_KIND[self.kind]
        special = {key for keys in _OF_KIND.values() for key in keys}
        strange = sorted(key for key in special - {*known} if getattr(self, key) != getattr(plain, key))
        if strange:
            raise ValueError(f"has {' and '.join(strange)}, which a probe of kind {self.kind} does not know")
        of_body = [key for key in _OF_ANSWERS if getattr(self, key)]
        if self.method == "HEAD" and of_body:
            raise ValueError(f"has {' and '.join(of_body)}, but asks by HEAD, whose answer has no body")

    @property
    def thresholds(self) -> tuple[int, int]:
        """How many failures and successes in a row are believed. A silence says it all by itself."""
        return (1, 1) if self.kind == "heartbeat" else (self.failures, self.successes)
