"""Planned maintenance: which window is open when. Pure; the time is passed in.

A recurring plan follows the local time of its zone. In the night in which the clocks change, a time that occurs twice is
the first of the two; a time that does not occur is as long after midnight as it says; the window is longer or shorter by
the difference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from tentaculo.config.incidents import DAYS, MaintenanceSettings
from tentaculo.config.services import ServiceSettings
from tentaculo.model.incident import EVERY, MaintenanceWindow


class MaintenanceCalendar:
    """The windows of the configuration and of the database."""

    def __init__(self, plans: Sequence[MaintenanceSettings], services: Mapping[str, ServiceSettings]) -> None:
        self._plans = [(plan, canonical(plan.services, services)) for plan in plans]
        self._services = services
        self._stored: tuple[MaintenanceWindow, ...] = ()

    def __repr__(self) -> str:
        return f"<MaintenanceCalendar: {len(self._plans)} plans, {len(self._stored)} windows>"

    def take(self, stored: Iterable[MaintenanceWindow]) -> None:
        """Replace the windows of the database."""
        self._stored = tuple(stored)

    def replace(self, changed: MaintenanceWindow) -> None:
        """Replace one window of the database."""
        self._stored = tuple(changed if window.id == changed.id else window for window in self._stored)

    def windows(self, now: datetime) -> list[MaintenanceWindow]:
        """The windows that are open or planned: each stored one, and of each plan the open one or else the next."""
        planned = [window for plan, services in self._plans for window in upcoming(plan, services, now)]
        waiting = [window for window in self._stored if window.ends_at > now]
        return sorted([*planned, *waiting], key=lambda window: (window.starts_at, window.ends_at))

    def reasons(self, now: datetime) -> dict[str, str]:
        """The services that are in maintenance now, each with the reason and the end in words."""
        holding: dict[str, MaintenanceWindow] = {}
        for window in self.windows(now):
            if window.holds(now):
                for name in window.services or self._services:
                    # Of several open windows, the one that ends last gives the end.
                    if name in self._services and (name not in holding or window.ends_at > holding[name].ends_at):
                        holding[name] = window
        return {name: _words(window) for name, window in holding.items()}


def canonical(names: Collection[str], services: Mapping[str, ServiceSettings]) -> tuple[str, ...]:
    """The canonical names for `names`, each once; empty for every service. Raises KeyError for an unknown name."""
    if EVERY in names:
        return ()
    known = {alias: service.name for service in services.values() for alias in service.aliases}
    known |= {name: name for name in services}
    return tuple(dict.fromkeys(known[name] for name in names))


def upcoming(plan: MaintenanceSettings, services: tuple[str, ...], now: datetime) -> Iterator[MaintenanceWindow]:
    """The window of `plan` that is open at `now`, else the next one; nothing if the plan is over."""
    if plan.once is not None:
        start, end = plan.once
        if end > now:
            yield MaintenanceWindow(services, start.astimezone(UTC), end.astimezone(UTC), plan.reason)
        return
    today = now.astimezone(plan.time_zone).date()
    # A window that began yesterday may still be open, and within seven days there is one of any plan.
    for day in (today + timedelta(days=number) for number in range(-1, 9)):
        if DAYS[day.weekday()] in plan.days:
            start, end = _on(plan, day)
            if start < end and now < end:
                yield MaintenanceWindow(services, start, end, plan.reason)
                return


def _on(plan: MaintenanceSettings, day: date) -> tuple[datetime, datetime]:
    """Start and end, in UTC, of the window that begins on `day` in the plan's zone."""
    assert plan.times is not None
    start, end = plan.times
    last = day if start < end else day + timedelta(days=1)
    zone = plan.time_zone
    return (
        datetime.combine(day, start, zone).astimezone(UTC),
        datetime.combine(last, end, zone).astimezone(UTC),
    )


def _words(window: MaintenanceWindow) -> str:
    return f"{window.reason}, until {window.ends_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
