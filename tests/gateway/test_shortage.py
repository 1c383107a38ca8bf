"""A gateway without file descriptors: requests get 503, and no service is blamed."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, TCPConnector

from tests.support.gateway_process import Running, running_gateway
from tests.support.wire import Request, answering, ok, upstream


@pytest.fixture
async def gateway() -> AsyncIterator[Running]:
    async with upstream(answering(ok())) as server:
        service = {
            "url": f"http://127.0.0.1:{server.port}",
            "routes": [{"prefix": "/up"}],
            "breaker": {"failures": 1},
            "probe": {"kind": "none"},
        }
        async with running_gateway({"services": {"up": service}, "incidents": {"settle": 0.1}}) as running:
            yield running


@pytest.fixture
async def both() -> AsyncIterator[Running]:
    """Two services. The first responds once eight requests are there, so that each has a connection of its own."""
    together = asyncio.Barrier(8)

    async def late(request: Request) -> bytes:
        await together.wait()
        return ok()

    async with upstream(answering(late)) as one, upstream(answering(ok())) as two:
        services = {
            name: {
                "url": f"http://127.0.0.1:{server.port}",
                "routes": [{"prefix": f"/{name}"}],
                "probe": {"kind": "none"},
            }
            for name, server in (("one", one), ("two", two))
        }
        async with running_gateway({"services": services}) as running:
            yield running


async def test_no_descriptor_is_503_and_no_failure_of_the_service(gateway: Running) -> None:
    pid = gateway.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # One connection that stays open: a second one could not be accepted.
    async with ClientSession(gateway.url, headers=gateway.headers, connector=TCPConnector(limit=1)) as client:
        assert (await client.get("/livez")).status == 200
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, before[1]))
        for _ in range(20):
            async with client.get("/up/x") as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "1")
                assert (await response.json())["error"] == "gateway_exhausted"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        async with client.get("/up/x") as response:
            assert (response.status, await response.text()) == (200, "ok")
        async with client.get("/vx11/incidents") as response:
            assert (await response.json())["incidents"] == []
        async with client.get("/vx11/overview") as response:
            assert (await response.json())["modules_health"]["up"]["requests"] == {"ok": 1, "failed": 0}


async def test_idle_connections_give_their_descriptors_to_a_request(both: Running) -> None:
    pid = both.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    async with ClientSession(both.url, headers=both.headers, connector=TCPConnector(limit=8)) as client:

        async def status(path: str) -> int:
            async with client.get(path) as response:
                await response.read()
                return response.status

        assert await asyncio.gather(*(status("/one/x") for _ in range(8))) == [200] * 8
        # The kernel gives the lowest free number, so that there is none below this limit.
        used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
        lowest = next(number for number in itertools.count() if number not in used)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest, before[1]))
        assert await status("/two/x") == 200
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
