"""A gateway without file descriptors: requests get 503, and no service is blamed."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, TCPConnector

from tests.support.gateway_process import Running, running_gateway
from tests.support.wire import answering, ok, upstream


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
