"""The form of `[services.<name>.probe]`: how a service is asked for its health, and what is expected of its answer."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, model_validator
from pydantic_core import SchemaError, SchemaValidator, core_schema

from tentaculo.config import conditions
from tentaculo.config.conditions import Condition
from tentaculo.config.section import Section
from tentaculo.config.values import Count, Seconds, Share

_STATUS = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")
_MOST = 500
"""Characters of a pattern."""


class Pattern:
    """A regular expression that takes time in proportion to the text, whatever the text is.

    Its syntax is that of Rust's `regex`, which pydantic brings: no look-around and no back-references, which are what
    lets a hostile text keep other engines, `re` among them, busy for ever.
    """

    __slots__ = ("_validator", "text")

    def __init__(self, text: str) -> None:
        """Raises ValueError, which says in words that it is none."""
        if len(text) > _MOST:
            raise ValueError(f"has more than {_MOST} characters")
        try:
            self._validator = SchemaValidator(core_schema.str_schema(pattern=text, regex_engine="rust-regex"))
        except SchemaError:
            raise ValueError("is not a regular expression without look-around and back-references") from None
        self.text = text

    def __repr__(self) -> str:
        return f"<Pattern {self.text}>"

    def is_in(self, text: str) -> bool:
        """Whether some part of `text` matches."""
        return self._validator.isinstance_python(text)


def _as_pattern(value: Any) -> Pattern:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return Pattern(value)


def _as_condition(value: Any) -> Condition:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return conditions.parse(value)


def _as_statuses(value: Any) -> tuple[int, int]:
    if isinstance(value, tuple):
        return value  # the default; a file has lists
    match = _STATUS.fullmatch(str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if match is None:
        raise ValueError('must be a status such as 204, or a range such as "200-299"')
    low, high = int(match[1]), int(match[2] or match[1])
    if low > high:
        raise ValueError("is a range that ends before it begins")
    return low, high


def _not_empty(value: Any) -> Any:
    # Not min_length, which would also count what is left when a faulty one has been taken out.
    if value == [] or value == ():
        raise ValueError("must not be empty")
    return value


Statuses = Annotated[tuple[int, int], PlainValidator(_as_statuses)]
Conditions = tuple[Annotated[Condition, PlainValidator(_as_condition)], ...]

_OF_ANSWERS = ("contains", "matches", "require", "prefer")
_OF_KIND = {
    "http": ("method", "status", *_OF_ANSWERS, "slow", "certificate_days"),
    "tcp": ("slow",),
    "tls": ("slow", "certificate_days"),
    "websocket": ("slow", "certificate_days"),
    "heartbeat": ("silence", *_OF_ANSWERS),
}


class Probe(Section):
    """How a service is asked for its health."""

    kind: Literal["http", "tcp", "tls", "websocket", "heartbeat"] = Field(
        "http",
        description="http, websocket (a handshake), tls (the certificate), tcp (a connection) or heartbeat (the service"
        " calls POST /vx11/heartbeat/NAME). Default http.",
    )
    interval: Seconds = Field(10, description="Seconds between probes. Default 10.")
    jitter: Annotated[Share, Field(le=0.5)] = Field(
        0.1, description="Share of the interval by which it varies at random, up to 0.5. Default 0.1."
    )
    recheck: Seconds = Field(
        1, description="Seconds to the next probe while the last one contradicts what is believed. Default 1."
    )
    timeout: Seconds = Field(3, description="Seconds one probe may take. Default 3.")
    failures: Annotated[Count, Field(ge=1)] = Field(
        3, description="Probes in a row that must find it worse before that is believed. Default 3."
    )
    successes: Annotated[Count, Field(ge=1)] = Field(
        2, description="Probes in a row that must find it better before that is believed. Default 2."
    )
    method: Literal["GET", "HEAD", "POST", "OPTIONS"] = Field(
        "GET", description="Method of the request: GET, HEAD, POST or OPTIONS. Default GET."
    )
    status: Annotated[tuple[Statuses, ...], BeforeValidator(_not_empty)] = Field(
        ((200, 200),),
        description='Statuses of the answer, and ranges of them, that are well: [200, "300-399"]. Default [200].',
    )
    contains: str | None = Field(
        None, min_length=1, max_length=_MOST, description="Text that the answer's body must contain. Default none."
    )
    matches: Annotated[Pattern, PlainValidator(_as_pattern)] | None = Field(
        None, description="Regular expression that must match within the answer's body. Default none."
    )
    require: Conditions = Field(
        (),
        description="Conditions of the answer's JSON without which it is down, such as 'db.ok == true'. Default none.",
    )
    prefer: Conditions = Field(
        (), description="Conditions without which it is degraded, such as 'queue.depth < 100'. Default none."
    )
    slow: Seconds | None = Field(None, description="Seconds after which an answer is degraded. Default none.")
    certificate_days: Annotated[Count, Field(ge=0)] = Field(
        14, description="Days that the certificate of an https address must still hold, else degraded. Default 14."
    )
    silence: Seconds = Field(60, description="Seconds without a heartbeat after which it is down. Default 60.")

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Probe:
        known = _OF_KIND[self.kind]
        special = {key for keys in _OF_KIND.values() for key in keys}
        fields = type(self).model_fields
        strange = sorted(key for key in special - {*known} if getattr(self, key) != fields[key].default)
        if strange:
            raise ValueError(f"has {' and '.join(strange)}, which a probe of kind {self.kind} does not know")
        of_body = [key for key in _OF_ANSWERS if getattr(self, key)]
        if self.method == "HEAD" and of_body:
            raise ValueError(f"has {' and '.join(of_body)}, but asks by HEAD, whose answer has no body")
        return self

    @property
    def thresholds(self) -> tuple[int, int]:
        """How many failures and successes in a row are believed. A silence says it all by itself."""
        return (1, 1) if self.kind == "heartbeat" else (self.failures, self.successes)
