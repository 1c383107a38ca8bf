"""A client that leaves in an unlucky moment leaves nothing behind."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tentaculo.proxy.handler import DrivenExchange, Proxy, WholeRequest
from tentaculo.proxy.proxied_request import JudgedRequest
from tests.conftest import Start
from tests.support.waits import eventually
from tests.support.wire import TIMEOUT, Reader, Writer, answering, dial, read_request, upstream
from tests.support.wire import Upstream as Server
from tests.wire.conftest import Service

ENDS = [
    (b"200 OK", b"text/event-stream", (200, None)),
    (b"200 OK", b"text/plain", (499, "client_left")),
    (b"500 Oh", b"text/event-stream", (499, "client_left")),
]
"""Status and type of a response that its client ends, and what is logged of it."""
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


def leave(client: socket.socket, end: str) -> None:
    """Close the sending half, or the whole connection, or reset it."""
    if end == "half":
        client.shutdown(socket.SHUT_WR)
        return
    if end == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("path", ["/events/stream", "/status"])
@pytest.mark.parametrize("end", ["half", "whole", "reset"])
async def test_from_a_stream_of_the_gateway_itself(start: Start, file: Path, path: str, end: str) -> None:
    """No heartbeat comes within this test: only the end of what the client sends tells."""
    live = await start({}, database={"url": f"sqlite:///{file}"})
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", live.port)) as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n".encode() + live.auth
            await loop.sock_sendall(client, request + b"\r\n")
            async with asyncio.timeout(TIMEOUT):
                assert (await loop.sock_recv(client, 4096)).startswith(b"HTTP/1.1 200 ")
            leave(client, end)
            await eventually(lambda: live.gateway._admission.open == 0, "the connection is gone", seconds=10)
    # Nobody else can end it well. It was logged as 499, as a client that did not wait for its response.
    assert [(record.status, record.error) for record in live.records] == [(200, None)] * 2


@pytest.mark.parametrize(("status", "kind", "logged"), ENDS)
@pytest.mark.parametrize("end", ["half", "whole", "reset"])
async def test_from_a_stream_of_a_service(
    start: Start, service: Service, end: str, status: bytes, kind: bytes, logged: tuple[int, str | None]
) -> None:
    async def script(reader: Reader, writer: Writer, _: Server) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: 99\r\n\r\ndata: 1\n\n" % (status, kind))
        await reader.read(1)

    async with upstream(script) as up:
        live = await start(service(up.port))
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", live.port)) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, b"GET /s/stream HTTP/1.1\r\nHost: h\r\n\r\n")
            found = b""
            async with asyncio.timeout(TIMEOUT):
                while not found.endswith(b"data: 1\n\n"):
                    found += await loop.sock_recv(client, 4096)
            leave(client, end)
            await eventually(lambda: live.gateway._admission.open == 0, "the connection is gone", seconds=20)
    assert [(record.status, record.error, record.sent) for record in live.records] == [(*logged, 9)]


AHEAD = {
    "requests": b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n" * 5,
    "many requests": b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n" * 500,
    "a large body": b"PUT /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n" + bytes(100_000),
}
"""What a client sends behind the request for an event stream, so that it is not read any more."""


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize("end", ["reset", "close", "half"])
@pytest.mark.usefixtures("both_ways")
async def test_from_a_silent_stream_behind_which_it_has_sent_more(
    start: Start, service: Service, ahead: str, end: str
) -> None:
    """It is not read, and nothing is sent to it: neither shows that it has left."""

    async def script(reader: Reader, writer: Writer, state: Server) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        await reader.read(1)

    async with upstream(script) as up:
        live = await start(service(up.port), limits={"stall": 0.4})
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n" + AHEAD[ahead])
            await wire.head()
            await asyncio.sleep(0.1)
            if end == "reset":
                wire.reset()
            elif end == "close":
                wire.abort()
            else:
                wire.writer.write_eof()
            await up.until(lambda: up.gone == 1)
    await eventually(lambda: live.records)
    assert [record.status for record in live.records] == [200]


@pytest.mark.usefixtures("both_ways")
async def test_one_that_has_sent_more_behind_a_silent_stream_and_stays_is_served(
    start: Start, service: Service
) -> None:
    go = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Server) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 4\r\n\r\n")
        await go.wait()
        writer.write(b"data")
        await reader.read(1)

    async with upstream(script) as up:
        live = await start(service(up.port), limits={"stall": 0.4})
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n" + AHEAD["requests"])
            await asyncio.sleep(0.5)  # some looks
            go.set()
            assert (await wire.response()).body == b"data"
            assert [(await wire.response()).status for _ in range(5)] == [200] * 5
