"""The failed requests of each minute, on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest

from tentaculo.model.history import HOUR, MINUTE, Period, Tally
from tentaculo.model.incident_past import FailedMinute
from tentaculo.store import failed_requests
from tentaculo.store.history import add_history, history_row
from tests.support.runtime_tables import opened

START = 1_773_500_400


def row(service: str, minute: int, failed: int, span: int = MINUTE) -> object:
    return history_row(Period(service, span, START + minute * MINUTE, Tally(0, 9), Tally(5, failed)))


@pytest.mark.parametrize("named", [500, 1])
def test_only_minutes_with_failures_in_the_span_are_read(url: str, monkeypatch: pytest.MonkeyPatch, named: int) -> None:
    monkeypatch.setattr(failed_requests, "MOST_SERVICES", named)
    with opened(url) as connection:
        rows = [row("mcp", n, n) for n in range(4)] + [
            row("mcp", 0, 99, HOUR),
            row("switch", 1, 7),
            row("hermes", 1, 8),
        ]
        add_history(connection, rows)  # type: ignore[arg-type]
        found = failed_requests.read_failed(connection, START, START + 3 * MINUTE, ["mcp", "switch"])
    expected = {("mcp", 1, 1), ("mcp", 2, 2), ("switch", 1, 7)} | ({("hermes", 1, 8)} if named == 1 else set())
    assert set(found) == {FailedMinute(name, START + minute * MINUTE, count) for name, minute, count in expected}
