"""Upgraded connections: bytes both ways, and everything a WebSocket means by them."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext, suppress

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.conftest import Start
from tests.support.wire import Reader, Upstream, Writer, answering, dial, upstream
from tests.wire.conftest import Service
from tests.wire.test_upgrades import HANDSHAKE, SWITCH


@asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            if message == "bye":
                await connection.close(4321, "because")
                return
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, subprotocols=[Subprotocol("chat")], max_size=None) as server:
        yield next(iter(server.sockets)).getsockname()[1]


async def test_a_web_socket_passes_whole(start: Start, service: Service) -> None:
    async with echo_server() as port:
        live = await start(service(port))
        url = f"ws://127.0.0.1:{live.port}/s/ws"
        async with connect(url, subprotocols=[Subprotocol("chat")], max_size=None) as socket:
            assert socket.subprotocol == "chat"
            for message in ("text", b"\x00\xff" * 10, "x" * 3_000_000):
                await socket.send(message)
                assert await socket.recv() == message
            await socket.send(["in ", "three ", "fragments"])
            assert await socket.recv() == "in three fragments"
            assert await asyncio.wait_for(await socket.ping(b"p"), 5) >= 0
            await socket.send("bye")
            with pytest.raises(ConnectionClosed) as caught:
                await socket.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4321, "because")
    assert (live.records[0].status, live.records[0].error) == (101, None)


async def test_the_clients_close_reaches_the_upstream(start: Start, service: Service) -> None:
    closed: asyncio.Future[tuple[int | None, str | None]] = asyncio.get_running_loop().create_future()

    async def note(connection: ServerConnection) -> None:
        await connection.wait_closed()
        closed.set_result((connection.close_code, connection.close_reason))

    async with serve(note, "127.0.0.1", 0) as server:
        live = await start(service(next(iter(server.sockets)).getsockname()[1]))
        socket: ClientConnection
        async with connect(f"ws://127.0.0.1:{live.port}/s/ws") as socket:
            await socket.close(4000, "done")
        assert await asyncio.wait_for(closed, 5) == (4000, "done")


async def test_a_listed_protocol_passes_once_upgraded_and_early_bytes_are_kept(start: Start, service: Service) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Upgrade: chat/9" in head
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat/9\r\nConnection: upgrade\r\n\r\nearly")
        while data := await reader.read(1000):
            writer.write(data.upper())

    async with upstream(script) as up:
        live = await start(service(up.port, upgrades=["chat/9"]))
        async with dial(live.port) as wire:
            await wire.send(HANDSHAKE.replace(b"websocket\r\n", b"chat/9\r\n", 1))
            assert (await wire.head()).get("upgrade") == "chat/9"
            assert await wire.reader.readexactly(5) == b"early"
            await wire.send(b"GET / HTTP/1.1\r\n\r\n")
            assert await wire.reader.readexactly(18) == b"GET / HTTP/1.1\r\n\r\n"


async def test_either_end_ends_both(start: Start, service: Service) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH)
        data = await reader.read(1000)
        if data == b"end":
            return
        writer.write(data)
        await reader.read(-1)

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(HANDSHAKE)
            await wire.head()
            await wire.send(b"end")
            assert await wire.rest() == b""
        async with dial(live.port) as wire:
            await wire.send(HANDSHAKE)
            await wire.head()
            await wire.send(b"more")
            assert await wire.reader.readexactly(4) == b"more"
            wire.abort()
            await up.until(lambda: up.gone == 2)


def keep_buffers_small(writer: Writer) -> None:
    """The kernel would let them grow: of a current one the four of this test hold more than the test sends."""
    for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, buffer, 64 * 1024)


async def test_back_pressure_both_ways(start: Start, service: Service) -> None:
    """Whoever does not read holds the other side back; then everything arrives."""
    size = 30_000_000
    sent = 0
    go = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        nonlocal sent
        keep_buffers_small(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH)
        while sent < size:
            writer.write(bytes(100_000))
            await writer.drain()
            sent += 100_000
        await go.wait()
        got = 0
        while got < size:
            got += len(await reader.read(1_000_000))
        writer.write(b"all")
        await writer.drain()
        await reader.read(-1)

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            keep_buffers_small(wire.writer)
            await wire.send(HANDSHAKE)
            await wire.head()
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.2)
            assert sent < size
            await asyncio.wait_for(wire.reader.readexactly(size), 10)
            written = 0
            with suppress(TimeoutError):
                while written < size:
                    wire.writer.write(bytes(100_000))
                    written += 100_000
                    await asyncio.wait_for(wire.writer.drain(), 0.5)
            assert written < size
            go.set()
            await wire.send(bytes(size - written))
            assert await asyncio.wait_for(wire.reader.readexactly(3), 10) == b"all"


async def test_a_stop_ends_tunnels(start: Start, service: Service) -> None:
    async with upstream(answering(SWITCH)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(HANDSHAKE)
            await wire.head()
            live.gateway.proxy.end_streams()
            assert await wire.rest() == b""
            await up.until(lambda: up.gone == 1)


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1008, 1011, 1012, 3000, 3999, 4000, 4999])
async def test_close_codes_and_reasons_pass_both_ways(start: Start, service: Service, code: int) -> None:
    reason = "cañón " + "x" * 100

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH)
        writer.write(await reader.read(1000))  # the same frame back
        await writer.drain()

    payload = code.to_bytes(2, "big") + reason.encode()
    frame = bytes([0x88, 0x80 | len(payload), 0, 0, 0, 0]) + payload
    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(HANDSHAKE)
            await wire.head()
            await wire.send(frame)
            assert await wire.rest() == frame


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_broken_tunnel_ends_without_a_close_frame(start: Start, service: Service, end: str) -> None:
    """1005, 1006 and 1015 are for what happened to the connection itself: no frame is made up for it."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH + b"\x81\x02hi")
        await reader.readexactly(1)
        if end == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(HANDSHAKE)
            await wire.head()
            assert await wire.reader.readexactly(4) == b"\x81\x02hi"
            await wire.send(b"x")
            with pytest.raises(ConnectionResetError) if end == "reset" else nullcontext():
                assert await wire.reader.read(-1) == b""


