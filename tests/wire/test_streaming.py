"""Streaming: both ways before the body is complete, with back-pressure, and memory that does not depend on its size."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from tests.conftest import Start
from tests.support.wire import Reader, Upstream, Writer, answering, dial, ok, read_request, upstream
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")


async def test_an_upload_reaches_the_upstream_before_it_is_complete(start: Start, service: Service) -> None:
    arrived = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(5) == b"first"
        arrived.set()
        assert await reader.readexactly(6) == b"second"
        writer.write(ok(b"both"))
        await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nfirst")
            await asyncio.wait_for(arrived.wait(), 5)
            await wire.send(b"second")
            assert (await wire.response()).body == b"both"


async def test_an_event_reaches_the_client_before_the_answer_is_complete(start: Start, service: Service) -> None:
    seen = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await asyncio.wait_for(seen.wait(), 5)
        writer.write(b"data: 2\n\n")
        await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port, timeout=0.2))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.head()).get("transfer-encoding") == "chunked"
            assert await wire.reader.readuntil(b"\n\n\r\n") == b"9\r\ndata: 1\n\n\r\n"
            # Longer than the route's silence limit, which does not hold for event streams.
            await asyncio.sleep(0.4)
            seen.set()
            assert await wire.reader.readuntil(b"\n\n\r\n") == b"9\r\ndata: 2\n\n\r\n"
            assert await wire.reader.readexactly(5) == b"0\r\n\r\n"


@pytest.mark.thorough
async def test_a_large_body_both_ways(start: Start, service: Service) -> None:
    data = bytes(range(256)) * 40_000  # 10 MB
    async with upstream(answering(lambda request: ok(request.body))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            head = b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(data)
            sending = asyncio.gather(wire.send(head + data), wire.response())
            _, response = await asyncio.wait_for(sending, 20)
    assert response.body == data


async def test_what_follows_a_large_body_on_a_connection_is_its_own_message(start: Start, service: Service) -> None:
    """Much of a large body is read at once, and none of what comes behind it."""
    data = random.Random(1).randbytes(6_000_000)
    async with upstream(answering(lambda request: ok(request.body or request.target.encode()))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            head = b"PUT /s/%d HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
            small = b"".join(b"GET /s/%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(20))
            sending = asyncio.gather(wire.send((head % (1, len(data)) + data + small) * 2))
            for _ in range(2):
                assert (await asyncio.wait_for(wire.response(), 20)).body == data
                assert [(await wire.response()).body for _ in range(20)] == [b"/%d" % number for number in range(20)]
            await sending
    assert up.connections <= 2, "they are used again"


async def test_one_slow_client_costs_bounded_memory(start: Start, service: Service) -> None:
    """100 MB that nobody reads: the upstream is held back, and nothing piles up in the gateway."""
    written = 0

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
        for _ in range(1600):
            writer.write(bytes(65536))
            await writer.drain()
            written += 65536

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            await wire.head()
            before = -1
            while written != before:
                before = written
                await asyncio.sleep(0.3)
            # The kernel's buffers of both connections grow to 76 MB where net.ipv4.tcp_rmem allows 32 MB.
            assert written < 90_000_000
            wire.abort()
            await up.until(lambda: up.gone == 1)


async def test_a_stop_ends_event_streams_and_closes_behind_other_answers(start: Start, service: Service) -> None:
    go = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        request = await read_request(reader)
        state.requests.append(request)
        await state.note()
        if request.target == "/events":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
            await reader.read(1)
        await go.wait()
        writer.write(ok(b"late"))
        await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as listener, dial(live.port) as caller:
            await listener.send(b"GET /s/events HTTP/1.1\r\nHost: h\r\n\r\n")
            await listener.reader.readuntil(b"data: 1\n\n")
            await caller.send(b"GET /s/slow HTTP/1.1\r\nHost: h\r\n\r\n")
            await up.until(lambda: len(up.requests) == 2)
            live.gateway.proxy.stop_accepting()
            live.gateway.proxy.end_streams()
            assert not (await listener.rest()).endswith(b"0\r\n\r\n")
            go.set()
            response = await caller.response()
    assert (response.body, response.get("connection")) == (b"late", "close")


async def test_each_piece_passes_at_once_both_ways(start: Start, service: Service) -> None:
    """A conversation over one chunked request and its answer: neither waits for more than the other has sent."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while (size := int(await reader.readline(), 16)) > 0:
            piece = await reader.readexactly(size + 2)
            writer.write(b"%x\r\n%b" % (size, piece.upper()))
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
            assert (await wire.head()).status == 200
            slowest = 0.0
            for number in range(20):
                sent = asyncio.get_running_loop().time()
                await wire.send(b"2\r\na%c\r\n" % (97 + number))
                async with asyncio.timeout(5):
                    assert await wire.reader.readexactly(7) == b"2\r\nA%c\r\n" % (65 + number)
                slowest = max(slowest, asyncio.get_running_loop().time() - sent)
            assert slowest < 1
            await wire.send(b"0\r\n\r\n")
            assert await wire.rest() == b"0\r\n\r\n"


async def test_a_trickling_answer_is_relayed_byte_by_byte(start: Start, service: Service) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        for byte in b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nX: y\r\n\r\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.002)

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.response()).body == b"abc"


async def test_a_client_that_reads_nothing_holds_the_upload_back_too(start: Start, service: Service) -> None:
    """An upstream that does not read: the client's upload stops, and nothing piles up in the gateway."""
    go = asyncio.Event()
    size = 60_000_000

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await go.wait()
        left = size
        while left:
            left -= len(await reader.read(1_000_000))
        writer.write(ok(b"all"))
        await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
            sent = 0
            with suppress(TimeoutError):
                while sent < size:
                    wire.writer.write(bytes(100_000))
                    sent += 100_000
                    await asyncio.wait_for(wire.writer.drain(), 0.5)
            assert sent < 40_000_000
            go.set()
            await wire.send(bytes(size - sent))
            assert (await wire.response()).body == b"all"
