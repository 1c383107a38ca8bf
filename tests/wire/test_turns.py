"""Peers that send without a pause: what one turn of the event loop does for them is bounded, and others have their own."""

from __future__ import annotations

import asyncio
import select
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from types import FrameType

import pytest

from tentaculo.net.turns import MOST
from tentaculo.tasks import TaskGroup
from tentaculo.upstream.response_reader import MAX_INTERIM
from tests.conftest import TOKEN, Start
from tests.support.wire import TIMEOUT, Reader, Upstream, Writer, dial, ok, upstream
from tests.wire.asking import ask
from tests.wire.conftest import Service

CLIENTS = 5 * MOST


@pytest.mark.usefixtures("both_ways")
@pytest.mark.usefixtures("notices_soon")
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


# -- floods ----------------------------------------------------------------------------------------------------------

ATTACKERS = 4
HEAD = b" HTTP/1.1\r\nHost: h\r\nX-VX11-Token: " + TOKEN.encode() + b"\r\n"
CHUNKED = b"POST /s/" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
KEY = b"dGVudGFjdWxvIGxpbmshIQ=="
EVENTS = b"GET /ws" + HEAD + UPGRADE % KEY
TUNNEL = b"GET /s/tunnel" + HEAD + UPGRADE % KEY


def frame(opcode: int, payload: bytes, *, is_last: bool = True) -> bytes:
    return bytes((is_last << 7 | opcode, 0x80 | len(payload))) + bytes(4) + payload


# From a name to what a client sends first, and then without an end.
OF_CLIENTS: dict[str, tuple[bytes, bytes]] = {
    "empty lines": (b"", b"\r\n" * 30_000),
    "empty lines between requests": (b"", b"\r\n" * 1000 + b"GET /livez" + HEAD + b"\r\n"),
    "one-byte chunks": (CHUNKED, b"1\r\nx\r\n" * 10_000),
    "chunk extensions": (CHUNKED, b"1;a\r\nx\r\n" * 10_000),
    "chunks of 16 bytes": (CHUNKED, b"10\r\n0123456789abcdef\r\n" * 3_000),
    "heads in a row": (b"", (b"GET /livez" + HEAD + b"\r\n") * 500),
    "short header lines": (b"", b"GET /livez HTTP/1.1\r\nHost: h\r\n" + b"a:\r\n" * 5_000),
    "lists in heads": (b"", b"GET /s/" + HEAD + b"Connection: " + b"a," * 13_000 + b"b\r\n\r\n"),
    "escapes in paths": (b"", b"GET /s/" + b"%25" * 9_000 + HEAD + b"\r\n"),
    "segments of paths": (b"", b"GET /s" + b"/a" * 13_000 + HEAD + b"\r\n"),
    "cookies behind that of a sign-in": (
        b"",
        b"GET /s/" + HEAD + b"Cookie: tentaculo_session=x" + b";" * 13_000 + b"\r\n\r\n",
    ),
    "cookies of a sign-in": (b"", b"GET /s/" + HEAD + b"Cookie: " + b"tentaculo_session;" * 800 + b"\r\n\r\n"),
    "parameters behind a ticket": (b"", b"GET /s/?ticket=x" + b"&a" * 8_000 + HEAD + b"\r\n"),
    "parameters of an own page": (b"", b"GET /status?" + b"&a" * 8_000 + HEAD + b"\r\n"),
    "refused paths": (b"", (b"GET /nowhere" + HEAD + b"\r\n") * 500),
    "messages that are no JSON": (EVENTS, frame(1, b"{") * 8_000),
    "messages that are echoed": (EVENTS, frame(1, b"{}") * 8_000),
    "pings": (EVENTS, frame(9, b"") * 8_000),
    "empty fragments": (EVENTS + frame(1, b"", is_last=False), frame(0, b"", is_last=False) * 8_000),
    "frames in a tunnel": (TUNNEL, frame(1, b"x") * 8_000),
}
OF_SERVICES: dict[str, tuple[bytes, bytes]] = {
    "one-byte chunks": (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000),
    "chunk extensions": (b"Transfer-Encoding: chunked\r\n\r\n", b"1;a\r\nx\r\n" * 10_000),
    "short header lines": (b"", b"a:\r\n" * 20_000),
    "events of one byte": (
        b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"8\r\ndata:x\n\n\r\n" * 5_000,
    ),
}
MOST_CALLS_OF_A_TURN = 30_000  # 500 to 4,000; 20,000 for chunk extensions
MOST_TURNS_OF_A_REQUEST = 25  # 8 to 17


@contextmanager
def threads(work: Callable[[threading.Event], None], count: int) -> Iterator[None]:
    """`work` in threads, so that what it does is no part of the event loop's turns."""
    stop = threading.Event()
    running = [threading.Thread(target=work, args=(stop,), daemon=True) for _ in range(count)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in running:
            thread.join(TIMEOUT)


def sending(port: int, first: bytes, block: bytes, sent: list[int]) -> Callable[[threading.Event], None]:
    """A client that sends `first`, and then `block` after `block`; it reads what it is sent."""

    def work(stop: threading.Event) -> None:
        while not stop.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2) as client:
                client.sendall(first)
                client.setblocking(False)
                left = memoryview(block)
                while not stop.is_set():
                    readable, writable, _ = select.select([client], [client], [], 0.01)
                    if readable and not client.recv(1 << 20):
                        break
                    if writable:
                        count = client.send(left)
                        sent.append(count)
                        left = left[count:] or memoryview(block)

    return work


