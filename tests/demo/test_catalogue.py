"""The services of the contract are there, on its ports, and answer at its paths."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from tentaculo.config.routes import RouteSettings
from tentaculo.config.schema import Config
from tentaculo.demo.catalogue import FLEET, HORMIGUERO, MADRE, MANIFESTATOR, SHUBNIGGURATH, SPAWNER
from tentaculo.demo.services import DemoService
from tests.demo.conftest import Start

ROOT = Path(__file__).parents[2]
PORTS = {
    "madre": 8001,
    "switch": 8002,
    "hermes": 8003,
    "hormiguero": 8004,
    "manifestator": 8005,
    "mcp": 8006,
    "shubniggurath": 8007,
    "spawner": 8008,
    "operator": 8011,
}


def vx11() -> Config:
    return Config.of(tomllib.loads((ROOT / "docker" / "vx11.toml").read_text()))


def test_nine_services_on_the_ports_of_the_contract() -> None:
    assert {blueprint.name: blueprint.port for blueprint in FLEET} == PORTS
    assert [blueprint.name for blueprint in FLEET if blueprint.off] == ["shubniggurath"]


def _routes() -> list[tuple[str, RouteSettings]]:
    return [(name, route) for name, service in vx11().services.items() for route in service.routes]


def _answers_below(blueprint: DemoService, path: str) -> bool:
    """Whether the service has a path of its own at `path` or below it."""
    canonical = [re.sub(r"\{[^}]*\}", "x", route.path) for route in blueprint.routes] + ["/health"]
    return any(own == path or own.startswith(path.rstrip("/") + "/") for own in canonical)


def test_every_route_of_the_fleet_leads_to_a_path_that_its_service_has() -> None:
    fleet = {blueprint.name: blueprint for blueprint in FLEET}
    dead = [
        (name, route.prefix, route.replacement)
        for name, route in _routes()
        if not _answers_below(fleet[name], re.sub(r"\{[^}]*\}", "x", route.replacement) or "/")
    ]
    assert dead == []


@pytest.mark.parametrize("blueprint", FLEET, ids=lambda b: b.name)
async def test_every_canned_path_answers(start: Start, blueprint: DemoService) -> None:
    session = await start(blueprint)
    asked = 0
    for route in blueprint.routes:
        path = re.sub(r"\{[^}]*\}", "x", route.path)
        if route.method == "*" or "/ws/" in path or path.endswith("/stream"):
            continue
        body: dict[str, Any] | None = {} if route.method == "POST" else None
        url = f"{path}?seconds=0" if path.endswith("/wait") else path
        async with session.request(route.method, url, json=body) as response:
            assert response.status in (200, 201), path
            assert (await response.json())["service"] == blueprint.name
            asked += 1
    assert asked >= 3


async def test_the_echo_tells_what_arrived_and_not_the_token(start: Start) -> None:
    madre = await start(MADRE)
    target = URL("/madre/echo?a=1&a=2&b=%2F", encoded=True)
    async with madre.put(target, data=b"hello", headers={"X-Twice": "1"}) as response:
        told: dict[str, Any] = await response.json()
        text = await response.text()
    assert told["method"] == "PUT"
    assert told["target"] == "/madre/echo?a=1&a=2&b=%2F"
    assert told["query"] == [["a", "1"], ["a", "2"], ["b", "/"]]
    assert ["X-Twice", "1"] in told["headers"]
    assert told["body"]["bytes"] == 5
    assert told["body"]["text"] == "hello"
    assert "the-fleet's" not in text


@pytest.mark.parametrize(
    ("body", "content_type"), [(b"{", "application/json"), (b"{}", "application/json; charset=nothing")]
)
async def test_a_body_that_is_not_json_is_refused(start: Start, body: bytes, content_type: str) -> None:
    madre = await start(MADRE)
    async with madre.post("/task", data=body, headers={"Content-Type": content_type}) as response:
        assert response.status == 400
        assert (await response.json())["detail"] == "the body is not JSON"


async def test_manifestators_two_handlers_of_one_name_differ(start: Start) -> None:
    manifestator = await start(MANIFESTATOR)
    async with manifestator.post("/generate-patch?module=madre", json={"module": "switch"}) as response:
        assert await response.json() == {"service": "manifestator", "reads": "query", "query": {"module": "madre"}}
    async with manifestator.post("/manifestator/generate-patch?module=madre", json={"module": "switch"}) as response:
        assert await response.json() == {"service": "manifestator", "reads": "json", "body": {"module": "switch"}}


@pytest.mark.parametrize(
    ("blueprint", "path"),
    [(HORMIGUERO, "/hormiguero/status"), (SHUBNIGGURATH, "/shub/health")],
    ids=["hormiguero", "shub"],
)
async def test_health_paths_besides_health(start: Start, blueprint: DemoService, path: str) -> None:
    session = await start(blueprint)
    async with session.get(path) as response:
        assert (await response.json())["status"] == "ok"


async def test_a_spawned_child_has_the_name_it_was_given(start: Start) -> None:
    spawner = await start(SPAWNER)
    async with spawner.post("/spawn", json={"name": "scribe"}) as response:
        assert response.status == 201
        assert (await response.json())["name"] == "scribe"


def test_routes_are_values_and_can_be_served_more_than_once() -> None:
    for _ in range(2):
        web.Application().add_routes(MADRE.routes)
