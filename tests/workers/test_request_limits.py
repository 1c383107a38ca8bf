"""Limits of requests, which the workers of a real gateway share."""

from __future__ import annotations

import asyncio
import os
import re
import signal

from tests.support.gateway_process import Running, running_gateway
from tests.support.wire import Response, answering, dial, ok, upstream
from tests.workers.test_workers import config, ready

WAIT = 30.0
POLICY = re.compile(r'"20/h per route";q=(\d+);w=3600')


async def ask(gateway: Running) -> Response:
    """The response on a connection of its own, which the kernel gives to one of the workers."""
    async with dial(gateway.port) as wire:
        token = f"X-VX11-Token: {gateway.token}\r\n"
        await wire.send(f"GET /madre/x HTTP/1.1\r\nHost: gateway\r\n{token}\r\n".encode())
        return await wire.response()


def quota(response: Response) -> int:
    found = POLICY.fullmatch(response.get("ratelimit-policy") or "")
    assert found is not None
    return int(found[1])


async def test_two_workers_share_a_limit_and_one_that_is_left_has_all_of_it() -> None:
    async with upstream(answering(ok())) as up:
        tables = config(up.port, 2)
        tables["services"]["madre"]["routes"][0]["limits"] = [{"rate": "20/h", "per": "route"}]
        async with running_gateway(tables) as gateway, asyncio.timeout(4 * WAIT):
            await ready(gateway, 2)
            statuses: list[int] = []

            def refusing() -> set[int]:
                return {entry["worker"] for entry in gateway.logged() if entry.get("error") == "rate_limited"}

            while refusing() != {1, 2}:
                responses = await asyncio.gather(*(ask(gateway) for _ in range(20)))
                assert {quota(one) for one in responses} == {10}
                statuses += [one.status for one in responses]
            assert statuses.count(200) == 20
            assert [one.target for one in up.requests].count("/madre/x") == 20
            pids = {entry["worker"]: entry["pid"] for entry in gateway.logged() if entry["event"] == "worker ready"}
            os.kill(pids[2], signal.SIGKILL)
            seen = [10]
            while seen[-2:] != [20, 10]:
                found = quota(await ask(gateway))
                if found != seen[-1]:
                    seen.append(found)
            assert seen == [10, 20, 10]
