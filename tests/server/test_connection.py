"""The server's side of a connection: what a client hears whose request is no HTTP, and that no body leaves a reader waiting."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from structlog.testing import capture_logs

from tentaculo.config.limits import LimitSettings
from tentaculo.config.schema import CorsSettings
from tentaculo.net.response_bytes import SENT_STAYS
from tentaculo.net.tcp import PAUSE
from tentaculo.net.turns import TurnScheduler
from tentaculo.security.cors import CorsPolicy
from tentaculo.server.aiohttp_handler import MAX_FIELDS
from tentaculo.server.connection import ClientConnection, ClientSocket
from tentaculo.server.gateway_responses import GatewayResponses
from tentaculo.server.listeners import ConnectionLimits
from tentaculo.server.request_receiver import MAX_EMPTY
from tentaculo.tasks import TaskGroup
from tentaculo.telemetry.request_log import RequestLog
from tests.support.server import GET, MAX_HEAD, fine, serving
from tests.support.waits import eventually
from tests.support.wire import TIMEOUT, Response, Wire, dial


async def refused(wire: Wire) -> Response:
    """The answer to a request that is none, whole, and the end of the connection behind it."""
    response = await wire.response()
    assert await wire.rest() == b""
    assert response.version == "HTTP/1.1"
    assert response.get("content-type") == "application/problem+json"
    assert response.get("connection") == "close"
    assert response.get("content-length") == str(len(response.body))
    members = json.loads(response.body)
    assert members["status"] == members["status_code"] == response.status
    assert (response.get("proxy-status") or "").startswith("front; error=")
    assert members["request_id"] == response.get("x-request-id")
    return response


def said(response: Response) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(response.body)
    return members


# -- requests that are none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1 more\r\nHost: h\r\n\r\n",
        b"GET / HTTP/11.1\r\nHost: h\r\n\r\n",
        b"GET / FTP/1.1\r\nHost: h\r\n\r\n",
        b"G<T / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n",
        GET + b"no colon\r\n\r\n",
        GET + b"Space : before\r\n\r\n",
        GET + b"X: a\r\n folded\r\n\r\n",
        GET + b"X: a\x00b\r\n\r\n",
        GET + b"X: a\rb\r\n\r\n",
        GET + b"X: a\x01b\r\n\r\n",
        GET + b": nameless\r\n\r\n",
        GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
        GET + b"Content-Length: +1\r\n\r\nx",
        GET + b"Content-Length: -1\r\n\r\n",
        GET + b"Content-Length: 0x1\r\n\r\nx",
        GET + b"Content-Length: 99999999999999999999999\r\n\r\n",
        GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        GET + b"Transfer-Encoding: chunked, identity\r\n\r\n",
        b"GET / HTTP/1.1\nHost: h\n\n",
    ],
)
async def test_a_malformed_request_is_answered_400(data: bytes) -> None:
    called: list[web.BaseRequest] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        called.append(request)
        return await fine(request)

    async with serving(handler) as served, dial(served.port) as wire:
        await wire.send(data)
        response = await refused(wire)
    assert (response.status, response.reason) == (400, "Bad Request")
    assert said(response)["error"] == "bad_request"
    assert called == []


LONG = b"x" * (MAX_HEAD + 2)


@pytest.mark.parametrize(
    ("data", "status", "error"),
    [
        (b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % LONG, 414, "target_too_long"),
        (b"GET /%b" % LONG, 414, "target_too_long"),
        (GET + b"X: %b\r\n\r\n" % LONG, 431, "headers_too_large"),
        (GET + b"%b: x\r\n\r\n" % LONG, 431, "headers_too_large"),
        (GET + b"X: %b" % LONG, 431, "headers_too_large"),
        (GET + b"X: y\r\n" * MAX_FIELDS + b"\r\n", 431, "headers_too_large"),
    ],
)
async def test_too_much_is_told_from_malformed(data: bytes, status: int, error: str) -> None:
    async with serving(fine) as served, dial(served.port) as wire:
        await wire.send(data)
        response = await refused(wire)
    assert (response.status, said(response)["error"]) == (status, error)
    number = MAX_FIELDS if data.count(b"X: y") else MAX_HEAD
    assert str(number) in said(response)["detail"]


@pytest.mark.parametrize(
    "data",
    [
        b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % (b"x" * (MAX_HEAD - 1)),
        GET + b"X: %b\r\n\r\n" % (b"x" * (MAX_HEAD - 1)),
        GET + b"X: y\r\n" * (MAX_FIELDS - 1) + b"\r\n",
    ],
)
async def test_as_much_as_is_allowed_passes(data: bytes) -> None:
    async with serving(fine) as served, dial(served.port) as wire:
        await wire.send(data)
        assert (await wire.response()).body == b"fine"


@pytest.mark.parametrize("start", [b"GET /", b"\x16\x03\x01", GET + b"X: "])
async def test_a_client_that_goes_on_sending_still_hears_the_answer(start: bytes) -> None:
    # What is unread when a socket closes makes the kernel reset it, and the answer is lost on its way.
    async with serving(fine) as served, dial(served.port) as wire:
        await wire.send(start + b"x" * 20_000_000)
        response = await refused(wire)
    assert response.status in (400, 414, 431)


async def test_a_refused_client_that_never_leaves_is_parted_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tentaculo.server.connection.LINGER", 0.05)
    async with serving(fine) as served, dial(served.port) as wire:
        await wire.send(b"GARBAGE\r\n\r\n")
        assert (await wire.response()).status == 400
        async with asyncio.timeout(TIMEOUT):
            while served.connections[0].connected:
                await asyncio.sleep(0.01)


async def test_a_good_request_before_a_bad_one_is_answered_first() -> None:
    async with serving(fine) as served, dial(served.port) as wire:
        await wire.send(GET + b"\r\n")
        assert (await wire.response()).body == b"fine"
        await wire.send(b"GARBAGE\r\n\r\n")
        assert (await refused(wire)).status == 400


async def test_what_was_malformed_is_no_error_of_ours_in_the_log() -> None:
    with capture_logs() as logged:
        async with serving(fine) as served, dial(served.port) as wire:
            await wire.send(b"GARBAGE\x1b[31m\r\n\r\n")
            await refused(wire)
    assert [(line["event"], line["log_level"]) for line in logged] == [("malformed request", "debug")]
    assert "31m" not in str(logged)


async def test_empty_lines_before_a_request_are_skipped_up_to_a_limit() -> None:
    async with serving(fine) as served:
        async with dial(served.port) as wire:
            for count in (1, MAX_EMPTY // 2, MAX_EMPTY // 2):
                await wire.send(b"\r\n" * count + GET + b"\r\n")
                assert (await wire.response()).status == 200
        async with dial(served.port) as wire:
            await wire.send(b"\r\n" * (MAX_EMPTY // 2 + 1))
            assert (await refused(wire)).status == 400


# -- bodies whose framing breaks -------------------------------------------------------------------------------------

CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("broken", [b"zz\r\n", b"-1\r\n", b"5\r\nhelloXX", b"5;\x00\r\n", b"0\r\nbad trailer\r\n\r\n"])
async def test_a_reader_of_a_broken_body_hears_of_it(broken: bytes) -> None:
    reached: list[object] = []
    begun = asyncio.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        reached.append(await request.content.readexactly(5))
        begun.set()
        try:
            reached.append(await request.content.read())
        except web.RequestPayloadError as error:
            reached.append(error)
            return web.Response(status=400, text="broken")
        return web.Response(text="whole")

    async with serving(handler) as served, dial(served.port) as wire:
        await wire.send(CHUNKED + b"5\r\nfirst\r\n")
        await begun.wait()
        await wire.send(broken)
        response = await wire.response()
        assert response.status == 400
        assert b"HTTP/1.1 200" not in await wire.rest()
    assert reached[0] == b"first"
    assert isinstance(reached[1], web.RequestPayloadError)


async def test_a_reader_that_comes_late_hears_of_it_too() -> None:
    arrived, read_now = asyncio.Event(), asyncio.Event()
    heard: list[type[BaseException]] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        arrived.set()
        await read_now.wait()
        try:
            await request.content.read()
        except web.RequestPayloadError as error:
            heard.append(type(error))
        return web.Response(status=400)

    async with serving(handler) as served, dial(served.port) as wire:
        await wire.send(CHUNKED)
        await arrived.wait()
        await wire.send(b"zz\r\n")
        async with dial(served.port) as other:  # by the time this is answered, the bytes above have been read
            read_now.set()
            await other.send(GET + b"\r\n")
            await other.response()
        assert (await wire.response()).status == 400
    assert heard == [web.RequestPayloadError]


async def test_a_broken_body_that_nobody_reads_ends_the_connection_quietly() -> None:
    arrived, answer = asyncio.Event(), asyncio.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        arrived.set()
        await answer.wait()
        return web.Response(text="fine")

    with capture_logs() as logged:
        async with serving(handler) as served, dial(served.port) as wire:
            await wire.send(CHUNKED)
            await arrived.wait()
            await wire.send(b"zz\r\n")
            answer.set()
            assert (await wire.response()).body == b"fine"
            assert b"200" not in await wire.rest()
    assert [line for line in logged if line["log_level"] != "debug"] == []


async def test_bodies_one_after_the_other_do_not_touch_each_other() -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=await request.content.read())

    async with serving(handler) as served, dial(served.port) as wire:
        await wire.send(b"".join(CHUNKED + b"1\r\n%d\r\n0\r\n\r\n" % number for number in range(5)))
        assert [(await wire.response()).body for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
        await wire.send(CHUNKED)
        await wire.send(b"3\r\none\r\n")
        await wire.send(b"0\r\n\r\n" + GET + b"\r\n")
        assert [(await wire.response()).body for _ in range(2)] == [b"one", b""]


# -- handlers that fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_handler_that_fails_is_answered_500_without_details(method: str) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        raise RuntimeError("the secret is xyzzy")

    with capture_logs() as logged:
        async with serving(handler) as served, dial(served.port) as wire:
            await wire.send(f"{method} / HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            response = await wire.response(method)
            assert await wire.rest() == b""
    assert (response.status, response.version) == (500, "HTTP/1.1")
    assert b"xyzzy" not in response.raw_head + response.body
    if method == "GET":
        assert said(response)["error"] == "internal_error"
    errors = [line for line in logged if line["log_level"] == "error"]
    assert [str(line["exc_info"]) for line in errors] == ["the secret is xyzzy"]


@pytest.mark.parametrize("written", [b"", b"half of "])
async def test_a_handler_that_fails_in_the_middle_never_makes_a_second_answer(written: bytes) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        if written:
            await response.write(written)
        raise RuntimeError("odd")

    async with serving(handler) as served, dial(served.port) as wire:
        await wire.send(GET + b"\r\n")
        data = await wire.rest()
    assert data.count(b"HTTP/1.1 ") == (1 if data else 0)
    if written and data:
        # Cut off: a client must not take it for whole.
        assert data.startswith(b"HTTP/1.1 200")
        assert not data.endswith(b"0\r\n\r\n")


async def test_a_client_that_leaves_is_no_error_in_the_log() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        begun.set()
        transport = request.transport
        assert transport is not None
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
            raise ConnectionResetError("the client has gone") from None
        return await fine(request)

    with capture_logs() as logged:
        async with serving(handler) as served:
            async with dial(served.port) as wire:
                await wire.send(GET + b"\r\n")
                await begun.wait()
                wire.reset()
            async with asyncio.timeout(TIMEOUT):
                await ended.wait()
    assert [line for line in logged if line["log_level"] != "debug"] == []


async def test_a_connection_error_while_the_client_is_there_is_an_error() -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        raise ConnectionRefusedError("some database")

    with capture_logs() as logged:
        async with serving(handler) as served, dial(served.port) as wire:
            await wire.send(GET + b"\r\n")
            assert (await wire.response()).status == 500
    assert [line["event"] for line in logged] == ["request failed"]


# -- writing ---------------------------------------------------------------------------------------------------------


async def test_draining_waits_until_the_client_takes_what_it_was_sent() -> None:
    paused: list[bool] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, ClientConnection)
        assert connection.transport is not None
        connection.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n" + bytes(20_000_000))
        paused.append(connection.writing_paused)
        await connection.wait_writable()
        paused.append(connection.writing_paused)
        return SENT_STAYS

    async with serving(handler) as served, dial(served.port) as wire:
        await wire.send(GET + b"\r\n")
        response = await wire.response()
    assert len(response.body) == 20_000_000
    assert paused == [True, False]


async def test_an_idle_connection_is_closed_when_its_time_is_up() -> None:
    async with serving(fine, keepalive=0.1) as served, dial(served.port) as wire:
        await wire.send(GET + b"\r\n")
        assert (await wire.response()).body == b"fine"
        assert await wire.rest() == b""


async def test_nothing_is_left_when_clients_have_gone() -> None:
    before = asyncio.all_tasks()
    async with serving(fine) as served:
        for data in (GET + b"\r\n", b"GARBAGE\r\n\r\n", GET, CHUNKED + b"zz\r\n"):
            async with dial(served.port) as wire:
                await wire.send(data)
                if data.endswith(b"\r\n\r\n"):
                    await wire.response()
        tasks = TaskGroup("test")
        await tasks.close()
        async with asyncio.timeout(TIMEOUT):
            while asyncio.all_tasks() - before or any(connection.connected for connection in served.connections):
                await asyncio.sleep(0.01)


# -- what this rests on in aiohttp -----------------------------------------------------------------------------------


async def test_the_private_names_of_aiohttp_are_as_we_know_them() -> None:
    server = web.Server(fine)
    stock = web.RequestHandler(server, loop=asyncio.get_running_loop(), access_log=None, max_headers=2)  # type: ignore[arg-type]
    assert len(stock._messages) == 0, "Connection.data_received reads RequestHandler._messages: aiohttp changed it"
    before = stock._request_count
    stock.data_received(CHUNKED)
    assert stock._request_count == before + 1, (
        "Connection tells by RequestHandler._request_count whether one is under way"
    )
    (pair,) = stock._messages
    head, body = pair
    assert getattr(head, "path", None) == "/"
    assert not body.is_eof(), "a message is (head, body), and the body is what a handler reads"
    stock.data_received(b"zz\r\n")
    assert len(stock._messages) == 2, "a framing error is one more message behind the one whose body it broke"
    assert body.exception() is None, "aiohttp tells the reader itself now: Connection.data_received can go"


async def test_the_error_of_too_long_a_line_says_its_limit_where_we_look() -> None:
    assert LineTooLong(b"line", 7).args[1] == 7
    caught = await error_of(GET + b"X: %b\r\n\r\n" % LONG)
    assert isinstance(caught, LineTooLong)
    assert caught.args[1] == MAX_HEAD + 1


async def test_the_error_of_too_many_fields_says_so_in_the_words_we_look_for() -> None:
    assert "Too many headers" in str(await error_of(GET + b"X: y\r\n" * MAX_FIELDS + b"\r\n"))


async def error_of(data: bytes) -> BaseException:
    """What aiohttp's parser makes of `data`, as `handle_error` gets it."""
    caught: list[BaseException] = []

    class Watched(ClientConnection):
        def handle_error(
            self,
            request: web.BaseRequest,
            status: int = 500,
            exc: BaseException | None = None,
            message: str | None = None,
        ) -> web.StreamResponse:
            assert exc is not None
            caught.append(exc)
            return super().handle_error(request, status, exc, message)

    loop = asyncio.get_running_loop()
    server = web.Server(fine, handler_cancellation=True)
    limits, admission, turns = LimitSettings(headers=MAX_HEAD), ConnectionLimits(0, 0), TurnScheduler()

    def connect() -> ClientSocket:
        connection = Watched(
            server,
            loop=loop,
            limits=limits,
            keepalive=75,
            responses=GatewayResponses("front", CorsPolicy(CorsSettings())),
            requests=RequestLog(None),
            admission=admission,
        )
        return ClientSocket(turns, connection)

    listener = await loop.create_server(connect, "127.0.0.1", 0)
    try:
        async with dial(listener.sockets[0].getsockname()[1]) as wire:
            await wire.send(data)
            await wire.response()
    finally:
        listener.close()
        await server.shutdown(1)
    return caught[0]


