"""What a reader asks for in a query string: which events, and from which position in the log."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, NoReturn

from multidict import MultiMapping

from tentaculo.events.schemas import LATEST_MS, NAME_LENGTH
from tentaculo.model.event import MAX_EVENT_ID, EventFilter
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.text import parse_time
from tentaculo.server.query_parameters import Parameter

MOST_VALUES = 50
"""Values of one filter."""
MOST_TEXT = 256
"""Characters of one value."""
_POSITION = re.compile(r"(?:([0-9a-f]{12})-)?([0-9]{1,16})")
_MILLISECONDS = re.compile(r"[0-9]{1,15}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OFFSET = re.compile(r"\d\d:?\d\d")


_VALUE = {"type": "string", "maxLength": MOST_TEXT}
_TIME: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "integer", "minimum": 0, "exclusiveMaximum": LATEST_MS},
    ]
}
POSITION_SCHEMA = {"type": "string", "format": "event-position", "pattern": f"^({_POSITION.pattern})?$"}
"""The JSON Schema of a position in the log. Its format is the gateway's own: a number has at most 2^53 - 1."""


def values_parameter(name: str, what: str) -> Parameter:
    """The parameter of a filter for `values`; `what` is the part of an event that is to have one of them."""
    text = f"Only events with one of these {what}: repeated, or several with commas, {MOST_VALUES} at most."
    return Parameter(name, text, _VALUE, is_list=True)


FILTER = (
    values_parameter("type", "types"),
    values_parameter("source", "sources"),
    values_parameter("severity", "severities"),
    Parameter("from", "Received at this time or later: ISO 8601, or milliseconds since 1970.", _TIME),
    Parameter("to", "Received before this time, in the same forms.", _TIME),
    Parameter(
        "text",
        "Contained in `source`, `type`, or the JSON of `payload` or `metadata`; letters in any case.",
        _VALUE,
    ),
)
"""The parameters that `parse_filter` reads."""
PAGE_FILTER = (
    Parameter("not_source", "Not sent by this source.", _VALUE),
    Parameter(
        "about",
        "Only events that one of these sent, and those of the gateway that name one of them: repeated, or with commas.",
        _VALUE,
        is_list=True,
    ),
    Parameter("correlation", "Contained in a value of `payload` or `metadata`.", _VALUE),
)
"""The other parameters that `parse_page_filter` reads."""
SINCE = Parameter("since", "Only events after this position: a cursor, or an `event_id`.", POSITION_SCHEMA)


class Position(NamedTuple):
    """A place in a log, behind the event of this id. The event need not exist (any more)."""

    name: str | None
    """The name of the log; None where the reader gave a plain id."""
    event_id: int


def cursor(name: str, event_id: int) -> str:
    """A position as readers get it and send it back."""
    return f"{name}-{event_id}"


def parse_position(text: str, parameter: str) -> Position:
    """The position that `text` says: `name-id`, or the id of an event. Raises `Problem` (400)."""
    found = _POSITION.fullmatch(text)
    if found is None or int(found[2]) > MAX_EVENT_ID:
        _refuse(f"{parameter} must be a cursor that the gateway gave, or the event_id of an event.")
    return Position(found[1], int(found[2]))


def find_position(query: MultiMapping[str], parameter: str) -> Position | None:
    """The position in a parameter of a query; None where it is missing or empty. Raises `Problem` (400)."""
    text = query.get(parameter, "")
    return parse_position(text, parameter) if text else None


def parse_filter(query: MultiMapping[str]) -> EventFilter:
    """The events that a query selects by the parameters of `FILTER`. Raises `Problem` (400)."""
    since, until = (_moment(query, parameter) for parameter in ("from", "to"))
    text = query.get("text", "")
    if len(text) > MOST_TEXT:
        _refuse(f"text may have {MOST_TEXT} characters.")
    return EventFilter(
        types=values(query, "type"),
        sources=values(query, "source"),
        severities=values(query, "severity"),
        since=since,
        until=until,
        text=text,
    )


def parse_page_filter(query: MultiMapping[str]) -> EventFilter:
    """As `parse_filter`, with the parameters of `PAGE_FILTER`, for those who read stored events only."""
    texts = {name: query.get(name, "") for name in ("correlation", "not_source")}
    for name, text in texts.items():
        if len(text) > MOST_TEXT:
            _refuse(f"{name} may have {MOST_TEXT} characters.")
    found = parse_filter(query)
    about, correlation, not_source = values(query, "about"), texts["correlation"], texts["not_source"]
    return replace(found, about=about, correlation=correlation, not_source=not_source)


def values(query: MultiMapping[str], parameter: str) -> tuple[str, ...]:
    """The values of a parameter that may be repeated, and may have several with commas. Raises `Problem` (400).

    A name may have commas itself, as the URI of a CloudEvent's source: such a text is one of its values too.
    """
    texts = query.getall(parameter, [])
    found = dict.fromkeys(_split(texts))
    if len(found) > MOST_VALUES or any(len(value) > MOST_TEXT for value in found):
        _refuse(f"{parameter} may have {MOST_VALUES} values of {MOST_TEXT} characters.")
    found.update(dict.fromkeys(text for text in texts if len(text) <= NAME_LENGTH and "," in text.strip(",")))
    return tuple(found)


def _split(texts: list[str]) -> Iterator[str]:
    for text in texts:
        yield from (part for part in text.split(",") if part)


def _moment(query: Mapping[str, str], parameter: str) -> datetime | None:
    text = query.get(parameter, "")
    if not text:
        return None
    try:
        if _MILLISECONDS.fullmatch(text):
            return _EPOCH + timedelta(milliseconds=int(text))
        # A + of a query that was not escaped arrives as a space.
        time, _, offset = text.rpartition(" ")
        if ":" in time and _OFFSET.fullmatch(offset):
            text = f"{time}+{offset}"
        moment = parse_time(text, datetime.fromisoformat)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        _refuse(f"{parameter} must be a time such as 2026-01-02T03:04:05Z, or milliseconds since 1970.")


def _refuse(detail: str) -> NoReturn:
    raise Problem(Failure.BAD_REQUEST, detail)
