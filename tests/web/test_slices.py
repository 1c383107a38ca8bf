"""No native response of a large fleet is computed in one turn of the event loop."""

from __future__ import annotations

import pytest

from tentaculo.model.history import HOUR, Histogram, HistorySummary, Period, Tally
from tentaculo.server import native_routes
from tests.server.test_native_response import Turns
from tests.store.test_incidents import incident
from tests.support.native_gateway import TOKEN, Gateway, view

SERVICES = 300


@pytest.mark.parametrize(
    "path",
    [
        "/vx11/status",
        "/vx11/overview",
        "/vx11/circuit-breaker/status",
        "/metrics",
        "/status",
        f"/vx11/history/madre?hours={SERVICES}",
        "/vx11/incidents?limit=200",
    ],
)
async def test_every_step_may_have_a_turn_of_its_own(
    gateway: Gateway, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.state.services = tuple(view(f"s{number}", 8001) for number in range(SERVICES))
    gateway.state.books.incidents = [incident(number) for number in range(SERVICES)]
    latency = Histogram({7: 1})
    hours = tuple(Period("madre", HOUR, HOUR * n, Tally(1, 0, latency)) for n in range(SERVICES))
    gateway.state.past["madre"] = HistorySummary(hours)
    monkeypatch.setattr(native_routes, "SLICE_SECONDS", 0.0)
    with Turns() as turns:
        async with gateway.client.get(path, headers={"X-VX11-Token": TOKEN}) as answer:
            assert answer.status == 200
            await answer.read()
        assert turns.count >= 200
