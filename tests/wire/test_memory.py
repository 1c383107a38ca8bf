"""Memory for transfers that stand still: little for each, counted for all, and beyond the budget new work is refused."""

from __future__ import annotations

import asyncio
import gc
import re
import resource
import select
import socket
import ssl
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tentaculo.server.fast_path import MAX_LATER, MOST_COUNTED
from tests.conftest import Live, Start, is_fast_path
from tests.support.gateway_process import running_gateway
from tests.support.needs import need
from tests.support.waits import eventually
from tests.support.wire import (
    TIMEOUT,
    Reader,
    Upstream,
    Writer,
    answering,
    dial,
    ok,
    read_request,
    until_it_leaves,
    upstream,
)
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


async def fill(sockets: list[socket.socket], block: bytes = BLOCK) -> None:
    """Send `block` after `block` until no kernel on the way takes any more."""
    quiet = 0
    while quiet < 10:
        sent = 0
        for sock in sockets:
            try:
                sent += sock.send(block)
            except BlockingIOError:
                pass
        await asyncio.sleep(0.02)
        quiet = 0 if sent else quiet + 1


async def test_what_is_kept_of_an_upload_to_send_it_again_is_counted(start: Start, service: Service) -> None:
    """The connection that it is sent on had been idle, and may be stale."""
    size = 60_000
    async with upstream(answering(ok(b"taken", b"Keep-Alive: timeout=60"))) as up:
        live = await start(service(up.port))
        memory = live.gateway.memory
        async with dial(live.port) as wire:
            assert (await ask(wire, "/s/")).body == b"taken"
            await wire.send(b"PUT /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size + bytes(size - 1))
            await eventually(lambda: memory.held >= size - 1)
            await wire.send(b"x")
            assert (await wire.response()).body == b"taken"
            assert len(up.requests[1].body) == size
            await eventually(lambda: memory.held == 0)
        assert up.connections == 1


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_transfer_that_stands_still_takes_little_memory(start: Start, service: Service, way: str) -> None:
    head = b"Host: h\r\nContent-Length: %d\r\n\r\n" % LARGE if way == "up" else b"Host: h\r\n\r\n"
    with raw_service(answers=way == "down") as (listener, taken), ExitStack() as stack:
        live = await start(service(listener.getsockname()[1]), limits={"in_flight": 1000})
        tracemalloc.start()
        try:
            clients, taking = list[socket.socket](), list[int]()
            # The first ones also take what a process needs once.
            for number in (5, TRANSFERS):
                for _ in range(number):
                    client = stack.enter_context(socket.create_connection(("127.0.0.1", live.port)))
                    client.setblocking(False)
                    client.send((b"PUT" if way == "up" else b"GET") + b" /s/ HTTP/1.1\r\n" + head)
                    clients.append(client)
                await eventually(lambda: len(taken) == len(clients))
                await fill(clients if way == "up" else taken)
                gc.collect()
                taking.append(tracemalloc.get_traced_memory()[0])
            each = (taking[-1] - taking[-2]) / TRANSFERS
        finally:
            tracemalloc.stop()
        assert 0 < live.gateway.memory.held <= len(clients) * MOST_OF_A_TRANSFER
        assert each <= MOST_OF_A_TRANSFER
        for sock in (*clients, *taken):
            sock.close()
        await eventually(lambda: live.gateway.memory.held == 0)


HEAD = b"GET /s/ HTTP/1.1\r\nHost: h\r\n"
UPLOAD = b"POST /s/ HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
EVENTS = (
    b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-VX11-Token: test-token\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGVudGFjdWxvIGxpbmshIQ==\r\n\r\n"
)
PART = b"\x01\xfe\x01\x00" + bytes(260)
MORE = b"\x00\xfe\x01\x00" + bytes(260)
TEXT = b"\x81\x82" + bytes(4) + b"{}"
PING = b"\x89\x80" + bytes(4)
# What a client sends first, what it sends then without reading, and the bytes that this may take.
WAITING: dict[str, tuple[bytes, bytes, int]] = {
    "an incomplete head": (b"", HEAD + b"X: " + b"x" * 30_000, 64 * 1024),
    "an incomplete head of many fields": (b"", HEAD + b"X: %b\r\n" % (b"x" * 245) * 120, 128 * 1024),
    "pipelined heads of many fields": (HEAD + b"\r\n", (HEAD + b"a:\r\n" * 120 + b"\r\n") * 100, 192 * 1024),
    "large heads behind an upload": (UPLOAD + b"x", (HEAD + b"X: %b\r\n\r\n" % (b"x" * 30_000)) * 30, 192 * 1024),
    "an incomplete message of an event client": (EVENTS, PART + MORE * 100, 64 * 1024),
    "an incomplete frame of an event client": (EVENTS, b"\x81\xfe\x80\x00" + bytes(30_000), 64 * 1024),
    "messages of an event client": (EVENTS, TEXT * 8_000, 64 * 1024),
    "pings of an event client": (EVENTS, PING * 8_000, 64 * 1024),
}


@pytest.mark.parametrize("name", WAITING)
async def test_what_a_client_sends_ahead_takes_little_memory_and_is_counted(
    start: Start, service: Service, name: str
) -> None:
    first, then, most = WAITING[name]

    async def hang(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.read()

    async with upstream(hang) as up:
        live = await start(service(up.port), limits={"in_flight": 1000})
        with ExitStack() as stack:
            gc.collect()
            tracemalloc.start()
            stack.callback(tracemalloc.stop)
            before = tracemalloc.get_traced_memory()[0]
            clients = [
                stack.enter_context(socket.create_connection(("127.0.0.1", live.port))) for _ in range(TRANSFERS)
            ]
            for client in clients:
                client.setblocking(False)
                client.send(first)
            await asyncio.sleep(0.2)
            if "incomplete" in name:
                for client in clients:
                    client.send(then)
                await eventually(lambda: live.gateway.memory.held >= TRANSFERS * len(then))
            else:
                await fill(clients, then)
            gc.collect()
            each = (tracemalloc.get_traced_memory()[0] - before) / TRANSFERS
            assert each <= most
            assert each / 8 <= live.gateway.memory.held / TRANSFERS <= 4 * each
        # A client that leaves while it is not read is noticed once it is written to; these are in nobody's way.
        if "incomplete" in name or first is EVENTS:
            await eventually(lambda: live.gateway.memory.held == 0)


def holds(live: Live, size: int) -> bool:
    return live.gateway.memory.held >= size


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("first", [HEAD + b"\r\n", UPLOAD + b"x"], ids=["a request", "an upload"])
@pytest.mark.parametrize("piece", [b"X: %b\r\n" % (b"x" * 400), b"a:\r\n"], ids=["large fields", "small fields"])
async def test_a_head_that_arrives_in_small_pieces_behind_a_request_is_counted(
    start: Start, service: Service, first: bytes, piece: bytes
) -> None:
    async def hang(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await state.note()
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.read()

    # Behind a request that is served without a task, a client is read no further.
    most = MAX_LATER if is_fast_path() else MOST_COUNTED
    async with upstream(hang) as up:
        live = await start(service(up.port))
        with ExitStack() as stack, socket.create_connection(("127.0.0.1", live.port)) as client:
            tracemalloc.start()
            stack.callback(tracemalloc.stop)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.sendall(first)
            await up.until(lambda: up.connections == 1)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            client.sendall(HEAD)
            for number in range(1, 71):
                client.sendall(piece)
                await eventually(partial(holds, live, min(number * len(piece), most)))
            gc.collect()
            taken = tracemalloc.get_traced_memory()[0] - before
            assert taken <= 2 * live.gateway.memory.held + 32 * 1024
        # One that leaves while it is not read is noticed once it is written to.
        if number * len(piece) < most:
            await eventually(lambda: live.gateway.memory.held == 0)


async def test_an_incomplete_head_is_refused_beyond_the_budget(start: Start, service: Service) -> None:
    live = await start(service(1), limits={"memory": 100_000})
    with ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", live.port), TIMEOUT))
            client.sendall(HEAD + b"X: " + b"x" * 20_000)
        await eventually(lambda: live.gateway.memory.is_exhausted)
        async with dial(live.port) as wire:
            await wire.send(HEAD + b"X: " + b"x" * 10_000)
            refused = await wire.response()
            assert (refused.status, problem(refused)["error"], refused.get("retry-after")) == (503, "overloaded", "1")
        async with dial(live.port) as wire:
            await wire.send(b"GET /livez HTTP/1.1\r\n")
            await asyncio.sleep(0.05)
            await wire.send(b"Host: h\r\n\r\n")
            assert (await wire.response()).status == 200
    await eventually(lambda: live.gateway.memory.held == 0)


async def test_bodies_of_native_requests_are_counted_while_they_arrive(start: Start, service: Service) -> None:
    live = await start(service(1), limits={"memory": 1_500_000})
    memory = live.gateway.memory
    head = b"POST /events/ingest HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n" + live.auth
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(dial(live.port)) for _ in range(2)]
        begins, follows = wires
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        await begins.send(head + b"Content-Length: 1000000\r\n\r\n[" + b" " * 700_000)
        await eventually(lambda: memory.held >= 700_000)
        await follows.send(head + b"Content-Length: 1000000\r\n\r\n[" + b" " * 900_000)
        refused = await follows.response()
        assert (refused.status, problem(refused)["error"], refused.get("retry-after")) == (503, "overloaded", "1")
        await eventually(lambda: memory.held < 800_000)
        assert tracemalloc.get_traced_memory()[0] < 1_300_000, "a refusal keeps nothing of its body"
        await begins.send(b" " * 299_998 + b"]")
        assert (await begins.response()).status == 200
    await eventually(lambda: memory.held == 0)


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


@pytest.mark.usefixtures("small_send_buffers")
async def test_readers_of_the_page_that_never_read_share_it(start: Start) -> None:
    services = {f"service-{number}": {"url": "http://127.0.0.1:1"} for number in range(1000)}
    live = await start(services)
    async with dial(live.port) as wire:
        await wire.send(b"GET /status HTTP/1.1\r\nHost: h\r\n" + live.auth + b"\r\n")
        size = len((await wire.response()).body)
    assert size > 150_000
    gc.collect()
    with ExitStack() as stack:
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        before = tracemalloc.get_traced_memory()[0]
        readers = [stack.enter_context(socket.socket()) for _ in range(TRANSFERS)]
        for reader in readers:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", live.port))
            reader.sendall(b"GET /status HTTP/1.1\r\nHost: h\r\n" + live.auth + b"\r\n")
        await eventually(lambda: sum(map(has_bytes, readers)) == TRANSFERS)
        await eventually(lambda: live.gateway.memory.held >= size)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
        assert held <= 3 * size + TRANSFERS * MOST_OF_A_TRANSFER
        assert size <= live.gateway.memory.held <= 3 * size + TRANSFERS * MOST_OF_A_TRANSFER
        # It comes whole for one that reads.
        readers[0].settimeout(TIMEOUT)
        received = b""
        while b"</html>" not in received:
            received += await asyncio.to_thread(readers[0].recv, 1 << 20)
        assert len(received) > size
    await eventually(lambda: live.gateway.memory.held == 0)


def has_bytes(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


READERS = 1000


def resident_megabytes(pid: int) -> float:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.parametrize("path", ["/status", "/metrics", "/vx11/overview"])
async def test_a_thousand_clients_that_never_read_a_large_page_share_it(path: str) -> None:
    """Of 1,000 services, up to 1.4 MB for each client."""
    need(sys.platform == "linux", "/proc, which says how much memory is resident")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need(hard >= 2 * READERS + 500, "2,500 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * READERS + 500), hard))
    quiet = {"url": "http://127.0.0.1:1", "probe": {"kind": "none"}}
    limits = {"connections": 2 * READERS, "connections_per_address": 2 * READERS}
    services = {f"s{number}": quiet for number in range(1000)}
    async with running_gateway({"services": services, "limits": limits}) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        request = f"GET {path} HTTP/1.1\r\nHost: h\r\nX-VX11-Token: {gateway.token}\r\n\r\n".encode()
        pid = gateway.process.pid

        def connect() -> socket.socket:
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(TIMEOUT)
            client.connect(("127.0.0.1", port))
            client.sendall(request)
            return client

        with ExitStack() as stack:
            first = await asyncio.to_thread(connect)
            assert (await asyncio.to_thread(first.recv, 12)).endswith(b"200")
            before = resident_megabytes(pid)
            for _ in range(READERS):
                client = await asyncio.to_thread(connect)
                assert await asyncio.to_thread(client.recv, 12, socket.MSG_PEEK)
            assert resident_megabytes(pid) - before < 64
        await eventually(lambda: resident_megabytes(pid) - before < 20)


async def test_a_download_over_tls_that_stands_still_takes_little_resident_memory(tls: ssl.SSLContext) -> None:
    """Most of it would be in OpenSSL's buffers, which tracemalloc does not see. 640 KB each with the loop's own TLS."""
    need(sys.platform == "linux", "/proc, which says how much memory is resident")
    transfers = 60

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
        while True:
            writer.write(BLOCK)
            await writer.drain()

    async with upstream(script, tls=tls) as up, AsyncExitStack() as stack:
        route = {"prefix": "/s", "strip": True, "auth": "none"}
        service = {"url": f"https://127.0.0.1:{up.port}", "probe": {"kind": "none"}, "routes": [route]}
        gateway = await stack.enter_async_context(running_gateway({"services": {"s": service}}))
        found = list[float]()
        for count in (10, transfers):
            for _ in range(count):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), TIMEOUT))
                client.sendall(HEAD + b"\r\n")
                assert (await asyncio.to_thread(client.recv, 12)).endswith(b"200")
            await asyncio.sleep(1)
            found.append(resident_megabytes(gateway.process.pid))
        assert (found[1] - found[0]) * 1024 / transfers < 128


async def test_the_end_of_an_upload_that_waits_is_counted(start: Start, service: Service) -> None:
    """Its service has room for one request. What the body still holds does not end with the reading of the client."""
    head = b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 16000\r\n\r\n"
    async with upstream(until_it_leaves(b"\r\n\r\n")) as up:
        live = await start(service(up.port), limits={"in_flight": 1})
        memory = live.gateway.memory
        async with dial(live.port) as first, dial(live.port) as second:
            await first.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            await up.until(lambda: len(up.requests) == 1)
            await second.send(head + bytes(4_000))
            await eventually(lambda: memory.held > 0)
            await second.send(bytes(12_000))
            await eventually(lambda: memory.held >= 16_000)
        await eventually(lambda: memory.held == 0)
