"""No native response of a large fleet is computed in one turn of the event loop."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import Any

import jinja2
import pytest

from tentaculo.gateway.event_reads import MOST_LINKS
from tentaculo.model.clock import CorrectedTime
from tentaculo.model.event import PAGE_EVENTS, PAGE_INCIDENTS, EventLink, LogPage
from tentaculo.model.health import Health
from tentaculo.model.history import HOUR, Histogram, HistorySummary, Period, Tally
from tentaculo.model.page import PageInfo, ServiceInfo
from tentaculo.model.timeline import Timeline, TimelineRequest
from tentaculo.server import native_routes, templating
from tentaculo.web.latency_chart import latency_chart
from tentaculo.web.viewer import Viewer
from tests.server.test_native_response import Turns
from tests.store.test_incidents import incident
from tests.support.calls import counting_calls
from tests.support.native_gateway import NOW, TOKEN, Gateway, PageStore, State, event, running, view
from tests.web.test_status_page import change, rates

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


@pytest.mark.thorough
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


MOST_CALLS = 20_000
"""Calls of functions in one turn of the event loop: these take about 2 ms."""


def full_log(names: list[str]) -> LogPage:
    """The longest page of the log: the sources are many, the events are large, and each is connected with others."""
    times = [NOW - timedelta(minutes=number) for number in range(PAGE_EVENTS)]
    payload = {f"key-{number}": "v" * 300 for number in range(30)}
    events = tuple(
        event(
            number,
            source=names[number],
            payload=payload,
            received_at=at,
            corrected=CorrectedTime(int(at.timestamp() * 1000), 900),
        )
        for number, at in enumerate(times)
    )
    pairs = ((one, other) for one in range(PAGE_EVENTS) for other in range(one + 1, min(one + 6, PAGE_EVENTS)))
    links = tuple(EventLink(one, other, "correlation_id") for one, other in islice(pairs, MOST_LINKS))
    return LogPage(events, links, dict.fromkeys(range(PAGE_EVENTS), "release-240"), older=1)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "path",
    [
        *("/status", "/status?range=90d", "/status?range=24h&sort=p95", "/status?filter=9", "/status?group=group-3"),
        *("/status/services/service-17", "/status/events", "/status/events?as=operator", "/status/incidents"),
        "/status/incidents.atom",
        *("/status/badge.svg", "/status/badges/service-1.svg?show=uptime"),
        *("/status/api/v2/summary.json", "/vx11/status"),
    ],
)
def test_a_thousand_services_hold_the_event_loop_for_no_long_time(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"service-{number}" for number in range(1000)]
    state = State(
        services=tuple(view(name, 8001, (Health.UP, Health.DOWN)[n % 17 == 0]) for n, name in enumerate(names))
    )
    state.info = PageInfo(
        "Casa", services={name: ServiceInfo("", "Ana", f"group-{n % 20}") for n, name in enumerate(names)}
    )
    state.events = [event(number, payload={"text": "x" * 500}) for number in range(200)]
    state.rates = {name: rates(300, 3) for name in names[:100]}
    if "operator" in path:
        state.viewer = Viewer(is_signed_in=True)
        state.log_page = full_log(names)
        state.books.incidents = [
            replace(incident(n), root=names[n], services=(names[n],), started_at=NOW - timedelta(seconds=n + 1))
            for n in range(2 * PAGE_INCIDENTS)
        ]
    flaps = [change(name, (Health.UP, Health.DOWN)[n % 2], 1440 * (80 - n)) for name in names[:400] for n in range(6)]
    read = Timeline(
        {name: tuple(flaps[6 * n : 6 * n + 6]) for n, name in enumerate(names[:400])}, events=tuple(state.events)
    )

    async def timeline(self: PageStore, wanted: TimelineRequest) -> Timeline:
        return read

    monkeypatch.setattr(PageStore, "timeline", timeline)
    monkeypatch.setattr(native_routes, "SLICE_SECONDS", 0.0)
    longest: list[int] = [0]
    run = asyncio.Handle._run

    def counted(handle: asyncio.Handle) -> None:
        with counting_calls() as calls:
            run(handle)
        longest[0] = max(longest[0], calls.total)

    async def ask() -> None:
        async with running(state) as gateway:
            # What is loaded and compiled at the first request is not counted.
            for _ in range(2):
                state.clock += 60
                async with gateway.client.get(path, headers={"X-VX11-Token": TOKEN}) as response:
                    assert response.status == 200
                    await response.read()
                monkeypatch.setattr(asyncio.Handle, "_run", counted)

    # The callbacks of this loop can be counted, and those of uvloop cannot.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(ask())
    assert 0 < longest[0] <= MOST_CALLS
