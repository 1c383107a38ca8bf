"""The calls of VX11's event producers, by a client like theirs, and what an Operator's WebSocket gets of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import requests
from aiohttp import ClientSession

from tests.support.gateway_process import Running, running_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHILD = "child-7f3a"
PRODUCED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "madre announces a child": (
        "madre",
        "spawn_success",
        {"id": CHILD, "intent": "resumir", "channel": "cli", "exit_code": 0, "ñ": "año"},
    ),
    "madre reports a failed child": ("madre", "spawn_failure", {"id": CHILD, "error": "timeout", "source": "cli"}),
    "madre reports the state": ("madre", "system_state_update", {"mode": "low_power", "queue": {"depth": 3}}),
    "spawner creates a child": ("spawner", "spawn_created", {"id": CHILD, "pid": 4242, "ttl": 60, "parent": None}),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder: Path = tmp_path_factory.mktemp("producers")
    service = {"url": "http://127.0.0.1:9", "enabled": False}
    database = {"url": f"sqlite:///{folder / 'events.db'}"}
    async with running_gateway({"services": {"madre": service}, "database": database}) as running:
        yield running


def _produce(gateway: Running, body: dict[str, Any], **headers: str) -> requests.Response:
    """One blocking call with a time limit and without a retry, as a producer makes it."""
    return requests.post(f"{gateway.url}/events/ingest", json=body, headers=headers, timeout=5)


@pytest.mark.parametrize("name", PRODUCED)
async def test_an_operator_gets_every_field(gateway: Running, name: str) -> None:
    source, kind, payload = PRODUCED[name]
    body = {"source": source, "type": kind, "payload": payload, "broadcast": True, "metadata": {"trace": "t-1"}}
    async with (
        ClientSession(gateway.url) as session,
        session.ws_connect("/ws?channel=event&client_id=operator", headers=gateway.headers) as socket,
    ):
        assert (await socket.receive_json(timeout=5))["type"] == "connected"
        response = await asyncio.to_thread(_produce, gateway, body, **gateway.headers)
        event = await socket.receive_json(timeout=5)
    assert response.status_code == 201
    stored = response.json()
    assert (stored["status"], stored["source"], stored["type"]) == ("received", source, kind)
    # Its own id joins spawn_created with spawn_success; the gateway's names win over fields of the same name.
    kept = {key: value for key, value in payload.items() if key not in ("source", "type")}
    assert {key: event[key] for key in kept} == kept
    assert (event["source"], event["type"], event["event_id"]) == (source, kind, stored["id"])


async def test_a_bearer_token_and_no_metadata_are_enough(gateway: Running) -> None:
    body = {"source": "spawner", "type": "spawn_created", "payload": {}}
    response = await asyncio.to_thread(_produce, gateway, body, Authorization=f"Bearer {gateway.token}")
    assert response.status_code == 201


@pytest.mark.parametrize(
    ("headers", "status", "error"),
    [({}, 401, "auth_required"), ({"X-VX11-Token": "vx11-local-token"}, 403, "forbidden")],
)
async def test_a_producer_without_the_token_reads_the_seeds_words(
    gateway: Running, headers: dict[str, str], status: int, error: str
) -> None:
    body = {"source": "madre", "type": "spawn_success", "payload": {}}
    response = await asyncio.to_thread(_produce, gateway, body, **headers)
    assert (response.status_code, response.json()["error"], response.json()["status_code"]) == (status, error, status)


async def test_a_bad_canonical_event_is_rejected_with_every_faulty_field(gateway: Running) -> None:
    body = {"source": "madre", "type": "system.alert", "payload": {"alert_id": 7}, "broadcast": True}
    response = await asyncio.to_thread(_produce, gateway, body, **gateway.headers)
    assert response.status_code == 422
    problem = response.json()
    assert (problem["status"], problem["reason"]) == ("rejected", "schema_validation_failed")
    assert {error["field"] for error in problem["errors"]} == {"alert_id", "severity", "message"}
