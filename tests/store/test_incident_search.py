"""The queries behind the pages of the incidents, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tentaculo.model.event import Event, lowest_id
from tentaculo.model.health import GATEWAY_NAME, Health
from tentaculo.model.history import DAY, HOUR, MINUTE, Period, Tally
from tentaculo.model.incident import Incident, MaintenanceWindow
from tentaculo.model.incident_past import IncidentSearch, IncidentTotals
from tentaculo.store import incident_search as search
from tentaculo.store import incidents
from tentaculo.store.events import append_events, event_row
from tentaculo.store.history import add_history, history_row
from tests.support import store_samples
from tests.support.runtime_tables import opened

NOW = datetime(2026, 3, 14, 15, 0, tzinfo=UTC)
TODAY = int(NOW.timestamp()) // DAY
ALL = IncidentSearch(None)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def incident(number: int, began: float, ended: float | None = None, **changes: object) -> Incident:
    """An incident that began and ended so many minutes ago."""
    end = None if ended is None else ago(ended)
    found = Incident(number, "mcp", ("mcp",), Health.DOWN, "connection refused", ago(began), ago(began), end)
    return replace(found, **changes)  # type: ignore[arg-type]


def test_the_open_ones_are_apart_and_those_that_are_a_part_are_left_out(url: str) -> None:
    first, second = incident(1, 500), incident(5, 40, 30)
    with opened(url) as connection:
        incidents.save(connection, [first, second, incident(4, 60, 50, part_of=1), incident(3, 90, 80)])
        incidents.add_note(connection, 5, "ana", "The disk is full.", NOW)
        found = search.search(connection, ALL)
    assert [one.id for one in found.open] == [1]
    assert [one.id for one in found.ended] == [5, 3]
    assert [note.text for note in found.notes[5]] == ["The disk is full."]
    assert not found.has_more


def test_a_list_is_read_part_by_part(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_ENDED", 2)
    with opened(url) as connection:
        incidents.save(connection, [incident(n, 500 - n, 400 - n) for n in range(1, 6)] + [incident(9, 5)])
        seen, before = [], None
        for _ in range(3):
            found = search.search(connection, IncidentSearch(None, before=before))
            seen.append(([one.id for one in found.open], [one.id for one in found.ended], found.has_more))
            before = found.ended[-1].id
    assert seen == [([9], [5, 4], True), ([], [3, 2], True), ([], [1], False)]


def test_incidents_are_found_by_service_and_by_range(url: str) -> None:
    with opened(url) as connection:
        incidents.save(connection, [incident(1, 90, 80, services=("mcp", "switch")), incident(2, 50, 40)])
        incidents.save(connection, [incident(3, 30, services=("mcp", "switch-board"))])

        def ids(**wanted: object) -> list[int]:
            found = search.search(connection, replace(ALL, **wanted))  # type: ignore[arg-type]
            return [one.id for one in (*found.open, *found.ended)]

        assert ids(service="switch") == [1]
        assert ids(service="mcp") == [3, 2, 1]
        assert ids(service="hermes") == []
        assert ids(since=ago(60)) == [3, 2]
        assert ids(since=ago(80)) == [3, 2, 1], "the end counts"


def test_the_summary_has_every_day_that_is_known(url: str) -> None:
    def period(span: int, start: int) -> Period:
        return Period("mcp", span, start - start % span, Tally(1, 0))

    now = int(NOW.timestamp())
    with opened(url) as connection:
        incidents.save(connection, [incident(1, 90, 80), incident(2, 5 * 1440, 5 * 1440 - 20, services=("switch",))])
        incidents.add_window(connection, MaintenanceWindow(("switch",), ago(3 * 1440), ago(3 * 1440 - 5), "a new disk"))
        add_history(connection, [history_row(period(DAY, now - 4 * DAY)), history_row(period(HOUR, now - DAY))])
        add_history(connection, [history_row(period(MINUTE, now)), history_row(period(HOUR, now - 90 * DAY))])
        found = search.summarise(connection, None, None, TODAY - 5, NOW)
        of_mcp = search.summarise(connection, ago(100), "mcp", TODAY - 5, NOW)
    assert [day.is_known for day in found.days] == [False, True, False, False, True, True]
    assert [day.worst for day in found.days] == [Health.DOWN, None, Health.MAINTENANCE, None, None, Health.DOWN]
    assert found.totals == IncidentTotals(2, 0, 1800, 1200)
    assert of_mcp.totals == IncidentTotals(1, 0, 600, 600)
    assert [day.worst for day in of_mcp.days] == [None, None, None, None, None, Health.DOWN]


def test_one_incident_is_read_with_its_notes(url: str) -> None:
    with opened(url) as connection:
        incidents.save(connection, [incident(1, 90, 80)])
        note = incidents.add_note(connection, 1, "ana", "The disk is full.", NOW)
        assert search.find(connection, 1) == (incident(1, 90, 80), (note,))
        assert search.find(connection, 2) is None


def test_the_context_is_what_came_before(url: str) -> None:
    began = incident(9, 30)

    def event(name: str, minutes: float, source: str = "ci") -> Event:
        return store_samples.event(lowest_id(ago(minutes)), source=source, type=name, received_at=ago(minutes))

    with opened(url) as connection:
        others = [incident(1, 900, 890), incident(2, 800, 790, part_of=1), incident(3, 700, 690, root="switch"), began]
        incidents.save(connection, others)
        events = [event("old", 61), event("deployed", 40), event("opened", 35, GATEWAY_NAME), event("late", 29)]
        append_events(connection, [event_row(one) for one in events])
        found = search.context(connection, began)
    assert [one.id for one in found.earlier] == [1]
    assert [one.type for one in found.before] == ["deployed"]