async def test_a_head_that_does_not_arrive_is_a_408() -> None:
    async with serving(fine, head_time=0.2) as served:
        async with dial(served.port) as wire:
            await wire.send(b"GET / HTTP/1.1\r\nHost: h\r\nX: ")
            assert (await refused(wire)).status == 408
        async with dial(served.port) as wire:
            # One byte now and then does not help.
            with suppress(ConnectionError):
                for byte in b"GET / HTTP/1.1\r\n":
                    await wire.send(bytes([byte]))
                    await asyncio.sleep(0.03)
            assert (await refused(wire)).status == 408
    async with serving(fine, head_time=0.3) as served, dial(served.port) as wire:
        # Nor does a first request that came in time.
        await wire.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await wire.response()).status == 200
        await wire.send(b"GET / HTTP/1.1\r\n")
        assert (await refused(wire)).status == 408


async def test_a_head_that_began_behind_a_request_has_its_time_from_the_answer() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        asked.set()
        await go.wait()
        return web.Response(text="slow")

    for beginning in (b"GET", b"GET / HTTP/1.1\r\nHost: h\r\n"):
        asked.clear()
        go.clear()
        async with serving(slow, head_time=0.3) as served, dial(served.port) as wire, dial(served.port) as other:
            await wire.send(GET + b"\r\n")
            await asyncio.wait_for(asked.wait(), TIMEOUT)
            await wire.send(beginning)
            await refused(other)  # by now those bytes have long been read
            go.set()
            assert (await wire.response()).body == b"slow"
            assert (await refused(wire)).status == 408


