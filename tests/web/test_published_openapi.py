"""What other programs read of the status pages is what `/tentaculo/openapi.json` says of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tentaculo.model.incident import Acknowledgement, MaintenanceWindow
from tentaculo.model.page import PageInfo, ServiceInfo
from tests.support.native_gateway import NOW, Gateway, State, running
from tests.support.native_routes import openapi_document
from tests.web.test_incidents import HERMES, MCP

DOCUMENT = openapi_document()
PATHS = {path: item["get"] for path, item in DOCUMENT["paths"].items() if path.startswith("/status/")}


def faults(value: Any, schema: dict[str, Any]) -> list[str]:
    """Where a value is not what a schema of the document says."""
    whole = {**schema, "components": DOCUMENT["components"]}
    return [f"{one.json_path}: {one.message}" for one in Draft202012Validator(whole).iter_errors(value)]


def busy() -> State:
    """Everything that a document can have."""
    state = State(info=PageInfo("Casa", services={"madre": ServiceInfo("Decides.", "Ana", "Core")}))
    acknowledged = replace(HERMES, acknowledged=Acknowledgement(1, HERMES.id, NOW, "ana"))
    state.books.incidents = state.stored_incidents = [acknowledged, MCP]
    hour = timedelta(hours=1)
    state.books.planned = [
        MaintenanceWindow(("madre",), NOW - hour, NOW + hour, "a disk"),
        MaintenanceWindow((), NOW + hour, NOW + 2 * hour, "a move"),
    ]
    return state


async def check(gateway: Gateway, path: str, query: str = "") -> None:
    described = PATHS[path]
    target = path.replace("{service}", "madre") + query
    async with gateway.client.get(target) as response:
        content = described["responses"][str(response.status)]["content"]
        assert response.content_type in content
        if response.content_type == "application/json":
            assert faults(await response.json(), content["application/json"]["schema"]) == []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("state", [busy, State], ids=lambda make: make.__name__)
async def test_a_response_is_what_is_described(path: str, state: Any) -> None:
    async with running(state()) as gateway:
        await check(gateway, path)
        if "badge" in path:
            await check(gateway, path, "?show=uptime&range=1y")


def test_the_check_would_find_a_fault() -> None:
    schema = {"$ref": "#/components/schemas/StatuspagePage"}
    assert faults({"id": "x", "name": 5}, schema) != []


def test_all_of_them_are_described() -> None:
    assert len(PATHS) == 13
    assert {one["operationId"] for one in PATHS.values()} >= {"statuspageSummary", "serviceBadgeSvg", "incidentFeed"}