OWN_SOCKET = (
    b"GET /ws HTTP/1.%d\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGVudGFjdWxvIGxpbmshIQ==\r\n%b\r\n"
)


async def test_the_gateways_own_socket_takes_masked_frames_only(start: Start) -> None:
    """RFC 6455 section 5.1: a server closes upon a frame that is not masked."""
    live = await start({})
    async with dial(live.port) as wire:
        await wire.send(OWN_SOCKET % (1, live.auth))
        assert (await wire.head()).status == 101
        assert b"connected" in await wire.reader.readuntil(b"}")
        await wire.send(b"\x81\x82\0\0\0\0{}" + b"\x81\x02{}")
        assert await wire.reader.readexactly(4) == b"\x81\x02{}"
        closing = await wire.reader.readexactly(4)
        assert (closing[0], closing[2:]) == (0x88, struct.pack(">H", 1002))
        assert await wire.rest() == b""


async def test_the_gateways_own_socket_is_not_for_1_0(start: Start) -> None:
    live = await start({})
    async with dial(live.port) as wire:
        await wire.send(OWN_SOCKET % (0, live.auth))
        response = await wire.response()
        assert (response.status, response.get("upgrade")) == (426, "websocket")


async def test_a_half_open_tunnel_is_found_out_by_the_kernel(start: Start, service: Service) -> None:
    """Both of the gateway's sockets ask their peer whether it still is, within two minutes of silence."""
    async with upstream(answering(SWITCH)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(HANDSHAKE)
            await wire.head()
            client = wire.writer.get_extra_info("sockname")[1]
            found = {}
            for sock in own_sockets():
                with sock:
                    peer = sock.getpeername()[1]
                    found[peer] = [sock.getsockopt(level, option) for level, option in KEEP_ALIVE]
    for peer in (client, up.port):
        enabled, silence, between, asks = found[peer]
        assert enabled
        assert silence + between * asks <= 120


KEEP_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
]


def own_sockets() -> Iterator[socket.socket]:
    """A copy of each connected TCP socket of this process, the test's own ends among them; the caller closes it."""
    for name in os.listdir("/proc/self/fd"):
        if os.path.exists(f"/proc/self/fd/{name}") and os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
            sock = socket.socket(fileno=os.dup(int(name)))
            try:
                sock.getpeername()
            except OSError:
                sock.close()
                continue
            if sock.family == socket.AF_INET:
                yield sock
            else:
                sock.close()
