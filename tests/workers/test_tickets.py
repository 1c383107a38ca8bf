"""A ticket that one worker gave, at the other workers of a real gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import ClientSession, TCPConnector

from tests.support.gateway_process import Running, running_gateway
from tests.support.runtime_tables import opened
from tests.support.wire import answering, ok, upstream
from tests.workers.test_workers import config, ready

STREAM = {"Accept": "text/event-stream"}
WAIT = 30.0


async def issue(gateway: Running) -> str:
    """A ticket, on a connection of its own."""
    client = ClientSession(connector=TCPConnector(force_close=True), headers=gateway.headers)
    async with client, client.post(f"{gateway.url}/auth/ticket") as response:
        assert response.status == 201
        given: str = (await response.json())["ticket"]
        return given


async def use(gateway: Running, ticket: str) -> int:
    client = ClientSession(connector=TCPConnector(force_close=True), headers=STREAM)
    async with client, client.get(f"{gateway.url}/madre/x?ticket={ticket}") as response:
        await response.read()
        return response.status


async def from_both(gateway: Running) -> list[str]:
    """Tickets of both workers, several of each: the name of the process stands in front."""
    tickets: list[str] = []
    async with asyncio.timeout(WAIT):
        while len({ticket.partition(".")[0] for ticket in tickets}) < 2:
            tickets += await asyncio.gather(*(issue(gateway) for _ in range(20)))
    return tickets


def takers(gateway: Running, status: int) -> set[Any]:
    """The workers that logged such a response to a request with a ticket."""
    logged = gateway.logged()
    return {entry["worker"] for entry in logged if entry.get("path") == "/madre/x" and entry["status"] == status}


async def until(condition: Callable[[], Any], step: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(WAIT):
        while not condition():
            await step()


async def test_a_ticket_works_once_on_whichever_worker_it_arrives(url: str) -> None:
    async with upstream(answering(ok())) as up:
        tables = config(up.port, 2)
        tables["database"]["url"] = url
        async with running_gateway(tables) as gateway:
            await ready(gateway, 2)
            used: list[str] = []

            async def step() -> None:
                tickets = await from_both(gateway)
                used.extend(tickets)
                assert set(await asyncio.gather(*(use(gateway, ticket) for ticket in tickets))) == {200}
                again = await asyncio.gather(*(use(gateway, ticket) for ticket in tickets))
                assert set(again) == {401}

            await until(lambda: len(takers(gateway, 200)) == len(takers(gateway, 401)) == 2, step)

            ticket = await issue(gateway)
            statuses = await asyncio.gather(*(use(gateway, ticket) for _ in range(50)))
            assert sorted(statuses) == [200, *[401] * 49]

            with opened(url) as connection:
                connection.exec_driver_sql("ALTER TABLE tentaculo_tickets RENAME TO aside")

            async def away() -> None:
                tickets = await from_both(gateway)
                used.extend(tickets)
                statuses = await asyncio.gather(*(use(gateway, ticket) for ticket in tickets))
                # The one that gave it takes it, and no other one does.
                assert set(statuses) <= {200, 503}

            before = len(up.requests)
            await until(lambda: takers(gateway, 503) and len(up.requests) > before, away)
            assert len(up.requests) < len(used)
            output = gateway.output.read_text(encoding="utf-8")
            assert not [ticket for ticket in used if ticket in output]
    assert {json.dumps(request.target) for request in up.requests if "health" not in request.target} == {'"/madre/x"'}
