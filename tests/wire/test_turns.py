"""Many requests in the same moment: a turn of the event loop begins some of them, so that everything else has its own."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import pytest

from tentaculo.net.turns import MOST
from tests.conftest import Start
from tests.support.wire import TIMEOUT, Reader, Upstream, Writer, upstream
from tests.wire.conftest import Service

CLIENTS = 5 * MOST


@pytest.mark.usefixtures("both_ways")
async def test_no_turn_begins_more_than_its_share(start: Start, service: Service) -> None:
    async def hang(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.read(-1)

    async with upstream(hang) as up:
        live = await start(service(up.port))
        traffic = live.gateway.proxy.traffic
        with ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection(("127.0.0.1", live.port), TIMEOUT)) for _ in range(CLIENTS)
            ]
            for client in clients:
                client.sendall(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
                assert (await asyncio.to_thread(client.recv, 4096)).startswith(b"HTTP/1.1 200")
            for client in clients:
                client.sendall(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            lots, before = [], 0
            async with asyncio.timeout(TIMEOUT):
                while traffic.in_flight < CLIENTS:
                    await asyncio.sleep(0)
                    lots.append(traffic.in_flight - before)
                    before = traffic.in_flight
        assert max(lots) <= MOST
