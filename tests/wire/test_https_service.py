"""A service with https: bytes pass both ways as they do without TLS, in whatever pieces they come."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from tests.conftest import Start
from tests.support.wire import Reader, Request, Upstream, Writer, answering, dial, ok, read_request, upstream
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")
PIECES = [b"%d" % number * 1000 for number in range(9)]
LARGE = bytes(range(256)) * 8192
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
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.response()).status == 200
    assert up.connections == 1


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