def reading(port: int, got: list[int]) -> Callable[[threading.Event], None]:
    """A client that reads what the service at `/s/flood` sends."""

    def work(stop: threading.Event) -> None:
        while not stop.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2) as client:
                client.sendall(b"GET /s/flood" + HEAD + b"\r\n")
                while not stop.is_set() and (data := client.recv(1 << 20)):
                    got.append(len(data))

    return work


class Loop:
    """Counts the turns of the event loop, and the calls in each."""

    def __init__(self) -> None:
        self.turns = 0
        self.calls = 0
        self.most = 0
        self._loop = asyncio.get_running_loop()

    def _count(self, frame: FrameType, event: str, _argument: object) -> None:
        if event in ("call", "c_call"):
            self.calls += 1

    def _turn(self) -> None:
        self.turns += 1
        self.most = max(self.most, self.calls)
        self.calls = 0
        self._handle = self._loop.call_soon(self._turn)

    def __enter__(self) -> Loop:
        self._handle = self._loop.call_soon(self._turn)
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        self._handle.cancel()


@asynccontextmanager
async def flooding_service(head: bytes, block: bytes) -> AsyncIterator[Upstream]:
    """Answers at once, but for `/flood`, where it sends without an end; and it takes every tunnel."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        while True:
            first = await reader.readuntil(b"\r\n\r\n")
            if first.startswith(b"POST"):
                while await reader.read(1 << 20):
                    pass
                return
            if b"GET /flood" in first:
                writer.write(b"HTTP/1.1 200 OK\r\n" + head)
                sock = writer.get_extra_info("socket").dup()
                sock.setblocking(True)
                with threads(partial(_pour, sock, block), 1):
                    await reader.read(-1)
                return
            if b"/tunnel" in first:
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
                while await reader.read(1 << 20):
                    pass
                return
            writer.write(ok(b"good"))

    async with upstream(script) as up:
        yield up


def _pour(sock: socket.socket, block: bytes, stop: threading.Event) -> None:
    with suppress(OSError), sock:
        sock.settimeout(0.2)
        while not stop.is_set():
            with suppress(TimeoutError):
                sock.send(block)


async def good_requests(port: int, loop: Loop, count: int = 20) -> list[int]:
    """Turns of the loop that each of some requests took, one after the other."""
    found = []
    async with dial(port) as wire:
        for _ in range(count):
            before = loop.turns
            assert (await ask(wire, "/s/")).body == b"good"
            found.append(loop.turns - before)
    return found


async def test_interim_heads_without_a_pause_delay_no_other(start: Start, service: Service) -> None:
    """Of 16 bytes each, half as many as a service may send for one request."""
    hints = b"HTTP/1.1 103\r\n\r\n" * (MAX_INTERIM // 32)

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        while True:
            first = await reader.readuntil(b"\r\n\r\n")
            writer.write(hints + ok(b"", b"Connection: close") if b"/flood" in first else ok(b"good"))

    async def flooded(port: int) -> bytes:
        async with dial(port) as wire:
            await wire.send(b"GET /s/flood HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            return await wire.rest()

    tasks = TaskGroup("test")
    async with upstream(script) as up:
        live = await start(service(up.port))
        with Loop() as loop:
            floods = [tasks.start(flooded(live.port), "flood") for _ in range(ATTACKERS)]
            turns = await good_requests(live.port, loop)
            assert all([(await flood).count(b"HTTP/1.1 103") == MAX_INTERIM // 32 for flood in floods])
    assert loop.most <= 1.5 * MOST_CALLS_OF_A_TURN  # 34,000: those of two reads
    assert max(turns) <= MOST_TURNS_OF_A_REQUEST


@pytest.mark.parametrize("kind", OF_CLIENTS)
async def test_a_client_that_sends_without_a_pause_delays_no_other(start: Start, service: Service, kind: str) -> None:
    first, block = OF_CLIENTS[kind]
    sent: list[int] = []
    async with flooding_service(b"", b"") as up:
        live = await start(service(up.port, upgrades=["websocket"]))
        with threads(sending(live.port, first, block, sent), ATTACKERS), Loop() as loop:
            async with asyncio.timeout(TIMEOUT):
                while sum(sent) < 300_000:
                    await asyncio.sleep(0)
            turns = await good_requests(live.port, loop)
    assert loop.most <= MOST_CALLS_OF_A_TURN
    assert max(turns) <= MOST_TURNS_OF_A_REQUEST


@pytest.mark.parametrize("kind", OF_SERVICES)
async def test_a_service_that_sends_without_a_pause_delays_no_other(start: Start, service: Service, kind: str) -> None:
    got: list[int] = []
    async with flooding_service(*OF_SERVICES[kind]) as up:
        live = await start(service(up.port))
        with threads(reading(live.port, got), ATTACKERS), Loop() as loop:
            turns = await good_requests(live.port, loop)
    assert loop.most <= MOST_CALLS_OF_A_TURN
    assert max(turns) <= MOST_TURNS_OF_A_REQUEST
