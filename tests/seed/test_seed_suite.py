"""The four checks of the seed's own suite, from outside, against the gateway as it is started."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from tentaculo.demo.process import Demo
from tentaculo.demo.services import Ports
from tests.support.gateway_process import Running, running_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")
MODULES = {"madre", "switch", "hermes", "hormiguero", "manifestator", "mcp", "shubniggurath", "spawner", "operator"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[Running]:
    async with Demo(ports=Ports.FREE) as demo, running_gateway(demo.config_data) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(gateway: Running) -> AsyncIterator[ClientSession]:
    async with ClientSession(gateway.url) as session:
        yield session


async def test_health_endpoint(client: ClientSession) -> None:
    async with client.get("/health") as response:
        assert response.status == 200
        assert await response.json() == {"status": "ok", "module": "tentaculo_link", "version": "7.0"}


async def test_status_endpoint(client: ClientSession) -> None:
    async with client.get("/vx11/status") as response:
        assert response.status == 200
        status = await response.json()
    assert set(status["ports"]) == MODULES | {"tentaculo_link"}
    assert all(isinstance(port, int) and 0 < port < 65536 for port in status["ports"].values())
    assert set(status["modules"]) == MODULES
    assert status["modules"]["shubniggurath"]["status"] == "off"
    assert status["summary"]["total_modules"] == 8
    assert datetime.fromisoformat(status["timestamp"]).utcoffset() == timedelta(0)


async def test_websocket_basic_echo(client: ClientSession, gateway: Running) -> None:
    async with client.ws_connect("/ws?channel=event&client_id=seed", headers=gateway.headers) as socket:
        connected = await socket.receive_json(timeout=5)
        assert (connected["channel"], connected["type"], connected["client_id"]) == ("control", "connected", "seed")
        message = {"channel": "event", "type": "ping", "data": {"n": 1}}
        await socket.send_json(message)
        assert await socket.receive_json(timeout=5) == message


async def test_event_ingest_with_token(client: ClientSession, gateway: Running) -> None:
    event = {"source": "madre", "type": "spawn_success", "payload": {"child": "child-0001"}, "broadcast": True}
    async with client.post("/events/ingest", json=event, headers=gateway.headers) as response:
        assert response.status == 201
        answer = await response.json()
    assert (answer["status"], answer["source"], answer["type"]) == ("received", "madre", "spawn_success")
    assert isinstance(answer["id"], int)
