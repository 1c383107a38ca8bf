"""Where the time of a request goes, as its record says: over real sockets, on both paths."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tentaculo.telemetry.request_log import RequestRecord
from tentaculo.telemetry.request_stats import phases_of
from tests.conftest import Live, Start
from tests.support.wire import Reader, Upstream, Writer, dial, ok, read_request, upstream
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")
GET = b"GET /s/work HTTP/1.1\r\nHost: h\r\n\r\n"
PAUSE = 0.05


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0)


async def recorded(live: Live, count: int) -> list[RequestRecord]:
    await until(lambda: len(live.records) >= count)
    return live.records


async def slow(reader: Reader, writer: Writer, state: Upstream) -> None:
    """A service that waits before the head, and before the second half of the body."""
    while True:
        await read_request(reader)
        await asyncio.sleep(PAUSE)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        await asyncio.sleep(2 * PAUSE)
        writer.write(b"lf")


async def test_the_first_byte_and_the_body_are_told_apart(start: Start, service: Service) -> None:
    async with upstream(slow) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for _ in range(2):
                await wire.send(GET)
                await wire.response()
        first, second = await recorded(live, 2)
    assert 0 < first.connect_seconds < PAUSE
    assert (second.queue_seconds, second.connect_seconds) == (0, 0), "it had a connection"
    for record in (first, second):
        found = phases_of(record)
        assert found.first_byte >= 0.9 * PAUSE
        assert found.body >= 1.8 * PAUSE
        assert sum(found) == pytest.approx(record.seconds)


async def test_a_request_that_waits_for_room_was_in_the_queue(start: Start, service: Service) -> None:
    released = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        while True:
            state.requests.append(await read_request(reader))
            await released.wait()
            writer.write(ok())

    async with upstream(script) as up:
        live = await start(service(up.port), limits={"in_flight": 1})
        async with dial(live.port) as one, dial(live.port) as two:
            await one.send(GET)
            await until(lambda: len(up.requests) == 1)
            await two.send(GET)
            balancer = live.gateway.proxy.routes[0].balancer
            assert balancer is not None
            await until(lambda: len(balancer.waiting) == 1)
            await asyncio.sleep(PAUSE)
            released.set()
            for wire in (one, two):
                await wire.response()
        ran, waited = sorted(await recorded(live, 2), key=lambda record: record.queue_seconds)
    assert ran.queue_seconds == 0
    assert waited.queue_seconds >= 0.9 * PAUSE
    assert phases_of(waited).first_byte < waited.queue_seconds


async def test_a_slow_upload_is_no_slow_service(start: Start, service: Service) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(ok())

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/work HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nha")
            await asyncio.sleep(2 * PAUSE)
            await wire.send(b"lf")
            await wire.response()
        (record,) = await recorded(live, 1)
    found = phases_of(record)
    assert found.body >= 1.8 * PAUSE
    assert found.first_byte < PAUSE
