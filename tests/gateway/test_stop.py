"""A stop under new connections: nothing that reached a service goes unanswered, and with a second worker nothing fails."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from contextlib import suppress

import pytest

from tests.support.gateway_process import Running, running_gateway
from tests.support.waits import eventually
from tests.support.wire import answering, ok, upstream

CLIENTS = 24


class Load:
    """Clients that open a connection for each request, until `stop`; each request has a number of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._numbers = 0
        self._is_over = False
        self.outcomes: Counter[str] = Counter()
        self.unanswered: list[str] = []

    def stop(self) -> None:
        self._is_over = True

    async def run(self) -> None:
        while not self._is_over:
            self._numbers += 1
            await self._request(f"/up/{self._numbers}")

    async def _request(self, target: str) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            self.outcomes["refused"] += 1
            await asyncio.sleep(0.01)
            return
        try:
            writer.write(f"GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            self.outcomes[head[9:12].decode()] += 1
        except (OSError, EOFError, TimeoutError):
            self.outcomes["unanswered"] += 1
            self.unanswered.append(target)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


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
