"""A gateway with many services and 90 days of history, as `tests/web` and `bench/pages.py` show it."""

from __future__ import annotations

from datetime import timedelta

from tentaculo.model.health import Health, StateChange
from tentaculo.model.history import DAY, Histogram, HistorySummary, Period, Tally, bucket
from tests.support.native_gateway import NOW, State, view

_FAILING = 13


def fill(state: State, services: int) -> None:
    """Give `state` so many services, of which 13 are down, each with 90 days of requests and six changes of state."""
    state.services = tuple(view(f"service-{n}", 8000, (Health.UP, Health.DOWN)[n < _FAILING]) for n in range(services))
    day = int(NOW.timestamp()) // DAY * DAY
    state.past = {
        one.name: HistorySummary(tuple(Period(one.name, DAY, day - ago * DAY, _requests(ago)) for ago in range(90)))
        for one in state.services
    }
    state.changes = [
        StateChange(one.name, "", Health.UP, (Health.UP, Health.DOWN)[n % 2], "as found", NOW - timedelta(days=80 - n))
        for one in state.services
        for n in range(6)
    ]


def _requests(ago: int) -> Tally:
    return Tally(60, 0, Histogram({bucket(0.01 + ago % 7): 60}))
