"""What the pages of the incidents count and draw, from spans alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tentaculo.model.health import Health
from tentaculo.model.incident import MaintenanceWindow
from tentaculo.model.incident_past import IncidentSpan, IncidentTotals, incident_days

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
