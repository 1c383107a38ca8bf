"""Resources: each limit has a plain answer, and nothing slow or dead slows another."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack, suppress

import pytest

from tentaculo.tasks import TaskGroup
from tests.conftest import Start
from tests.support.waits import eventually
from tests.support.wire import (
    Reader,
    Request,
    Upstream,
    Writer,
    answering,
    dial,
    ok,
    read_request,
    upstream,
)
from tests.wire.asking import ask, problem
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")


async def test_body_limits(start: Start, service: Service) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.read(-1)

    async with upstream(script) as up:
        live = await start(service(up.port, max_body=10))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n")
            assert (await wire.response()).status == 413
        assert up.connections == 0
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n")
            await up.until(lambda: up.connections == 1)
            await wire.send(b"6\r\n123456\r\n")
            assert (await wire.response()).status == 413
            await up.until(lambda: up.gone == 1)


@pytest.mark.parametrize("limit", ["connections", "connections_per_address"])
async def test_a_body_must_keep_its_pace_while_many_connections_are_in_use(
    start: Start, service: Service, limit: str
) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.read(-1)

    async with upstream(script) as up:
        live = await start(service(up.port), limits={"body_rate": 1000, "body_grace": 0.3, limit: 1})
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n")
            with suppress(ConnectionError):
                for _ in range(10):
                    await wire.send(b"x")
                    await asyncio.sleep(0.05)
            response = await wire.response()
            await up.until(lambda: up.gone == 1)
    assert (response.status, json.loads(response.body)["error"]) == (408, "request_timeout")


async def test_an_upload_may_trickle_while_few_connections_are_in_use(start: Start, service: Service) -> None:
    async with upstream(answering(lambda request: ok(request.body))) as up:
        live = await start(service(up.port), limits={"body_rate": 10**6, "body_grace": 0.01, "connections": 2})
        async with dial(live.port) as wire:
            await wire.send(b"PUT /s/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(8):
                await wire.send(b"1\r\nx\r\n")
                await asyncio.sleep(0.05)
            await wire.send(b"0\r\n\r\n")
            assert (await wire.response()).body == b"x" * 8


async def test_an_upload_that_trickles_ends_when_it_becomes_crowded(start: Start, service: Service) -> None:
    async with upstream(answering(lambda request: ok(request.body))) as up:
        live = await start(service(up.port), limits={"body_rate": 10**6, "body_grace": 0.2, "connections": 3})
        async with dial(live.port) as wire:
            await wire.send(b"PUT /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nx")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.6):
                    await wire.reader.read(1)
            async with dial(live.port):
                response = await wire.response()
    assert (response.status, problem(response)["error"]) == (408, "request_timeout")


@pytest.mark.parametrize("limit", ["connections", "connections_per_address"])
async def test_no_more_slow_uploads_are_cut_than_make_room(start: Start, service: Service, limit: str) -> None:
    """They have all become slow at the same moment. Those that are being cut keep nobody out any more."""
    async with upstream(answering(lambda request: ok(request.body))) as up, AsyncExitStack() as stack:
        tasks = TaskGroup("clients")
        stack.push_async_callback(tasks.close)
        live = await start(service(up.port), limits={"body_rate": 10**6, "body_grace": 0.2, limit: 8})
        wires = [await stack.enter_async_context(dial(live.port)) for _ in range(8)]
        for wire in wires:
            await wire.send(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.response()).status == 200
        for wire in wires:
            await wire.send(b"PUT /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nx")
        statuses = [tasks.start(wire.response(), "response") for wire in wires]
        await eventually(lambda: sum(one.done() for one in statuses) >= 4)
        for wire, status in zip(wires, statuses, strict=True):
            if not status.done():
                await wire.send(bytes(9))
        found = sorted([(await status).status for status in statuses])
    assert found == [200] * 4 + [408] * 4


async def test_an_upload_that_falls_silent_is_a_408(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port), limits={"body_idle": 0.3})
        async with dial(live.port) as wire:
            await wire.send(b"PUT /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n")
            for _ in range(5):
                await wire.send(b"x")
                await asyncio.sleep(0.1)
            response = await wire.response()
    assert (response.status, problem(response)["error"]) == (408, "request_timeout")


async def test_an_upload_that_the_upstream_holds_back_is_not_slow(start: Start, service: Service) -> None:
    size = 20_000_000

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.6)
        await reader.readexactly(size)
        writer.write(ok(b"all"))
        await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port), limits={"body_rate": 10**7, "body_grace": 0.3, "connections": 1})
        async with dial(live.port) as wire:
            head = b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size
            _, response = await asyncio.gather(wire.send(head + bytes(size)), wire.response())
    assert response.body == b"all"


async def test_requests_over_the_limit_wait_and_then_are_refused(start: Start, service: Service) -> None:
    go = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        while True:
            state.requests.append(await read_request(reader))
            await state.note()
            await go.wait()
            writer.write(ok())
            await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port), limits={"in_flight": 2, "queue": 1, "connect": 5})
        async with AsyncExitStack() as stack:
            wires = [await stack.enter_async_context(dial(live.port)) for _ in range(4)]
            for wire in wires[:2]:
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            await up.until(lambda: len(up.requests) == 2)
            for wire in wires[2:]:
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            refused = await wires[3].response()
            assert (refused.status, refused.get("retry-after")) == (503, "1")
            found = json.loads(refused.body)
            assert (found["error"], found["title"]) == ("overloaded", "A limit of the gateway is reached")
            assert found["detail"] == "Too many requests wait for the service."
            go.set()
            assert [(await wire.response()).status for wire in wires[:3]] == [200, 200, 200]
    assert len(up.requests) == 3


async def test_requests_that_come_in_the_same_moment_keep_to_the_limit(start: Start, service: Service) -> None:
    """The first of them all find no connection to use, and are on their way to one when the next is let through."""
    now, most = 0, 0

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        nonlocal now, most
        while True:
            await read_request(reader)
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.02)
            now -= 1
            writer.write(ok())
            await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port), limits={"in_flight": 2, "queue": 20, "connect": 5})
        async with AsyncExitStack() as stack:
            wires = [await stack.enter_async_context(dial(live.port)) for _ in range(12)]
            for wire in wires:
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            assert [(await wire.response()).status for wire in wires] == [200] * 12
    assert most == 2


async def test_tunnels_are_not_in_flight(start: Start, service: Service) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    async with upstream(answering(lambda request: switch if request.get("upgrade") else ok())) as up:
        live = await start(service(up.port), limits={"in_flight": 1, "queue": 0})
        async with dial(live.port) as one, dial(live.port) as two, dial(live.port) as three:
            for wire in (one, two):
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
                assert (await wire.head()).status == 101
            await three.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await three.response()).status == 200


@pytest.mark.usefixtures("notices_soon")
async def test_a_hung_service_slows_no_other(start: Start) -> None:
    async def hang(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        state.requests.append(Request("", "", [], b"", b""))
        await state.note()
        await reader.read(1)

    async with upstream(hang) as bad, upstream(answering(ok(b"good"))) as good:
        live = await start(
            {
                name: {"url": f"http://127.0.0.1:{port}", "routes": [{"prefix": f"/{name}", "auth": "none"}]}
                for name, port in (("bad", bad.port), ("good", good.port))
            }
        )

        async def stick() -> None:
            async with dial(live.port) as wire:
                await wire.send(b"GET /bad HTTP/1.1\r\nHost: h\r\n\r\n")
                await wire.rest()

        stuck = TaskGroup("stuck")
        for _ in range(200):
            stuck.start(stick(), "client")
        await bad.until(lambda: len(bad.requests) == 200)
        async with dial(live.port) as wire:
            for _ in range(20):
                async with asyncio.timeout(1):
                    assert (await ask(wire, "/good")).body == b"good"
        await stuck.close()
        await bad.until(lambda: bad.gone == 200)


@pytest.mark.parametrize("limits", [{"connections": 2}, {"connections_per_address": 2}])
async def test_a_connection_over_the_limit_is_told_so(start: Start, service: Service, limits: dict[str, int]) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port), limits=limits)
        async with dial(live.port) as one, dial(live.port) as two:
            for wire in (one, two):
                assert (await ask(wire, "/s/")).status == 200
            async with dial(live.port) as three:
                response = await three.response()
                assert (response.status, response.get("retry-after"), response.get("connection")) == (503, "1", "close")
                assert await three.rest() == b""
            assert (await ask(one, "/s/")).status == 200
        for _ in range(500):
            async with dial(live.port) as again:
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    if (await ask(again, "/s/")).status == 200:
                        return
            await asyncio.sleep(0.01)
        raise AssertionError("the places were never given back")


async def test_a_head_that_trickles_is_a_408(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port), limits={"head_time": 0.3})
        async with dial(live.port) as wire:
            with suppress(ConnectionError):
                for byte in b"GET /s/ HTTP/1.1\r\nHost: h\r\n":
                    await wire.send(bytes([byte]))
                    await asyncio.sleep(0.02)
            response = await wire.response()
        assert (response.status, problem(response)["error"]) == (408, "request_timeout")
    assert up.connections == 0


async def test_an_idle_client_connection_closes(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port), server={"port": 0, "keepalive": 0.2})
        async with dial(live.port) as wire:
            assert (await ask(wire, "/s/")).status == 200
            assert await wire.rest() == b""


async def test_the_pace_counts_only_while_the_client_is_waited_for(start: Start, service: Service) -> None:
    """The rate is that of the whole wait, so a slow part is forgiven after a fast one; the grace is not per read."""
    async with upstream(answering(lambda request: ok(b"%d" % len(request.body)))) as up:
        live = await start(service(up.port), limits={"body_rate": 1000, "body_grace": 0.2, "connections": 3})
        async with dial(live.port), dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 2004\r\n\r\n" + bytes(2000))
            for _ in range(4):
                await asyncio.sleep(0.1)
                await wire.send(b"x")
            assert (await wire.response()).body == b"2004"
        async with dial(live.port), dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
            with suppress(ConnectionError):
                for _ in range(10):
                    await wire.send(b"1\r\nx\r\n")
                    await asyncio.sleep(0.05)
            assert (await wire.response()).status == 408


@pytest.mark.parametrize(
    "abuse",
    [
        b"GET /s/ HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 50_000,
        b"GET /" + b"a" * 50_000,
        b"\x00" * 1000,
        b"POST /s/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf",
        b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n" * 200,
        b"GET /s/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello",
        b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n" * 50,
    ],
)
async def test_after_every_abuse_a_good_request_works_and_nothing_is_left(
    start: Start, service: Service, abuse: bytes
) -> None:
    async with upstream(answering(ok(b"good"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            assert (await ask(wire, "/s/")).body == b"good"
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            async with dial(live.port) as wire:
                with suppress(ConnectionError):
                    await wire.send(abuse)
                await asyncio.sleep(0.01)
        async with dial(live.port) as wire:
            assert (await ask(wire, "/s/")).body == b"good"
        async with asyncio.timeout(10):
            # An idle connection to the upstream may have come or gone.
            while len(os.listdir("/proc/self/fd")) > before + 2 or live.gateway.proxy.traffic.in_flight:
                await asyncio.sleep(0.02)


async def test_the_rest_of_a_refused_body_has_no_time_limit_of_a_head(start: Start, service: Service) -> None:
    """The refusal closes the sending half: a 408 behind it could not be written."""
    loop, caught = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: caught.append(context))
    live = await start({}, limits={"head_time": 0.2})
    async with dial(live.port) as wire, dial(live.port) as other:
        await wire.send(b"POST /nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
        assert (await wire.response()).status == 404
        await wire.send(b"def")
        await other.send(b"GET /")
        assert (await other.response()).status == 408  # by now as much time has passed
        await wire.send(b"ghi")
        assert await wire.rest() == b""
    loop.set_exception_handler(None)
    assert caught == []
