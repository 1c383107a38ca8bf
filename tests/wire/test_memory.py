"""Memory for transfers that stand still: little for each, counted for all, and beyond the budget new work is refused."""

from __future__ import annotations

import asyncio
import gc
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.conftest import Start
from tests.support.waits import eventually
from tests.support.wire import TIMEOUT, Reader, Upstream, Writer, dial, ok, read_request, upstream
from tests.wire.asking import ask, problem
from tests.wire.conftest import Service

TRANSFERS = 20
MOST_OF_A_TRANSFER = 64 * 1024
LARGE = 100_000_000
BLOCK = bytes(1 << 20)


@contextmanager
def raw_service(*, answers: bool) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """A listening socket, and its connections. `answers`: it reads a request, and begins a response without an end."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        listener.setblocking(False)
        taken: list[socket.socket] = []

        def accept() -> None:
            connection, _ = listener.accept()
            connection.setblocking(False)
            stack.enter_context(connection)
            if answers:
                loop.add_reader(connection, answer, connection)
            else:
                taken.append(connection)

        def answer(connection: socket.socket) -> None:
            loop.remove_reader(connection)
            connection.recv(4096)
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
            taken.append(connection)

        loop = asyncio.get_running_loop()
        loop.add_reader(listener, accept)
        try:
            yield listener, taken
        finally:
            loop.remove_reader(listener)


async def fill(sockets: list[socket.socket]) -> None:
    """Send until no kernel on the way takes any more."""
    quiet = 0
    while quiet < 10:
        sent = 0
        for sock in sockets:
            try:
                sent += sock.send(BLOCK)
            except BlockingIOError:
                pass
        await asyncio.sleep(0.02)
        quiet = 0 if sent else quiet + 1


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_transfer_that_stands_still_takes_little_memory(start: Start, service: Service, way: str) -> None:
    head = b"Host: h\r\nContent-Length: %d\r\n\r\n" % LARGE if way == "up" else b"Host: h\r\n\r\n"
    with raw_service(answers=way == "down") as (listener, taken), ExitStack() as stack:
        live = await start(service(listener.getsockname()[1]), limits={"in_flight": 1000})
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            clients = []
            for _ in range(TRANSFERS):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", live.port)))
                client.setblocking(False)
                client.send((b"PUT" if way == "up" else b"GET") + b" /s/ HTTP/1.1\r\n" + head)
                clients.append(client)
            await eventually(lambda: len(taken) == TRANSFERS)
            await fill(clients if way == "up" else taken)
            gc.collect()
            each = (tracemalloc.get_traced_memory()[0] - before) / TRANSFERS
        finally:
            tracemalloc.stop()
        assert 0 < live.gateway.memory.held <= TRANSFERS * MOST_OF_A_TRANSFER
        assert each <= MOST_OF_A_TRANSFER
        for sock in (*clients, *taken):
            sock.close()
        await eventually(lambda: live.gateway.memory.held == 0)


@pytest.mark.usefixtures("both_ways")
async def test_beyond_the_budget_new_work_is_refused_until_there_is_room(start: Start, service: Service) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        while True:
            request = await read_request(reader)
            if request.target == "/large":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
                while True:
                    writer.write(BLOCK)
                    await writer.drain()
            writer.write(ok(b"good"))

    async with upstream(script) as up:
        live = await start(service(up.port), limits={"memory": 20_000})
        async with dial(live.port) as wire:
            assert (await ask(wire, "/s/")).body == b"good"
            with socket.create_connection(("127.0.0.1", live.port), TIMEOUT) as stalled:
                stalled.sendall(b"GET /s/large HTTP/1.1\r\nHost: h\r\n\r\n")
                await eventually(lambda: live.gateway.memory.is_exhausted)
                for target in ("/s/", "/s/", "/readyz"):
                    async with dial(live.port) as other:
                        refused = await ask(other, target)
                        assert (refused.status, problem(refused)["error"]) == (503, "overloaded")
                        assert refused.get("retry-after") == "1"
                # A connection whose request is known is refused as well.
                assert (await ask(wire, "/s/")).status == 503
                async with dial(live.port) as other:
                    assert (await ask(other, "/livez")).status == 200
                    await other.send(b"GET /metrics HTTP/1.1\r\nHost: h\r\n" + live.auth + b"\r\n")
                    assert (await other.response()).status == 200
            await eventually(lambda: live.gateway.memory.held == 0)
        async with dial(live.port) as wire:
            assert (await ask(wire, "/s/")).body == b"good"
