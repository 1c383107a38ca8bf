"""What the pages of the incidents count and draw, from spans alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tentaculo.model.health import Health
from tentaculo.model.incident import Incident, MaintenanceWindow
from tentaculo.model.incident_past import (
    FailedMinute,
    IncidentSpan,
    IncidentTotals,
    count_failed,
    incident_days,
    is_uncounted,
)

NOW = datetime(2026, 3, 14, 15, 0, tzinfo=UTC)
DAY = timedelta(days=1)
TODAY = (NOW - datetime(1970, 1, 1, tzinfo=UTC)).days


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def span(began: float, ended: float | None, severity: Health = Health.DOWN) -> IncidentSpan:
    return IncidentSpan(ago(began), None if ended is None else ago(ended), severity)


def test_time_in_which_several_were_open_counts_once() -> None:
    spans = [span(10, None), span(60, 40), span(50, 30), span(55, 45), span(500, 490)]
    assert IncidentTotals.of(spans, None, NOW) == IncidentTotals(5, 1, 50 * 60, 20 * 60)


def test_only_the_time_since_the_beginning_of_the_range_counts() -> None:
    spans = [span(120, 50), span(300, 100)]
    assert IncidentTotals.of(spans, ago(60), NOW) == IncidentTotals(1, 0, 600, 600)
    assert IncidentTotals.of([], ago(60), NOW) == IncidentTotals()


def test_a_clock_that_was_set_back_gives_no_negative_time() -> None:
    assert IncidentTotals.of([span(-5, None), span(10, 20)], None, NOW) == IncidentTotals(2, 1, 0, 0)


def test_a_day_has_the_worst_that_it_saw() -> None:
    spans = [
        IncidentSpan(NOW - 3 * DAY, NOW - 2 * DAY, Health.DEGRADED),
        IncidentSpan(NOW - 2 * DAY, NOW - 2 * DAY, Health.DOWN),
        IncidentSpan(NOW - 40 * DAY, NOW - 30 * DAY, Health.DOWN),
    ]
    windows = [
        MaintenanceWindow((), NOW - 4 * DAY, NOW - 3 * DAY, "a new disk"),
        MaintenanceWindow((), NOW + DAY, NOW + 2 * DAY, ""),
    ]
    days = incident_days(spans, windows, {TODAY - 5, TODAY - 1, TODAY}, TODAY - 5, NOW)
    assert [(day.number - TODAY, day.worst, day.incidents, day.is_known) for day in days] == [
        (-5, None, 0, True),
        (-4, Health.MAINTENANCE, 0, False),
        (-3, Health.DEGRADED, 1, False),
        (-2, Health.DOWN, 2, False),
        (-1, None, 0, True),
        (0, None, 0, True),
    ]


def test_an_open_incident_reaches_today() -> None:
    days = incident_days([IncidentSpan(NOW - DAY, None, Health.DOWN)], [], set(), TODAY - 2, NOW)
    assert [day.incidents for day in days] == [0, 1, 1]


def incident(began: float, ended: float | None = None, **changes: object) -> Incident:
    """An incident of mcp and switch that began and ended so many minutes ago."""
    end = None if ended is None else ago(ended)
    found = Incident(1, "mcp", ("mcp", "switch"), Health.DOWN, "connection refused", ago(began), NOW, end)
    return replace(found, **changes)  # type: ignore[arg-type]


def failed(**minutes: tuple[int, int]) -> dict[str, list[FailedMinute]]:
    """For each service how many minutes ago how many requests failed."""
    found: dict[str, list[FailedMinute]] = {}
    for name, (minute, count) in minutes.items():
        service = name.rstrip("0123456789")
        found.setdefault(service, []).append(FailedMinute(service, int(ago(minute).timestamp()), count))
    return found


def test_the_whole_minutes_of_an_incident_count() -> None:
    """It began half a minute into the minute that began ten minutes ago, and ended within that of seven minutes ago."""
    known = incident(9.5, 6.75)
    found = failed(
        mcp1=(11, 1), mcp2=(10, 10), mcp3=(7, 100), mcp4=(6, 1000), switch1=(8, 10_000), hermes1=(8, 100_000)
    )
    counted = count_failed(known, found, NOW)
    assert (counted.failed_requests, counted.counted_until) == (10_110, ago(6))
    assert not is_uncounted(counted, ago(1440), NOW)


@pytest.mark.parametrize("ended", [5.0, 5.0 - 1e-5, 4.5])
def test_nothing_is_counted_twice_and_nothing_for_ever(ended: float) -> None:
    known, steps = incident(9.5, ended), 0
    for minute in range(9, -1, -1):
        while is_uncounted(known, ago(1440), ago(minute)):
            one_each = {"mcp": [FailedMinute("mcp", int(ago(n).timestamp()), 1) for n in range(20)]}
            known, steps = count_failed(known, one_each, ago(minute)), steps + 1
    assert (known.failed_requests, steps) == ((5, 5) if ended == 5.0 else (6, 6))


def test_what_is_no_longer_known_is_not_counted() -> None:
    assert not is_uncounted(incident(3000, 2990), ago(2820), NOW)
    assert not is_uncounted(incident(3000), ago(2820), NOW)
    assert is_uncounted(incident(3000, counted_until=ago(3)), ago(2820), NOW)
