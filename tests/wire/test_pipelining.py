"""Requests on one connection: in order, bounded, and no unread body taken for one."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import pytest

from tests.conftest import Start
from tests.support.waits import eventually
from tests.support.wire import Reader, Upstream, Writer, answering, dial, ok, read_request, upstream
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")


async def test_pipelined_requests_are_answered_in_order(start: Start, service: Service) -> None:
    async with upstream(answering(lambda request: ok(request.target.encode()))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"".join(b"GET /s/%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(20)))
            assert [(await wire.response()).body for _ in range(20)] == [b"/%d" % n for n in range(20)]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "TRACE"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_on_any_method_is_forwarded_and_no_second_request(
    start: Start, service: Service, method: str, framing: str
) -> None:
    inner = b"GET /s/smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    if framing == "length":
        rest = b"Content-Length: %d\r\n\r\n%b" % (len(inner), inner)
    else:
        rest = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)
    async with upstream(answering(lambda request: ok(b"" if request.method == "HEAD" else b"fine"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(f"{method} /s/ HTTP/1.1\r\nHost: h\r\n".encode() + rest)
            assert (await wire.response(method)).status == 200
            await wire.send(b"GET /s/next HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.response()).body == b"fine"
    assert [(request.target, request.body) for request in up.requests] == [("/", inner), ("/next", b"")]


async def test_the_unread_body_of_a_refused_request_is_no_request(start: Start, service: Service) -> None:
    inner = b"GET /s/smuggled HTTP/1.1\r\nHost: h\r\n\r\n" * 100
    async with upstream(answering(ok())) as up:
        services = service(up.port)
        services["s"]["routes"].append({"prefix": "/s/closed", "auth": "token"})
        live = await start(services)
        for target in ("/s/closed/x", "/nothing", "/s/%00"):
            async with dial(live.port) as wire:
                await wire.send(f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(inner)}\r\n\r\n".encode())
                assert (await wire.head()).status in (400, 401, 404)
                with suppress(ConnectionError):
                    await wire.send(inner)
                assert b"HTTP/1.1 200" not in await wire.rest()
    assert up.requests == []


async def test_a_refusal_among_pipelined_requests_keeps_its_place(start: Start, service: Service) -> None:
    async with upstream(answering(lambda request: ok(request.target.encode()))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(
                b"GET /s/1 HTTP/1.1\r\nHost: h\r\n\r\nGET /nothing HTTP/1.1\r\nHost: h\r\n\r\n"
                b"HEAD /s/2 HTTP/1.1\r\nHost: h\r\n\r\nGET /livez HTTP/1.1\r\nHost: h\r\n\r\n"
                b"POST /s/3 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
                b"GET /s/4 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /s/5 HTTP/1.1\r\nHost: h\r\n\r\n"
            )
            statuses = [(await wire.response(method)).status for method in ("GET", "GET", "HEAD", "GET", "POST")]
            last = await wire.response()
            assert (last.body, last.get("connection"), await wire.rest()) == (b"/4", "close", b"")
    assert statuses == [200, 404, 200, 200, 200]
    assert [request.target for request in up.requests] == ["/1", "/2", "/3", "/4"]


@pytest.mark.parametrize("count", [1, 31, 32, 33, 150])
async def test_a_malformed_request_takes_none_with_it_that_came_before(
    start: Start, service: Service, count: int
) -> None:
    one = (
        b"POST /s/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nT: v\r\n\r\n",
        b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi",
    )
    async with upstream(answering(lambda request: ok(request.body))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"".join(one[i % 3] for i in range(count)) + b"BAD\r\n\r\n")
            answers = [await wire.response() for _ in range(count)]
            assert [answer.body for answer in answers] == [(b"hi", b"", b"hi")[i % 3] for i in range(count)]
            assert (await wire.response()).status == 400
            assert await wire.rest() == b""
    assert len(up.requests) == count


async def test_pipelining_is_bounded(start: Start, service: Service) -> None:
    """While the first is under way, a client cannot queue more than a bounded number of bytes."""
    go = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        while True:
            state.requests.append(await read_request(reader))
            await state.note()
            await go.wait()
            writer.write(ok(b"x"))

    request = b"GET /s/ HTTP/1.1\r\nHost: h\r\nX-Fill: " + b"x" * 1000 + b"\r\n\r\n"
    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            sent = 0
            with suppress(TimeoutError):
                while sent < 50_000:
                    wire.writer.write(request * 100)
                    sent += 100
                    await asyncio.wait_for(wire.writer.drain(), 0.5)
            assert sent < 50_000
            assert len(up.requests) == 1
            go.set()
            for _ in range(50):
                assert (await wire.response()).body == b"x"


async def test_a_client_that_reads_nothing_is_served_no_further_request(
    start: Start, service: Service, small_send_buffers: list[asyncio.Transport]
) -> None:
    """Its responses would all wait in the gateway's memory. Once it reads, every request is served."""
    count = 500
    async with upstream(answering(ok(b"x" * 14_000))) as up:
        live = await start(service(up.port))
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", live.port))
            client.sendall(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n" * count)
            client.setblocking(False)
            await eventually(lambda: bool(small_send_buffers) and small_send_buffers[0].get_write_buffer_size() > 8192)
            async with dial(live.port) as other:
                for _ in range(50):
                    await other.send(b"GET /s/other HTTP/1.1\r\nHost: h\r\n\r\n")
                    assert (await other.response()).status == 200
            assert sum(request.target == "/" for request in up.requests) < 10
            assert small_send_buffers[0].get_write_buffer_size() < 64 * 1024
            line, found, rest = b"HTTP/1.1 200 OK", 0, b""
            while found < count:
                data = rest + await asyncio.get_running_loop().sock_recv(client, 1 << 20)
                found, rest = found + data.count(line), data[1 - len(line) :]
