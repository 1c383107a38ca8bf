"""The form of `[[maintenance]]`: when services are worked on by plan, once or again and again."""

from __future__ import annotations

import re
from datetime import datetime, time
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from tentaculo.config.constraints import NOT_EMPTY, Check, Parse, at_most_long
from tentaculo.config.section import Section

EVERY: Final = "*"
"""Stands for every service."""
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""In the order of `date.weekday()`."""
_TIMES = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def _check_times(value: str) -> str:
    if (found := _TIMES.fullmatch(value)) is None:
        raise ValueError('must be two times of day such as "02:00-04:30"')
    if found[1] + found[2] == found[3] + found[4]:
        raise ValueError("begins when it ends")
    return value


def _check_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    # An odd key may be no name at all, a folder, or lead outside the data.
    except (ValueError, OSError, LookupError):
        raise ValueError('is not a time zone such as "UTC" or "Europe/Madrid"') from None
    return value


def _as_moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    try:
        # A day alone would be taken for its midnight.
        return datetime.fromisoformat(value if "T" in value else "")
    except (TypeError, ValueError):
        raise ValueError("must be a time such as 2026-12-01T02:00:00Z") from None


def _check_reason(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be a line of text")
    return value


Moment = Annotated[datetime, Parse(_as_moment)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Reason = Annotated[str, at_most_long(200), Check(_check_reason)]


class MaintenanceSettings(Section, frozen=True):
    """[[maintenance]]: one plan. Either `starts` and `ends`, or `at`."""

    services: Annotated[
        tuple[str, ...], NOT_EMPTY, 'Names of the services that are worked on; ["*"] is every one. Required.'
    ]
    reason: Annotated[Reason, "Why, in words that are shown. Default: planned maintenance."] = "planned maintenance"
    starts: Annotated[
        Moment | None, "When it begins, if once: 2026-12-01T02:00:00Z; without an offset it is in zone. Default none."
    ] = None
    ends: Annotated[Moment | None, "When it ends, if once. Default none."] = None
    at: Annotated[
        Annotated[str, Check(_check_times)] | None,
        'Times of day, if again and again: "02:00-04:30"; an end before the start is on the next day. Default none.',
    ] = None
    days: Annotated[
        tuple[Day, ...],
        NOT_EMPTY,
        'Days of the week on which at begins: ["sat", "sun"]. Default: every day.',
    ] = DAYS
    zone: Annotated[
        str,
        Check(_check_zone),
        'Time zone of starts, ends, at and days, "Europe/Madrid" say. Default "UTC".',
    ] = "UTC"

    def check(self) -> None:
        """Raises ValueError where it is neither of the two kinds, or ends before it starts."""
        if (self.at is None) == (self.starts is None and self.ends is None):
            raise ValueError("needs either starts and ends, or at")
        once = self.once
        if self.at is None and once is None:
            raise ValueError("needs both starts and ends")
        if once is not None and once[0] >= once[1]:
            raise ValueError("ends before it starts")

    @property
    def once(self) -> tuple[datetime, datetime] | None:
        """Its start and end, aware of their zone; None for one that comes again and again."""
        if self.starts is None or self.ends is None:
            return None
        zone = ZoneInfo(self.zone)
        start, end = (one if one.tzinfo else one.replace(tzinfo=zone) for one in (self.starts, self.ends))
        return start, end

    @property
    def times(self) -> tuple[time, time] | None:
        """Start and end by the wall clock of its zone; None for one that comes once."""
        if self.at is None:
            return None
        start, end = map(time.fromisoformat, self.at.split("-"))
        return start, end