async def test_the_time_for_a_head_is_not_the_handlers_nor_the_bodys_nor_keep_alives() -> None:
    """The clock of a head runs while one is waited for or has begun, and never else."""
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        asked.set()
        body = await request.read()
        await go.wait()
        return web.Response(body=body)

    async with serving(slow) as served, dial(served.port) as wire:
        async with asyncio.timeout(TIMEOUT):
            while not served.connections:
                await asyncio.sleep(0.01)
        connection = served.connections[0]
        async with asyncio.timeout(TIMEOUT):
            while connection._head_timer is None:
                await asyncio.sleep(0.01)
        for _ in range(2):
            await wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n")
            await asyncio.wait_for(asked.wait(), TIMEOUT)
            assert connection._head_timer is None
            for byte in b"abc":
                await wire.send(bytes([byte]))
                await asyncio.sleep(0)
                assert connection._head_timer is None
            go.set()
            assert (await wire.response()).body == b"abc"
            assert connection._head_timer is None
            asked.clear()
            go.clear()
        await wire.send(b"POST")
        async with asyncio.timeout(TIMEOUT):
            while connection._head_timer is None:
                await asyncio.sleep(0.01)


async def test_a_head_that_arrived_in_a_pause_of_the_process_is_not_late() -> None:
    """After a pause the loop's timers may run before its sockets are read."""

    async def respond(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="here")

    async with serving(respond) as served, dial(served.port) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nHos")
        async with asyncio.timeout(TIMEOUT):
            while not served.connections or not served.connections[0].has_begun:
                await asyncio.sleep(0.01)
        (connection,) = served.connections
        connection._stop_head_timer()
        now = asyncio.get_running_loop().time()
        connection._head_is_late(now - PAUSE)
        assert connection._head_timer is not None
        assert now + PAUSE <= connection._head_timer.when() < now + 2 * PAUSE
        await wire.send(b"t: h\r\n\r\n")
        assert (await wire.response()).body == b"here"


