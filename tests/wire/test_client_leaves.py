"""A client that leaves in an unlucky moment leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tentaculo.proxy.handler import DrivenExchange, Proxy, WholeRequest
from tentaculo.proxy.proxied_request import JudgedRequest
from tests.conftest import Start
from tests.support.wire import TIMEOUT, answering, dial, upstream
from tests.wire.conftest import Service

CLOSES = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def test_before_the_task_of_its_request_has_begun(
    start: Start, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request needs a new connection, hence a task; and in the same turn of the loop the client has gone."""
    serve, left = Proxy.serve, []

    def serve_and_leave(
        self: Proxy, request: WholeRequest, done: Callable[[bool], None], judged: JudgedRequest | None
    ) -> DrivenExchange:
        exchange = serve(self, request, done, judged)
        if request.raw_path == "/s/leaves":
            exchange.client_closed()
            left.append(exchange)
        return exchange

    monkeypatch.setattr(Proxy, "serve", serve_and_leave)
    async with upstream(answering(CLOSES)) as up:
        live = await start(service(up.port), limits={"in_flight": 1})
        traffic = live.gateway.proxy.traffic
        async with dial(live.port) as wire, asyncio.timeout(TIMEOUT):
            await wire.send(b"GET /s/first HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.response()).status == 200
            await wire.send(b"GET /s/leaves HTTP/1.1\r\nHost: h\r\n\r\n")
            while not left or traffic.in_flight:
                await asyncio.sleep(0.01)
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/next HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.response()).status == 200
    assert [record.status for record in live.records if record.target == "/s/leaves"] == [499]
