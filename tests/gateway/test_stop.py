"""A stop under new connections: nothing that reached a service goes unanswered, and with a second worker nothing fails."""

from __future__ import annotations

import asyncio
import os
import re
import signal

import pytest

from tests.support.constant_load import Load
from tests.support.gateway_process import Running, running_gateway
from tests.support.waits import eventually
from tests.support.wire import answering, ok, upstream

CLIENTS = 24


def _workers(gateway: Running) -> list[int]:
    lines = gateway.output.read_text(encoding="utf-8").splitlines()
    return [int(pid[1]) for line in lines if '"worker ready"' in line and (pid := re.search(r'"pid": ?(\d+)', line))]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("_round", range(3))
async def test_no_request_is_lost(_round: int, workers: int) -> None:
    async with upstream(answering(ok())) as up:
        service = {"url": f"http://127.0.0.1:{up.port}", "routes": [{"prefix": "/up", "auth": "none"}]}
        config = {"server": {"workers": workers}, "log": {"access": False}, "services": {"up": service}}
        async with running_gateway(config) as gateway:
            if workers > 1:
                await eventually(lambda: len(_workers(gateway)) == workers)
            load = Load(gateway.port)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(CLIENTS):
                    tasks.create_task(load.run())
                await eventually(lambda: load.outcomes["200"] > 200)
                os.kill(gateway.process.pid if workers == 1 else _workers(gateway)[-1], signal.SIGTERM)
                before = load.outcomes["200"]
                if workers == 1:
                    await eventually(lambda: load.outcomes["refused"] > CLIENTS)
                else:
                    await eventually(lambda: len(_workers(gateway)) == workers + 1)
                    await eventually(lambda: load.outcomes["200"] > before + 200)
                load.stop()
        received = {request.target for request in up.requests}
        assert [target for target in load.unanswered if target in received] == []
        if workers > 1:
            assert set(load.outcomes) == {"200"}