async def test_the_end_of_a_refused_connection_is_noticed_although_its_queue_was_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def read(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=await request.read())

    monkeypatch.setattr("tentaculo.server.connection.LINGER", 60)
    async with serving(read) as served, dial(served.port) as wire:
        one = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
        await wire.send(one * 40 + b"BAD\r\n\r\n")
        assert [(await wire.response()).status for _ in range(41)] == [200] * 40 + [400]
        wire.abort()
        await eventually(lambda: not served.admission.open, "the end of the connection")


async def test_connections_over_the_limit_are_told_so() -> None:
    for connections, per_address in ((2, 0), (0, 2)):
        async with serving(fine, connections=connections, per_address=per_address) as served:
            async with dial(served.port) as one, dial(served.port) as two:
                for wire in (one, two):
                    await wire.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                    assert (await wire.response()).status == 200
                async with dial(served.port) as three:
                    response = await refused(three)
                assert (response.status, response.get("retry-after")) == (503, "1")
            async with asyncio.timeout(TIMEOUT):
                while served.admission.open:
                    await asyncio.sleep(0.01)
            async with dial(served.port) as again:
                await again.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                assert (await again.response()).status == 200


async def test_a_refused_client_that_has_sent_its_request_hears_the_refusal() -> None:
    # What is unread when a socket closes makes the kernel reset it, and the answer is lost on its way.
    body = bytes(4_000_000)
    async with serving(fine, connections=1) as served:
        async with dial(served.port) as one:
            await one.send(GET + b"\r\n")
            assert (await one.response()).status == 200
            for _ in range(20):
                async with dial(served.port) as other:
                    await other.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                    assert (await refused(other)).status == 503
        await eventually(lambda: served.admission.lingering == 0)


