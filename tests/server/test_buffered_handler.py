"""Native handlers that take a whole body: the same responses with and without a task, in order, and nothing left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

import pytest
from aiohttp import web

from tentaculo.config.schema import CorsSettings
from tentaculo.model import access
from tentaculo.model.failure import Failure, Problem
from tentaculo.server.buffered_handler import PIECE, BodyHandler, HeaderFields, NativeResponse, Respond
from tentaculo.server.connection import ClientConnection
from tentaculo.server.native_routes import NativeRoute, buffered
from tests.conftest import is_fast_path
from tests.support.server import NativeServer, serving_application
from tests.support.waits import eventually
from tests.support.wire import Response, Wire, dial

ORIGIN = "http://page.example"
CHANGING = {"date", "x-request-id", "x-correlation-id"}


class Echo:
    """Responds with the body: at once, or when it is told to. Some bodies it refuses, at some it fails."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.has_to_wait = False

    def body_handler(self, fields: HeaderFields) -> BodyHandler:
        if (b"X-Bad", b"yes") in fields:
            raise Problem(Failure.UNSUPPORTED_MEDIA_TYPE)
        return BodyHandler(100, 4 * PIECE, self._take)

    def _take(self, body: bytes, respond: Respond) -> None:
        if body == b"refuse":
            raise Problem(Failure.INVALID_EVENT, "No.")
        if body == b"fail":
            raise ValueError("a defect")
        response = NativeResponse(201, body * 8 if body.startswith(b"[") else body)
        if self.has_to_wait:
            failure = ValueError("a late defect") if body == b"fail later" else None
            self.waiting.append(partial(respond, failure or response))
        else:
            respond(response)


@asynccontextmanager
async def echoing(echo: Echo, *, fast_path: bool | None = None) -> AsyncIterator[NativeServer]:
    app = web.Application()
    app.add_routes([NativeRoute("POST", "/echo", buffered(echo), access.EVERY_TOKEN, None)])
    fast = is_fast_path() if fast_path is None else fast_path
    async with serving_application(app, cors=CorsSettings(origins=(ORIGIN,)), fast_path=fast) as served:
        yield served


