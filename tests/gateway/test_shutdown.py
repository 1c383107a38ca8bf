"""What a stop waits for: requests that have begun to arrive, and the gateway's own that are being served."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tentaculo.tasks import TaskGroup
from tests.conftest import Live, living
from tests.support.waits import eventually
from tests.support.wire import WEBSOCKET, Wire, answering, dial, ok, upstream

pytestmark = pytest.mark.usefixtures("both_ways")
BODY = b'{"source": "a", "type": "b", "payload": {}}'
INGEST = b"POST /events/ingest HTTP/1.1\r\nHost: h\r\n%bContent-Type: application/json\r\n%b\r\n"
Stopping = Callable[[], Awaitable[None]]


@asynccontextmanager
async def stopping(folder: Path, services: dict[str, Any], **server: Any) -> AsyncIterator[tuple[Live, Stopping]]:
    """A gateway, and a function that has it stop and returns when idle connections would have been closed."""
    tasks, stopped = TaskGroup("test"), list[asyncio.Task[None]]()
    async with AsyncExitStack() as stack:
        sections: dict[str, Any] = {"server": {"port": 0, "grace": 20, **server}, "events": {"wait": 0.1}}
        live = await stack.enter_async_context(living(folder, services, **sections))

        async def stop() -> None:
            stopped.append(tasks.start(stack.aclose(), "leave"))
            await eventually(lambda: "draining" in repr(live.gateway))
            await asyncio.sleep(0.3)  # longer than the quiet time after which a stop closes idle connections

        try:
            yield live, stop
        finally:
            for task in stopped:
                await task


async def all_is_read(port: int) -> None:
    """Return once the gateway has read what was sent to it before: it has responded on another connection."""
    async with dial(port) as other:
        await other.send(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await other.response()).status == 200


@pytest.mark.thorough
@pytest.mark.parametrize("before", [b"", b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n"], ids=["first", "second"])
@pytest.mark.parametrize("path", [b"/s/", b"/livez"])
@pytest.mark.parametrize("cut", [2, 16, -2])
async def test_a_request_whose_head_has_begun_to_arrive(tmp_path: Path, path: bytes, before: bytes, cut: int) -> None:
    head = b"GET %b HTTP/1.1\r\nHost: h\r\nX-Long: value\r\n\r\n" % path
    async with upstream(answering(ok(b"fine"))) as up:
        routes = [{"prefix": "/s", "auth": "none"}]
        services = {"s": {"url": f"http://127.0.0.1:{up.port}", "routes": routes}}
        async with stopping(tmp_path, services) as (live, stop), dial(live.port) as wire:
            if before:
                await wire.send(before)
                assert (await wire.response()).status == 200
            await wire.send(head[:cut])
            await all_is_read(live.port)
            await stop()
            await wire.send(head[cut:])
            response = await wire.response()
            assert (response.status, response.get("connection")) == (200, "close"), (response.body, live.records)
            assert await wire.rest() == b""


async def test_a_request_is_noticed_in_every_turn_until_it_is_in_flight(tmp_path: Path) -> None:
    """aiohttp takes it from its queue one turn before it serves it. A stop that looked then closed the connection."""
    loop = asyncio.get_running_loop()
    async with upstream(answering(ok(b"fine"))) as up:
        services = {"s": {"url": f"http://127.0.0.1:{up.port}", "routes": [{"prefix": "/s", "auth": "none"}]}}
        async with living(tmp_path, services) as live, dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\n")
            await eventually(live.gateway._shutdown._has_unfinished)
            found = list[bool]()

            def look() -> None:
                if not live.gateway.proxy.traffic.in_flight:
                    found.append(live.gateway._shutdown._has_unfinished())
                    loop.call_soon(look)

            look()
            await wire.send(b"Host: h\r\n\r\n")
            assert (await wire.response()).status == 200
    assert found
    assert all(found)


async def chunked(wire: Wire, data: bytes) -> None:
    await wire.send(b"%x\r\n%b\r\n" % (len(data), data))


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_request_of_the_gateway_itself_whose_body_arrives(tmp_path: Path, is_chunked: bool) -> None:
    line = b"Transfer-Encoding: chunked\r\n" if is_chunked else b"Content-Length: %d\r\n" % len(BODY)
    async with stopping(tmp_path, {}) as (live, stop), dial(live.port) as wire:
        send = chunked if is_chunked else Wire.send
        await wire.send(INGEST % (live.auth, line))
        await send(wire, BODY[:5])
        await all_is_read(live.port)
        await stop()
        await send(wire, BODY[5:])
        if is_chunked:
            await wire.send(b"0\r\n\r\n")
        response = await wire.response()
        assert b"store_unavailable" in response.body  # the database of these tests does not exist
        assert response.get("connection") == "close"


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        (b"/ws", b"".join(b"%b\r\n" % line for line in WEBSOCKET)),
        (b"/events/stream", b""),
        (b"/status", b"Accept: text/event-stream\r\n"),
    ],
)
async def test_what_would_not_end_by_itself_is_refused_in_a_stop_as_such(
    tmp_path: Path, path: bytes, lines: bytes
) -> None:
    """Not as `overloaded`: a client may know that another gateway takes over."""
    async with stopping(tmp_path, {}) as (live, stop), dial(live.port) as wire:
        await wire.send(b"GET %b HTTP/1.1\r\nHost: h\r\n" % path)
        await all_is_read(live.port)
        await stop()
        await wire.send(lines + live.auth + b"\r\n")
        response = await wire.response()
        assert (response.status, json.loads(response.body)["error"]) == (503, "stopping")
        assert (response.get("retry-after"), response.get("connection")) == ("5", "close")
        assert (response.get("proxy-status") or "").endswith("; error=connection_terminated")
        record = live.records[-1]
        assert (record.status, record.error, record.request_id) == (503, "stopping", response.get("x-request-id"))


async def test_a_head_that_never_ends_is_waited_for_no_longer_than_the_grace(tmp_path: Path) -> None:
    async with stopping(tmp_path, {}, grace=0.2) as (live, stop), dial(live.port) as wire:
        await wire.send(b"GET / HT")
        await all_is_read(live.port)
        await stop()
        assert await wire.rest() == b""


async def test_a_client_that_is_refused_is_not_waited_for(tmp_path: Path) -> None:
    async with stopping(tmp_path, {}) as (live, stop), dial(live.port) as wire:
        await wire.send(b"nonsense\r\n\r\nGET / HT")
        assert (await wire.response()).status == 400
        await stop()
        async with asyncio.timeout(5):
            await wire.rest()