async def test_few_refused_clients_are_waited_for_and_none_sends_without_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tentaculo.server.listeners.MOST_LINGERING", 3)
    monkeypatch.setattr("tentaculo.server.connection.LINGER", 60.0)
    monkeypatch.setattr("tentaculo.server.connection.MOST_DROPPED", 1_000_000)
    async with serving(fine, connections=1) as served, dial(served.port) as one, AsyncExitStack() as stack:
        await one.send(GET + b"\r\n")
        assert (await one.response()).status == 200
        others = [await stack.enter_async_context(dial(served.port)) for _ in range(5)]
        for other in others:
            assert (await refused(other)).status == 503
        connected = [connection for connection in served.connections[1:] if connection.connected]
        assert (len(connected), served.admission.lingering) == (3, 3)
        with suppress(ConnectionError):
            while True:
                await others[0].send(bytes(100_000))
        await eventually(lambda: served.admission.lingering == 2)


async def test_what_the_intake_rests_on_is_as_we_know_it() -> None:
    server = web.Server(fine)
    stock = web.RequestHandler(server, loop=asyncio.get_running_loop(), access_log=None)  # type: ignore[arg-type]
    assert (stock._upgraded, stock._reading_paused, stock._buffer_paused) == (False, False, False)
    assert stock._payload_parser is None
    stock.data_received(b"FOO / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert not isinstance(stock._messages.pop()[0], RawRequestMessage), "any method is taken: RequestLine can go"
    stock = web.RequestHandler(server, loop=asyncio.get_running_loop(), access_log=None)  # type: ignore[arg-type]
    stock.data_received("GET /é HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert not isinstance(stock._messages.pop()[0], RawRequestMessage), "UTF-8 is taken: RequestLine can go"


async def test_an_upgrade_to_something_else_still_loses_what_follows() -> None:
    stock = web.RequestHandler(web.Server(fine), loop=asyncio.get_running_loop(), access_log=None)  # type: ignore[arg-type]
    stock.data_received(GET + b"Connection: upgrade\r\nUpgrade: other\r\n\r\n" + GET + b"\r\n")
    ((message, _),) = stock._messages
    assert isinstance(message, RawRequestMessage)
    changed = message._replace(method="FOO", path="/é", should_close=True)
    assert (changed.method, changed.path, changed.should_close, changed.upgrade) == ("FOO", "/é", True, True)
    assert (stock._upgraded, stock._message_tail) == (False, b""), "aiohttp keeps it: Intake need not"


async def test_a_message_that_cannot_be_parsed_still_takes_those_before_it_with_it() -> None:
    stock = web.RequestHandler(web.Server(fine), loop=asyncio.get_running_loop(), access_log=None)  # type: ignore[arg-type]
    stock.data_received(GET + b"\r\nGARBAGE\r\n\r\n")
    ((message, _),) = stock._messages
    assert not isinstance(message, RawRequestMessage), (
        "aiohttp keeps the good one: MessageBoundaries need not cut at each head"
    )


@pytest.mark.parametrize("late", [b"\r\n" * 10_000, b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
async def test_what_comes_behind_a_refusal_is_read_and_ignored(late: bytes) -> None:
    """It would be refused itself, were the connection not closing."""
    loop, caught = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: caught.append(context))
    async with serving(fine, head_time=0.1) as served, dial(served.port) as wire:
        assert (await wire.response()).status == 408
        await wire.send(late)
        wire.writer.write_eof()
        assert await wire.rest() == b""
    loop.set_exception_handler(None)
    assert caught == []