def post(body: bytes, *lines: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    head = b"".join(line + b"\r\n" for line in (b"Host: h", b"Content-Length: %d" % len(body), *lines))
    return b"POST /echo " + version + b"\r\n" + head + b"\r\n" + body


def chunked(body: bytes, *lines: bytes) -> bytes:
    head = b"".join(line + b"\r\n" for line in (b"Host: h", b"Transfer-Encoding: chunked", *lines))
    return b"POST /echo HTTP/1.1\r\n" + head + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def shown(response: Response) -> tuple[int, str, dict[str, str], bytes]:
    """What must not depend on the way, without order and what differs from one response to the next."""
    fields = {name.lower(): value for name, value in response.headers}
    assert len(fields) == len(response.headers), f"a header is repeated: {response.headers}"
    assert fields.keys() >= CHANGING
    assert fields["x-request-id"] == fields["x-correlation-id"]
    body = response.body.replace(fields["x-request-id"].encode(), b"ID")
    fields.pop("proxy-status", None)
    kept = {name: value for name, value in fields.items() if name not in {*CHANGING, "content-length"}}
    return response.status, response.reason, kept, body


@pytest.mark.thorough
@pytest.mark.parametrize("lines", [(), (b"Origin: " + ORIGIN.encode(),), (b"Origin: http://other",), (b"X-Bad: yes",)])
@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("body", [b"hello", b"", b"refuse", b"fail", b"x" * 101])
async def test_the_response_does_not_depend_on_the_way(lines: tuple[bytes, ...], close: bool, body: bytes) -> None:
    found = []
    for fast_path in (True, False):
        async with echoing(Echo(), fast_path=fast_path) as served:
            for _ in range(2):  # the second one repeats the head of the first
                async with dial(served.port) as wire:
                    more = (*lines, b"Connection: close") if close else lines
                    for _ in range(1 if close else 2):
                        await wire.send(post(body, *more))
                        found.append(shown(await wire.response()))
                        if found[-1][2].get("connection") == "close":
                            assert await wire.rest() == b""
                            break
    assert all(one == found[0] for one in found), found


async def test_a_whole_request_takes_no_task_and_an_unusual_one_does() -> None:
    async with echoing(Echo(), fast_path=True) as served, dial(served.port) as wire:
        await wire.send(post(b"warm"))
        await wire.response()
        (connection,) = served.server.connections
        waiter = cast(ClientConnection, connection).request_waiter
        assert waiter is not None
        for body in (b"one", b"two", b"three"):
            await wire.send(post(body))
            assert (await wire.response()).body == body
        assert not waiter.done(), "aiohttp's task still waits for its first request"
        await wire.send(chunked(b"four"))
        assert (await wire.response()).body == b"four"
        assert waiter.done()


@pytest.mark.usefixtures("both_ways")
async def test_pipelined_requests_are_answered_in_order() -> None:
    echo = Echo()
    echo.has_to_wait = True
    async with echoing(echo) as served, dial(served.port) as wire:
        await wire.send(post(b"one") + post(b"two") + chunked(b"three") + post(b"four"))
        for body in (b"one", b"two", b"three", b"four"):
            await eventually(lambda: len(echo.waiting) == 1, "one request at a time")
            echo.waiting.pop()()
            assert (await wire.response()).body == body


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("half", [True, False])
async def test_a_client_that_ends_its_sending_half_gets_its_response(half: bool) -> None:
    echo = Echo()
    echo.has_to_wait = True
    async with echoing(echo) as served, dial(served.port) as wire:
        await wire.send(post(b"last"))
        if half:
            wire.writer.write_eof()
        await eventually(lambda: len(echo.waiting) == 1, "the request")
        await asyncio.sleep(0)
        echo.waiting.pop()()
        assert (await wire.response()).body == b"last"


@pytest.mark.usefixtures("both_ways")
async def test_a_client_that_leaves_is_recorded_and_a_late_response_goes_nowhere() -> None:
    echo = Echo()
    echo.has_to_wait = True
    async with echoing(echo) as served:
        async with dial(served.port) as wire:
            await wire.send(post(b"gone"))
            await eventually(lambda: len(echo.waiting) == 1, "the request")
            wire.reset()
        await eventually(lambda: not served.server.connections, "the end of the connection")
        echo.waiting.pop()()
        async with dial(served.port) as wire:
            echo.has_to_wait = False
            await wire.send(post(b"next"))
            assert (await wire.response()).body == b"next"


@pytest.mark.usefixtures("both_ways")
async def test_a_defect_that_shows_late_is_500_and_leaves_the_connection() -> None:
    echo = Echo()
    echo.has_to_wait = True
    async with echoing(echo) as served, dial(served.port) as wire:
        await wire.send(post(b"fail later"))
        await eventually(lambda: len(echo.waiting) == 1, "the request")
        echo.waiting.pop()()
        response = await wire.response()
        assert response.status == 500
        assert b"a late defect" not in response.body
        echo.has_to_wait = False
        await wire.send(post(b"next"))
        assert (await wire.response()).body == b"next"


@pytest.mark.usefixtures("both_ways")
async def test_a_large_response_comes_whole() -> None:
    body = b"[" + b"x" * (PIECE // 2)
    async with echoing(Echo()) as served, dial(served.port) as wire:
        for _ in range(3):
            await wire.send(post(body))
            assert (await wire.response()).body == body * 8


@pytest.mark.usefixtures("both_ways")
async def test_a_client_that_does_not_read_holds_little_and_delays_nobody() -> None:
    body = b"[" + b"x" * (PIECE // 2)
    async with echoing(Echo()) as served, dial(served.port) as stalled:
        cast(asyncio.Transport, stalled.writer.transport).pause_reading()
        connection = None
        for _ in range(200):
            stalled.writer.write(post(body))
            await asyncio.sleep(0)
            connection = cast("ClientConnection | None", next(iter(served.server.connections), None))
            if connection is not None and connection.is_writing_paused:
                break
        else:
            pytest.fail("the kernel took everything")
        async with dial(served.port) as wire:
            await wire.send(post(b"next"))
            assert (await wire.response()).body == b"next"
        assert connection.transport is not None
        size = connection.transport.get_write_buffer_size()
        assert size <= 3 * PIECE, "no more than a piece waits beside what the transport held"


@pytest.mark.parametrize(
    "request_bytes",
    [
        chunked(b"odd"),
        post(b"odd", b"Expect: 100-continue"),
        post(b"odd", b"Connection: keep-alive", version=b"HTTP/1.0"),
    ],
)
async def test_what_is_unusual_goes_the_ordinary_way(request_bytes: bytes) -> None:
    async with echoing(Echo(), fast_path=True) as served, dial(served.port) as wire:
        await wire.send(post(b"usual"))
        assert (await wire.response()).body == b"usual"
        await wire.send(request_bytes)
        assert (await wire.response()).body == b"odd"
        await wire.send(post(b"usual"))
        assert (await wire.response()).body == b"usual"


async def test_another_method_is_refused_as_before() -> None:
    async with echoing(Echo(), fast_path=True) as served, dial(served.port) as wire:
        await wire.send(b"PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
        response = await wire.response()
        assert (response.status, response.get("allow")) == (405, "POST")


async def send_in_parts(wire: Wire, data: bytes) -> None:
    for start in range(0, len(data), 7):
        await wire.send(data[start : start + 7])
        await asyncio.sleep(0)


@pytest.mark.usefixtures("both_ways")
async def test_segments_do_not_matter() -> None:
    async with echoing(Echo()) as served, dial(served.port) as wire:
        await send_in_parts(wire, post(b"one") * 2 + post(b"three"))
        assert [(await wire.response()).body for _ in range(3)] == [b"one", b"one", b"three"]
