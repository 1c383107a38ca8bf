"""Peers that are there and take nothing: they hold neither a connection nor the other side for ever."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tentaculo.tasks import TaskGroup
from tests.conftest import Start
from tests.support.databases import sqlite
from tests.support.event_clients import HANDSHAKE, ping_frame, text_frame
from tests.support.waits import eventually
from tests.support.wire import Reader, Upstream, Writer, answering, dial, ok, read_request, upstream
from tests.wire.asking import ask
from tests.wire.conftest import Service

WEBSOCKET = HANDSHAKE.format(path="/ws").encode()
UPGRADE = b"GET /s/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
BEGUN = re.compile(rb'"connected"|event: start\ndata: [^\n]*\n\n')
"""The first message of `/ws`, and the first frame of an event stream."""
INGEST = b"POST /events/ingest HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
GET = b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n"
LARGE = 16 * 2**20
"""More bytes than the buffers on the way hold."""


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_tunnel_whose_service_reads_nothing_ends(start: Start, service: Service, *, leaves: bool) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        state.requests.append(await read_request(reader))
        # What the reader's buffer holds is read, and no more.
        writer.write(SWITCHED)
        with suppress(ConnectionError):
            while not writer.transport.is_closing():
                writer.write(b".")
                await asyncio.sleep(0.05)

    async with upstream(script) as up:
        live = await start(service(up.port), limits={"stall": 0.5})
        async with dial(live.port) as wire:
            await wire.send(UPGRADE)
            assert (await wire.head()).status == 101
            wire.writer.write(bytes(LARGE))
            if leaves:
                wire.abort()
            else:
                await wire.rest()
            await up.until(lambda: up.gone == 1)
            await live.gateway.proxy.traffic.idle()


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_tunnel_whose_client_reads_nothing_ends(start: Start, service: Service, *, leaves: bool) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(SWITCHED + bytes(LARGE))
        if leaves:
            writer.close()
        await reader.read(-1)

    async with upstream(script) as up:
        live = await start(service(up.port), limits={"stall": 0.5})
        async with dial(live.port) as wire:
            await wire.send(UPGRADE)
            assert (await wire.head()).status == 101
            await up.until(lambda: up.gone == 1)
            await asyncio.wait_for(live.gateway.proxy.traffic.idle(), 5)


@pytest.mark.parametrize("size", [1_500_000, LARGE])
@pytest.mark.parametrize("line", [b"Connection: close", b"Connection: keep-alive"])
async def test_a_client_that_does_not_read_its_answer_is_dropped(
    start: Start, service: Service, line: bytes, size: int
) -> None:
    async with upstream(answering(ok(bytes(size)))) as up:
        live = await start(service(up.port), limits={"stall": 0.5}, server={"port": 0, "keepalive": 0.5, "grace": 1})
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n" + line + b"\r\n\r\n")
            async with asyncio.timeout(5):
                while b"tentaculo_connections_open 1.0" not in await metrics(live.port):
                    await asyncio.sleep(0.2)
            assert live.gateway.proxy.traffic.in_flight == 0


async def send_and_read_nothing(
    port: int, first: bytes, then: bytes, on_open: Callable[[], None] | None = None
) -> None:
    """A client that sends `then` now and then behind its request, and reads nothing. Returns when its connection ends.

    With `on_open` it reads the beginning of the response, and calls that once an event stream or a `/ws` has begun.
    """
    loop = asyncio.get_running_loop()
    with socket.socket() as client, suppress(ConnectionError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, first)
        found = b""
        while on_open is not None and not BEGUN.search(found):
            found += await loop.sock_recv(client, 4096)
        if on_open is not None:
            on_open()
        async with asyncio.timeout(10):
            while True:
                await loop.sock_sendall(client, then)
                await asyncio.sleep(0.005)


# The kernel looks at a peer of which some bytes are under way. Small pieces fill its buffer exactly, and none are.
async def in_small_pieces(reader: Reader, writer: Writer, state: Upstream) -> None:
    """A service whose response has no end."""
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with suppress(ConnectionError):
        while True:
            writer.write(b"b8\r\n" + bytes(184) + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.002)


@pytest.mark.usefixtures("both_ways", "small_send_buffers")
@pytest.mark.parametrize("then", [b"G", b"\n", GET])
async def test_a_client_that_sends_and_does_not_read_its_answer_is_dropped(
    start: Start, service: Service, then: bytes
) -> None:
    async with upstream(in_small_pieces) as up:
        live = await start(service(up.port), limits={"stall": 0.5})
        await send_and_read_nothing(live.port, GET, then)
        await up.until(lambda: up.gone == 1)
        await live.gateway.proxy.traffic.idle()


@pytest.mark.usefixtures("both_ways", "small_send_buffers")
@pytest.mark.parametrize("path", [b"/livez", b"/health", b"/nothing", b"/status"])
async def test_a_client_that_sends_and_does_not_read_the_gateways_own_answers_is_dropped(
    start: Start, path: bytes
) -> None:
    live = await start({}, limits={"stall": 0.5})
    await send_and_read_nothing(live.port, b"", GET.replace(b"/s/", path))


@pytest.mark.usefixtures("small_send_buffers")
@pytest.mark.parametrize("then", [text_frame(b'{"a":1}'), ping_frame(bytes(125))], ids=["text", "ping"])
async def test_a_client_of_events_that_sends_and_reads_none_is_dropped(start: Start, file: Path, then: bytes) -> None:
    await read_no_event(start, file, WEBSOCKET, then)


@pytest.mark.usefixtures("both_ways", "small_send_buffers")
@pytest.mark.parametrize("then", [b"G", GET])
async def test_a_client_of_the_event_stream_that_sends_and_reads_none_is_dropped(
    start: Start, file: Path, then: bytes
) -> None:
    await read_no_event(start, file, GET.replace(b"/s/", b"/events/stream"), then)


async def test_pongs_for_a_client_that_reads_none_do_not_pile_up(
    start: Start, file: Path, small_send_buffers: list[asyncio.Transport]
) -> None:
    live = await start({}, limits={"stall": 1}, auth={"enabled": False}, database={"url": sqlite(file)})
    tasks, waiting = TaskGroup("client"), 0
    try:
        client = tasks.start(send_and_read_nothing(live.port, WEBSOCKET, ping_frame(bytes(125)) * 1000), "client")
        while not client.done():
            waiting = max(waiting, small_send_buffers[0].get_write_buffer_size() if small_send_buffers else 0)
            await asyncio.sleep(0.01)
    finally:
        await tasks.close()
    assert 0 < waiting <= 64 * 1024


async def read_no_event(start: Start, file: Path, first: bytes, then: bytes) -> None:
    """A client that subscribes with `first`, sends `then` now and then, and reads none of the events that come."""
    size = 600_000
    limits = {"stall": 0.5, "events_body": 2 * size}
    live = await start({}, limits=limits, auth={"enabled": False}, database={"url": sqlite(file)})
    hub, tasks, opened = live.gateway.hub, TaskGroup("client"), asyncio.Event()
    try:
        client = tasks.start(send_and_read_nothing(live.port, first, then, opened.set), "client")
        await opened.wait()
        event = b'{"source":"s","type":"t","broadcast":true,"payload":{"a":"%b"}}' % (b"x" * size)
        async with dial(live.port) as wire:
            await wire.send(INGEST % len(event) + event)
            assert (await wire.response()).status == 201
        await client
        await client
        await eventually(lambda: len(hub) == 0)
        assert hub.cut_off == 0, "its queue had room"
    finally:
        await tasks.close()


async def test_a_client_that_reads_slowly_gets_its_answer(start: Start, service: Service) -> None:
    async with upstream(answering(ok(bytes(LARGE)))) as up:
        live = await start(service(up.port), limits={"stall": 1})
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            await wire.head()
            left = LARGE
            while left:
                left -= len(await wire.reader.readexactly(min(left, LARGE // 8)))
                await asyncio.sleep(0.3)


async def test_a_service_that_takes_an_upload_slowly_keeps_its_time_for_the_response(
    start: Start, service: Service
) -> None:
    """The kernels of both sides take the end of an upload long before a slow service does."""
    size = 3 * 2**20

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        left = size
        while left:
            left -= len(await reader.read(min(left, 32 * 1024)))
            await asyncio.sleep(0.01)
        writer.write(ok(b"all"))
        await reader.read(-1)

    async with upstream(script) as up:
        live = await start(service(up.port, timeout=0.4))
        async with dial(live.port) as wire:
            await wire.send(b"PUT /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
            _, response = await asyncio.gather(wire.send(bytes(size)), wire.response())
    assert response.body == b"all"


async def metrics(port: int) -> bytes:
    """The gateway's numbers, on a connection of their own."""
    async with dial(port) as wire:
        return (await ask(wire, "/metrics", b"Connection: close")).body
