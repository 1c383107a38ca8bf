"""The tables `[[maintenance]]`: maintenance windows that happen once or repeat."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from tentaculo.config.section import NOT_EMPTY, Check, Doc, Parse, Section, at_most_long

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""In the order of `date.weekday()`."""
_TIMES = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def _check_times(value: str) -> str:
    if (found := _TIMES.fullmatch(value)) is None:
        raise ValueError('must be two times of day such as "02:00-04:30"')
    if found[1] + found[2] == found[3] + found[4]:
        raise ValueError("starts and ends at the same time")
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


Moment = Annotated[datetime, Parse(_as_moment, {"type": "string"})]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Reason = Annotated[str, at_most_long(200), Check(_check_reason)]


class MaintenanceSettings(Section, frozen=True):
    """[[maintenance]]: one plan. Either `starts` and `ends`, or `at`."""

    services: Annotated[
        tuple[str, ...],
        NOT_EMPTY,
        Doc('Names of the services; ["*"] is every service.', example=["example"], variant=["*"]),
    ]
    reason: Annotated[Reason, Doc("Reason, as people see it.", example="a new disk")] = "planned maintenance"
    starts: Annotated[
        Moment | None,
        Doc(
            "Start of a window that happens once. Without an offset it is in zone.",
            example=datetime(2026, 12, 1, 2, tzinfo=UTC),
        ),
    ] = None
    ends: Annotated[
        Moment | None, Doc("End of a window that happens once.", example=datetime(2026, 12, 1, 4, 30, tzinfo=UTC))
    ] = None
    at: Annotated[
        Annotated[str, Check(_check_times, {"pattern": f"^({_TIMES.pattern})$"})] | None,
        Doc(
            "Start and end of a window that repeats, as times of day. An end before the start is on the next day.",
            variant="02:00-04:30",
        ),
    ] = None
    days: Annotated[
        tuple[Day, ...],
        NOT_EMPTY,
        Doc("Days of the week on which a window that repeats begins.", default="every day", variant=["sat", "sun"]),
    ] = DAYS
    zone: Annotated[
        str, Check(_check_zone), Doc("Time zone of starts, ends, at and days.", variant="Europe/Madrid")
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
