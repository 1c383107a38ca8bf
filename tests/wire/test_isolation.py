"""One service that hangs takes nothing from another: counted and compared within one run."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

import pytest

from tests.soak.client import Client, expect
from tests.soak.upstream import moody_upstream
from tests.support.gateway_process import TOKEN, running_gateway

HANGING = 500
ASKED = 300
ROUNDS = 5
"""Until one is good: what is slow for its own reasons is slow in each of them."""
SLOWER = 3.0
"""How many times as long the usual answer may take beside them as by a gateway where nothing hangs, asked in turn."""


def service(port: int, prefix: str) -> dict[str, Any]:
    return {"url": f"http://127.0.0.1:{port}", "routes": [{"prefix": prefix, "strip": True}]}


async def usual(*clients: Client) -> list[float]:
    """The usual seconds of an answer of the healthy service by each client, asked in turn. Every response is 200."""
    took: list[list[float]] = [[] for _ in clients]
    for _ in range(ASKED):
        for client, seconds in zip(clients, took, strict=True):
            started = time.perf_counter()
            expect(await client.ask("GET", "/well/plain/1000"), 200)
            seconds.append(time.perf_counter() - started)
    return [median(seconds) for seconds in took]


@pytest.mark.parametrize("in_flight", [4096, 100], ids=["all in flight", "most of them queueing"])
async def test_500_hanging_requests_slow_nobody_else(in_flight: int) -> None:
    headers = f"X-VX11-Token: {TOKEN}\r\n".encode()
    async with AsyncExitStack() as stack:
        hung, well = [await stack.enter_async_context(moody_upstream()) for _ in range(2)]
        config = {
            "services": {"hung": service(hung.port, "/hung"), "well": service(well.port, "/well")},
            "limits": {"in_flight": in_flight, "connect": 30, "first_byte": 60},
        }
        gateways = [await stack.enter_async_context(running_gateway(config)) for _ in range(2)]
        port, free_port = [int(gateway.url.rpartition(":")[2]) for gateway in gateways]
        client, free = [await stack.enter_async_context(Client(each, headers)) for each in (port, free_port)]
        await usual(client, free)
        clients = [Client(port, headers) for _ in range(HANGING)]
        for one in clients:
            await one.send(one.head("GET", "/hung/hang"))
            stack.callback(one.leave)
        async with asyncio.timeout(15):
            while hung.requests < min(in_flight, HANGING):
                await asyncio.sleep(0.05)
        ratios = []
        for _ in range(ROUNDS):
            beside, alone = await usual(client, free)
            ratios.append(beside / alone)
            if ratios[-1] < SLOWER:
                break
        assert min(ratios) < SLOWER
        # They still hang, and no more are let through than there is room for.
        assert len(hung.connections) >= min(in_flight, HANGING)
        assert hung.requests == min(in_flight, HANGING)
        for one in clients:
            # A plain close could be the end of the sending half alone, which keeps a request for a few seconds.
            one.leave(with_reset=True)
        async with asyncio.timeout(15):
            while hung.connections:
                hung.close_idle()
                await asyncio.sleep(0.05)
        expect(await client.ask("GET", "/hung/plain/1"), 200)
