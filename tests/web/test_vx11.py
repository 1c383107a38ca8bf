"""The shapes that VX11's callers know, key by key, over HTTP."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from tentaculo.model.health import BreakerState, BreakerView, Counts, Endpoint, EndpointView, Health
from tentaculo.web import vx11
from tests.support.native_gateway import CLOSED, NOW, OPEN, TOKEN, Gateway, view

AUTH = {"X-VX11-Token": TOKEN}


async def fetch(gateway: Gateway, path: str) -> Any:
    async with gateway.client.get(path, headers=AUTH) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"
        return await answer.json()


async def test_health_has_its_three_keys_and_no_more(gateway: Gateway) -> None:
    assert await fetch(gateway, "/health") == {"status": "ok", "module": "tentaculo_link", "version": "7.0"}


async def test_status_shape(gateway: Gateway) -> None:
    status = await fetch(gateway, "/vx11/status")
    assert list(status) == ["ok", "status", "module", "version", "timestamp", "ports", "modules", "summary"]
    assert (status["ok"], status["status"]) == (False, "error")
    assert (status["module"], status["version"]) == ("tentaculo_link", "7.0")
    assert datetime.fromisoformat(status["timestamp"]) == NOW
    assert datetime.fromisoformat(status["timestamp"]).utcoffset() == timedelta(0)
    assert status["ports"] == {
        "tentaculo_link": 8000,
        "madre": 8001,
        "switch": 8002,
        "hermes": 8003,
        "mcp": 8006,
        "shubniggurath": 8007,
        "spawner": 8008,
        "operator": 8011,
    }
    assert {name: module["status"] for name, module in status["modules"].items()} == {
        "madre": "ok",
        "switch": "degraded",
        "hermes": "error",
        "mcp": "circuit_open",
        "shubniggurath": "off",
        "spawner": "maintenance",
        "operator": "unknown",
    }
    assert status["summary"] == {"healthy_modules": 2, "total_modules": 6, "all_healthy": False}


async def test_a_module_has_the_same_keys_in_every_state_and_an_error_when_it_failed(gateway: Gateway) -> None:
    modules = (await fetch(gateway, "/vx11/status"))["modules"]
    keys = ["status", "code", "latency_ms", "endpoint", "checked_at", "since"]
    for name, module in modules.items():
        assert list(module) == keys + (["error"] if name in ("hermes", "mcp") else [])
    assert modules["madre"] == {
        "status": "ok",
        "code": 200,
        "latency_ms": 4,
        "endpoint": "/health",
        "checked_at": "2026-03-14T15:09:23Z",
        "since": "2026-03-14T12:09:26Z",
    }
    assert modules["operator"]["checked_at"] is None
    assert modules["hermes"]["error"] == "connection refused"
    assert modules["mcp"]["error"] == "connection refused 5 times in a row"


async def test_an_affected_service_says_what_is_behind_it(gateway: Gateway) -> None:
    gateway.state.services = (
        view("switch", health=Health.DOWN, reason="connection refused"),
        view("operator", health=Health.DOWN, reason="answered 503 at /health", root="switch"),
    )
    modules = (await fetch(gateway, "/vx11/status"))["modules"]
    assert modules["switch"]["error"] == "connection refused"
    assert modules["operator"]["error"] == "answered 503 at /health; it depends on switch, which is down"


async def test_the_overview_tells_more_of_each(gateway: Gateway) -> None:
    upstreams = (
        EndpointView(Endpoint("operator", "a", 1), Health.DOWN, CLOSED, Counts(7, 3), Counts(40, 2)),
        EndpointView(Endpoint("operator", "b", 1), Health.DOWN, CLOSED, Counts(1, 0), Counts(0, 0)),
    )
    gateway.state.services = (view("operator", health=Health.DOWN, root="switch", upstreams=upstreams),)
    status = (await fetch(gateway, "/vx11/status"))["modules"]["operator"]
    overview = (await fetch(gateway, "/vx11/overview"))["modules_health"]["operator"]
    assert overview == {
        **status,
        "reason": "answered 200 in 4 ms",
        "root": "switch",
        "last_seen_well": None,
        "probes": {"ok": 8, "failed": 3},
        "requests": {"ok": 40, "failed": 2},
    }


async def test_all_is_well_when_only_an_off_service_is_missing(gateway: Gateway) -> None:
    gateway.state.services = (
        view("madre"),
        view("switch", health=Health.DEGRADED),
        view("shubniggurath", health=Health.OFF),
    )
    status = await fetch(gateway, "/vx11/status")
    assert (status["ok"], status["status"]) == (True, "ok")
    assert status["summary"] == {"healthy_modules": 2, "total_modules": 2, "all_healthy": True}


@pytest.mark.parametrize(
    ("health", "word"),
    [
        (Health.UP, "circuit_open"),
        (Health.DOWN, "circuit_open"),
        (Health.UNKNOWN, "circuit_open"),
        (Health.OFF, "off"),
        (Health.MAINTENANCE, "maintenance"),
    ],
)
async def test_an_open_breaker_shows_unless_somebody_meant_it(gateway: Gateway, health: Health, word: str) -> None:
    gateway.state.services = (view("mcp", health=health, breaker=OPEN),)
    assert (await fetch(gateway, "/vx11/status"))["modules"]["mcp"]["status"] == word


async def test_overview_shape(gateway: Gateway) -> None:
    overview = await fetch(gateway, "/vx11/overview")
    assert list(overview) == ["status", "gateway", "version", "modules_health", "summary"]
    assert (overview["status"], overview["gateway"], overview["version"]) == ("error", "tentaculo_link", "7.0")
    modules = (await fetch(gateway, "/vx11/status"))["modules"]
    assert {
        name: {key: value for key, value in module.items() if key in modules[name]}
        for name, module in overview["modules_health"].items()
    } == modules
    assert overview["summary"] == {"total_modules": 6, "healthy": 2, "unhealthy": 4}


async def test_breakers_shape(gateway: Gateway) -> None:
    half = BreakerView(BreakerState.HALF_OPEN, 5, NOW)
    gateway.state.services = (view("madre"), view("mcp", breaker=OPEN), view("hermes", breaker=half))
    answer = await fetch(gateway, "/vx11/circuit-breaker/status")
    assert list(answer) == ["status", "breakers", "timestamp"]
    assert (answer["status"], answer["timestamp"]) == ("ok", "2026-03-14T15:09:26Z")
    assert answer["breakers"] == {
        "madre": {"state": "closed", "failure_count": 0, "last_failure": None},
        "mcp": {"state": "open", "failure_count": 5, "last_failure": "2026-03-14T15:09:22Z"},
        "hermes": {"state": "half_open", "failure_count": 5, "last_failure": "2026-03-14T15:09:26Z"},
    }


async def test_a_fleet_of_none_is_well(gateway: Gateway) -> None:
    gateway.state.services = ()
    status = await fetch(gateway, "/vx11/status")
    assert (status["ok"], status["ports"], status["modules"]) == (True, {"tentaculo_link": 8000}, {})


@pytest.mark.parametrize("path", ["/health", "/vx11/status", "/vx11/overview", "/vx11/circuit-breaker/status"])
async def test_head_answers_as_get_without_a_body(gateway: Gateway, path: str) -> None:
    async with gateway.client.get(path, headers=AUTH) as got:
        length = len(await got.read())
    async with gateway.client.head(path, headers=AUTH) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert answer.headers["Content-Length"] == str(length)
        assert await answer.read() == b""


@pytest.mark.parametrize("path", ["/vx11/status", "/vx11/overview", "/vx11/circuit-breaker/status"])
async def test_a_large_fleet_is_computed_once_for_many_clients(gateway: Gateway, path: str) -> None:
    gateway.state.services = tuple(view(f"s{number}") for number in range(vx11.LARGE + 1))
    first = await fetch(gateway, path)
    gateway.state.services = gateway.state.services[:-1]
    assert await asyncio.gather(*(fetch(gateway, path) for _ in range(20))) == [first] * 20
    gateway.state.clock += vx11.REUSED
    small = await fetch(gateway, path)
    assert small != first
    gateway.state.services = gateway.state.services[:-1]
    assert await fetch(gateway, path) != small, "a small fleet is always shown as it is"
