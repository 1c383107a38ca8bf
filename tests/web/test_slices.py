"""No native response of a large fleet is computed in one turn of the event loop."""

from __future__ import annotations

import threading
from typing import Any

import jinja2
import pytest

from tentaculo.model.history import HOUR, Histogram, HistorySummary, Period, Tally
from tentaculo.server import native_routes, templating
from tentaculo.web.latency_chart import latency_chart
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


@pytest.mark.parametrize("path", ["/status", "/status/services/madre", "/status/incidents", "/status/events"])
async def test_no_template_is_compiled_and_no_chart_drawn_on_the_event_loop(
    gateway: Gateway, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, set[int]] = {"compile": set(), "chart": set()}
    compile_template, draw = jinja2.Environment.compile, latency_chart

    def compiling(*values: Any, **options: Any) -> Any:
        threads["compile"].add(threading.get_ident())
        return compile_template(*values, **options)

    def drawing(*values: Any) -> Any:
        threads["chart"].add(threading.get_ident())
        return draw(*values)

    monkeypatch.setattr(jinja2.Environment, "compile", compiling)
    monkeypatch.setattr("tentaculo.web.service_page.latency_chart", drawing)
    templating.template.cache_clear()
    templating._environment.cache_clear()
    async with gateway.client.get(path, headers={"X-VX11-Token": TOKEN}) as answer:
        assert answer.status == 200
    assert threads["compile"]
    assert bool(threads["chart"]) is ("services" in path)
    assert threading.get_ident() not in threads["compile"] | threads["chart"]
