"""Events of several workers on one port: one log and one order, whichever worker stored them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, TCPConnector

from tests.support.gateway_process import Running, running_gateway
from tests.support.wire import answering, ok, upstream
from tests.workers.test_workers import config, entries, ready

WAIT = 30.0
LISTENERS = 12


async def ingest(client: ClientSession, gateway: Running, number: int) -> int:
    body = {"source": "s", "type": "t", "payload": {"number": number}, "broadcast": True}
    async with client.post(f"{gateway.url}/events/ingest", json=body) as response:
        assert response.status == 201
        id_: int = (await response.json())["id"]
        return id_


async def received(socket: ClientWebSocketResponse, number: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(WAIT):
        return [await socket.receive_json() for _ in range(number)]


def ingesting(gateway: Running) -> set[int]:
    return {entry["worker"] for entry in entries(gateway) if entry.get("path") == "/events/ingest"}


async def test_every_listener_gets_every_event_once_and_in_the_order_of_ids(url: str) -> None:
    async with upstream(answering(ok())) as up, AsyncExitStack() as stack:
        tables = config(up.port, 2)
        tables["database"]["url"] = url
        gateway = await stack.enter_async_context(running_gateway(tables))
        await ready(gateway, 2)
        connector = TCPConnector(limit=0, force_close=True)
        client = await stack.enter_async_context(ClientSession(connector=connector, headers=gateway.headers))
        sockets = [await client.ws_connect(f"{gateway.url}/ws") for _ in range(LISTENERS)]
        for socket in sockets:
            assert (await socket.receive_json())["type"] == "connected"
        ids: list[int] = []
        async with asyncio.timeout(WAIT):
            while len(ids) < 200 or len(ingesting(gateway)) < 2:
                ids += await asyncio.gather(*(ingest(client, gateway, number) for number in range(40)))
        for events in await asyncio.gather(*(received(socket, len(ids)) for socket in sockets)):
            assert [event["event_id"] for event in events] == sorted(ids)
        for socket in sockets:
            await socket.close()
