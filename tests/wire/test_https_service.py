"""A service with https: bytes pass both ways as they do without TLS, in whatever pieces they come."""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

import pytest

from tests.conftest import Start
from tests.support.waits import eventually
from tests.support.wire import Reader, Request, Upstream, Writer, answering, dial, ok, read_request, upstream
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")
PIECES = [b"%d" % number * 1000 for number in range(9)]
LARGE = bytes(range(256)) * 8192
GET = b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n"
HEAD = b"POST /s/ HTTP/1.1\r\nHost: h\r\n"


@pytest.mark.parametrize("protocol", [b"websocket", b"tcp"])
async def test_an_upgraded_connection(start: Start, service: Service, tls: ssl.SSLContext, protocol: bytes) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: %b\r\n\r\n" % protocol

    async def echo(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n" + upgrade)
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async with upstream(echo, tls=tls) as up:
        live = await start(service(up.port, scheme="https", upgrades=["websocket", "tcp"]))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n" + upgrade)
            assert (await wire.head()).status == 101
            for piece in PIECES:
                await wire.send(piece)
                assert await wire.reader.readexactly(len(piece)) == piece
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(wire.send(LARGE))
                assert await wire.reader.readexactly(len(LARGE)) == LARGE


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_an_upload_in_pieces(start: Start, service: Service, tls: ssl.SSLContext, framing: str) -> None:
    async with upstream(answering(lambda request: ok(request.body)), tls=tls) as up:
        live = await start(service(up.port, scheme="https"))
        async with dial(live.port) as wire:
            for _ in range(2):
                size = sum(map(len, PIECES))
                lines = (
                    b"Content-Length: %d\r\n\r\n" % size
                    if framing == "length"
                    else b"Transfer-Encoding: chunked\r\n\r\n"
                )
                await wire.send(HEAD + lines)
                for piece in PIECES:
                    await asyncio.sleep(0.005)
                    await wire.send(piece if framing == "length" else b"%x\r\n%b\r\n" % (len(piece), piece))
                if framing == "chunks":
                    await wire.send(b"0\r\n\r\n")
                response = await wire.response()
                assert (response.status, response.body) == (200, b"".join(PIECES))


async def test_a_large_body_both_ways(start: Start, service: Service, tls: ssl.SSLContext) -> None:
    async with upstream(answering(lambda request: ok(request.body)), tls=tls) as up:
        live = await start(service(up.port, scheme="https"))
        async with dial(live.port) as wire:
            await wire.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(LARGE))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(wire.send(LARGE))
                response = await wire.response()
            assert response.body == LARGE
            await wire.send(GET)
            assert (await wire.response()).status == 200
    assert up.connections == 1


@pytest.mark.parametrize("notifies", [True, False], ids=["with close_notify", "without"])
@pytest.mark.parametrize("line", [b"", b"Content-Length: 9\r\n"], ids=["to the end", "with a length"])
async def test_a_body_whose_connection_closes(
    start: Start, service: Service, tls: ssl.SSLContext, line: bytes, notifies: bool
) -> None:
    """Without close_notify anybody on the way may have closed, so only a length shows that nothing is missing."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + line + b"\r\nsome body")
        await writer.drain()
        await asyncio.sleep(0.05)
        if not notifies:
            writer.transport.abort()

    async with upstream(script, tls=tls) as up:
        live = await start(service(up.port, scheme="https"))
        async with dial(live.port) as wire:
            await wire.send(GET)
            if notifies or line:
                assert (await wire.response()).body == b"some body"
            else:
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await wire.response()


async def test_a_response_before_the_end_of_an_upload(start: Start, service: Service, tls: ssl.SSLContext) -> None:
    """The service closes with most of the request unread, which resets the connection."""

    async def refuse(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok(b"too large", b"Connection: close", status=b"413 Content Too Large"))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    async with upstream(refuse, tls=tls) as up:
        live = await start(service(up.port, scheme="https"))
        async with dial(live.port) as wire:
            await wire.send(HEAD + b"Content-Length: %d\r\n\r\n" % (2 * len(LARGE)) + LARGE)
            assert (await wire.response()).status == 413


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_transfer_that_stands_still_is_counted(
    start: Start, service: Service, tls: ssl.SSLContext, way: str
) -> None:
    over = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if way == "down":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
            while True:
                writer.write(LARGE)
                await writer.drain()
        cast(asyncio.Transport, writer.transport).pause_reading()
        await over.wait()

    async with upstream(script, tls=tls) as up:
        live = await start(service(up.port, scheme="https"))
        memory = live.gateway.memory
        async with dial(live.port) as wire:
            cast(asyncio.Transport, wire.writer.transport).pause_reading()
            wire.writer.write(HEAD + b"Content-Length: 100000000\r\n\r\n" if way == "up" else GET)
            for _ in range(10 if way == "up" else 0):
                wire.writer.write(LARGE)
            await eventually(lambda: memory.held > 8 * 1024)
            await asyncio.sleep(0.1)
            assert 8 * 1024 < memory.held <= (48 if way == "up" else 64) * 1024
        over.set()
        await eventually(lambda: memory.held == 0)


async def test_a_service_that_takes_an_upload_slowly(start: Start, service: Service, tls: ssl.SSLContext) -> None:
    async def slow(reader: Reader, writer: Writer, state: Upstream) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        state.requests.append(Request("", "", [], b"", head))
        taken = 0
        while taken < len(LARGE):
            taken += len(await reader.read(65536))
            await asyncio.sleep(0.002)
        writer.write(ok(b"%d" % taken))

    async with upstream(slow, tls=tls) as up:
        live = await start(service(up.port, scheme="https"))
        async with dial(live.port) as wire:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(wire.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(LARGE) + LARGE))
                response = await wire.response()
            assert response.body == b"%d" % len(LARGE)
