"""The clocks of other machines: what a response says about one, and when an event happened by our own clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HTTP_DATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)


class DateReading(NamedTuple):
    """The `Date` of a response, and when it can have been written.

    Both moments are seconds of a clock that nobody sets, the same one for all processes of a machine.
    """

    date_ms: int
    """In milliseconds since 1970; a whole second."""
    sent: float
    """Before the request was sent."""
    received: float
    """After the head of the response had arrived."""


class StatedReading(NamedTuple):
    """What an event that states a time says about the clock of its source."""

    stated_ms: int
    """Milliseconds since 1970: what its clock showed then, or a little less."""
    received: float
    """When the event was received, in seconds of the clock of `DateReading`."""


class CorrectedTime(NamedTuple):
    """When an event happened by our own clock: at `ms`, or at most `width_ms` before it."""

    ms: int
    """Milliseconds since 1970."""
    width_ms: int


def parse_http_date(text: str) -> int | None:
    """A `Date` in the form that RFC 9110 section 5.6.7 prescribes, in milliseconds since 1970; None for any other text."""
    found = _HTTP_DATE.fullmatch(text)
    if found is None or found[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(found[number]) for number in (1, 3, 4, 5, 6))
    try:
        moment = datetime(year, _MONTHS.index(found[2]) + 1, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp()) * 1000
