"""Planned maintenance: which window holds when. Pure; the time is passed in.

A plan that comes again and again follows the wall clock of its zone. On the night on which the clock is turned, a time
that there is twice is the first of the two, one that there is not is as far from the midnight before as its figures
say, and the window is so much longer or shorter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from tentaculo.config.incidents import DAYS, MaintenanceSettings
from tentaculo.config.services import ServiceSettings
from tentaculo.model.incident import EVERY, MaintenanceWindow


class MaintenanceCalendar:
    """The windows of the configuration and those that the database holds."""

    def __init__(self, plans: Sequence[MaintenanceSettings], services: Mapping[str, ServiceSettings]) -> None:
        self._plans = [(plan, canonical(plan.services, services)) for plan in plans]
        self._services = services
        self._stored: tuple[MaintenanceWindow, ...] = ()

    def __repr__(self) -> str:
        return f"<Calendar: {len(self._plans)} plans, {len(self._stored)} windows>"

    def take(self, stored: Iterable[MaintenanceWindow]) -> None:
        """What the database holds now, in place of what it held."""
        self._stored = tuple(stored)

    def windows(self, now: datetime) -> list[MaintenanceWindow]:
        """What holds, or will: each stored window, and of each plan the one that holds or else the next."""
        planned = [window for plan, services in self._plans for window in upcoming(plan, services, now)]
        waiting = [window for window in self._stored if window.ends_at > now]
        return sorted([*planned, *waiting], key=lambda window: (window.starts_at, window.ends_at))

    def reasons(self, now: datetime) -> dict[str, str]:
        """The services that are in maintenance now, each with why and until when, in words."""
        holding: dict[str, MaintenanceWindow] = {}
        for window in self.windows(now):
            if window.holds(now):
                for name in window.services or self._services:
                    # Of several that hold, the one that holds longest says until when.
                    if name in self._services and (name not in holding or window.ends_at > holding[name].ends_at):
                        holding[name] = window
        return {name: _words(window) for name, window in holding.items()}


def canonical(names: Collection[str], services: Mapping[str, ServiceSettings]) -> tuple[str, ...]:
    """`names` with aliases replaced by the service's own name, each once; none for every service. KeyError if unknown."""
    if EVERY in names:
        return ()
    known = {alias: service.name for service in services.values() for alias in service.aliases}
    known |= {name: name for name in services}
    return tuple(dict.fromkeys(known[name] for name in names))


def upcoming(plan: MaintenanceSettings, services: tuple[str, ...], now: datetime) -> Iterator[MaintenanceWindow]:
    """The window of `plan` that holds at `now`, else the next one; none where it is over for good."""
    if plan.once is not None:
        start, end = plan.once
        if end > now:
            yield MaintenanceWindow(services, start.astimezone(UTC), end.astimezone(UTC), plan.reason)
        return
    today = now.astimezone(ZoneInfo(plan.zone)).date()
    # One that began yesterday may still hold; and of seven days in a row one is a day of any plan.
    for day in (today + timedelta(days=number) for number in range(-1, 9)):
        if DAYS[day.weekday()] in plan.days:
            start, end = _on(plan, day)
            if start < end and now < end:
                yield MaintenanceWindow(services, start, end, plan.reason)
                return


def _on(plan: MaintenanceSettings, day: date) -> tuple[datetime, datetime]:
    """Start and end, in UTC, of what begins on `day` of the plan's zone."""
    assert plan.times is not None
    start, end = plan.times
    last = day if start < end else day + timedelta(days=1)
    zone = ZoneInfo(plan.zone)
    return (
        datetime.combine(day, start, zone).astimezone(UTC),
        datetime.combine(last, end, zone).astimezone(UTC),
    )


def _words(window: MaintenanceWindow) -> str:
    return f"{window.reason}, until {window.ends_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
