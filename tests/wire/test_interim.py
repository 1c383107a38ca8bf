"""Interim answers and Expect: 1xx are relayed, and the upstream decides whether the body is sent (RFC 9110 sections 10.1.1 and 15.2)."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.waits import eventually
from tests.support.wire import (
    Reader,
    Request,
    Upstream,
    Wire,
    Writer,
    answering,
    dial,
    ok,
    read_request,
    upstream,
)
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")


async def test_expect_is_answered_by_the_upstream(start: Start, service: Service) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Expect: 100-continue\r\n" in head
        if b"/yes" in head:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert await reader.readexactly(5) == b"hello"
            writer.write(ok(b"taken", b"Connection: close"))
        else:
            writer.write(ok(b"no", status=b"417 Expectation Failed"))
        await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/yes HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            assert (await wire.head()).status == 100
            await wire.send(b"hello")
            assert (await wire.response()).body == b"taken"
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/no HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            response = await wire.head()
            assert (response.status, response.get("connection")) == (417, "close")


async def test_early_hints_are_relayed(start: Start, service: Service) -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\nX: 1\r\n\r\n" + ok(b"page")
    async with upstream(answering(answer)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            hints = await wire.head()
            assert (hints.status, hints.headers) == (103, [("Link", "</s/a.css>")])
            assert (await wire.response()).body == b"page"


async def test_a_100_that_nobody_asked_for_goes_no_further(start: Start, service: Service) -> None:
    async with upstream(answering(b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"x"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.head()).status == 200


async def test_an_early_answer_is_relayed_while_the_client_still_sends(start: Start, service: Service) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok(b"too much", status=b"413 Content Too Large"))
        await writer.drain()
        await reader.read(1000)

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nstart")
            response = await wire.response()
            assert (response.status, response.body, response.get("connection")) == (413, b"too much", "close")


async def test_an_early_answer_is_relayed_though_its_connection_was_reset(start: Start, service: Service) -> None:
    """The upstream closes with the rest unread, and the gateway meets the reset when it writes more of the body."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok(b"too much", status=b"413 Content Too Large"))
        await writer.drain()

    async def blast(wire: Wire) -> None:
        with suppress(ConnectionError):
            await wire.send(bytes(8_000_000))

    async with upstream(script) as up:
        live = await start(service(up.port))
        for _ in range(5):
            async with dial(live.port) as wire, asyncio.TaskGroup() as tasks:
                await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 80000000\r\n\r\n")
                upload = tasks.create_task(blast(wire))
                assert (await wire.response()).body == b"too much"
                upload.cancel()


async def test_after_an_early_answer_the_client_sees_the_end_at_once(start: Start, service: Service) -> None:
    """It may continue to send for a while, and then reads the response; one that waits for the end waits a short time only."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok(b"no", status=b"403 Forbidden"))
        await reader.read(-1)

    async with upstream(script) as up:
        live = await start({**service(up.port), **closed(up.port)})
        for target, status in (("/s/", 403), ("/closed", 401), ("/none", 404)):
            async with dial(live.port) as wire:
                await wire.send(f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nstart".encode())
                assert (await wire.response()).status == status
                async with asyncio.timeout(5):  # half of what the gateway reads on for
                    assert await wire.reader.read(-1) == b""
                await wire.send(b"more")


def closed(port: int) -> dict[str, dict[str, Any]]:
    """A service that asks for a token."""
    return {"closed": {"url": f"http://127.0.0.1:{port}", "routes": [{"prefix": "/closed"}]}}


async def test_each_interim_answer_is_relayed_in_order_and_none_to_1_0(start: Start, service: Service) -> None:
    interim = (
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\nLink: <b>\r\n\r\n"
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\nKeep-Alive: x\r\nX: \xff\r\n\r\n"
    )
    async with upstream(answering(interim + ok(b"done"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            heads = [await wire.head() for _ in range(3)]
            assert [head.status for head in heads] == [102, 103, 103]
            assert heads[1].all("link") == ["<a>", "<b>"]
            assert heads[2].raw_head == b"HTTP/1.1 103 Early Hints\r\nX: \xff\r\n\r\n"
            assert (await wire.response()).body == b"done"
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.0\r\n\r\n")
            assert (await wire.head()).status == 200


async def test_an_interim_answer_comes_before_the_final_one_is_made(start: Start, service: Service) -> None:
    go = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await go.wait()
        writer.write(ok())
        await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.head()).status == 103
            go.set()
            assert (await wire.response()).status == 200


async def test_a_refusal_spares_the_upload(start: Start, service: Service) -> None:
    """Not a byte of the body is asked for, by the upstream's refusal or by the gateway's own."""
    got: list[bytes] = []

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok(b"no", status=b"403 Forbidden"))
        await writer.drain()
        got.append(await reader.read(-1))

    expect = b" HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
    async with upstream(script) as up:
        services = service(up.port)
        services["s"]["routes"].append({"prefix": "/s/closed", "auth": "token"})
        services["s"]["routes"].append({"prefix": "/s/small", "max_body": 10, "auth": "none"})
        live = await start(services)
        for target, status in [
            ("/s/", 403),
            ("/s/closed", 401),
            ("/s/small", 413),
            ("/x", 404),
            ("/events/ingest", 401),
        ]:
            async with dial(live.port) as wire:
                await wire.send(b"POST " + target.encode() + expect)
                head = await wire.head()
                assert (head.status, head.get("connection")) == (status, "close"), target
        await up.until(lambda: up.gone == 1)
    assert got == [b""]


async def test_expect_is_not_for_1_0_and_a_client_need_not_wait(start: Start, service: Service) -> None:
    seen: list[bytes] = []

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        assert await reader.readexactly(5) == b"hello"
        writer.write((b"HTTP/1.1 100 Continue\r\n\r\n" if b"Expect" in seen[-1] else b"") + ok())
        await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port))
        for version in (b"1.0", b"1.1"):
            async with dial(live.port) as wire:
                head = b" HTTP/" + version + b"\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello"
                await wire.send(b"POST /s/" + head)
                assert (await wire.response()).body == b"ok"
    assert [b"\r\nExpect: 100-continue\r\n" in head for head in seen] == [False, True]


async def test_an_upload_may_be_told_its_progress_as_often_as_the_service_likes(start: Start, service: Service) -> None:
    """Resumable uploads: one 104 for each 100 KB."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for number in range(40):
            await reader.readexactly(100_000)
            writer.write(b"HTTP/1.1 104 Upload Resumption Supported\r\nUpload-Offset: %d\r\n\r\n" % (number * 100_000))
        writer.write(ok(b"done", status=b"201 Created"))

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 4000000\r\n\r\n" + bytes(4_000_000))
            heads = [await wire.head() for _ in range(41)]
            assert [head.status for head in heads] == [104] * 40 + [201]
            assert heads[39].get("upload-offset") == "3900000"


async def test_an_interim_answer_begins_the_time_limit_again(start: Start, service: Service) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        for _ in range(6):
            await asyncio.sleep(0.2)
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        writer.write(ok(b"at last"))

    async with upstream(script) as up:
        live = await start(service(up.port, timeout=0.6))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.response()).body == b"at last"


async def test_a_client_that_does_not_read_interim_answers_holds_them_back(
    start: Start, service: Service, small_send_buffers: list[asyncio.Transport]
) -> None:
    """What it has not read waits at the service; the gateway's buffer for it stays at its bound."""
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 1000 + b"\r\n\r\n"

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        for _ in range(12):
            writer.write(interim * 20)
            await asyncio.sleep(0.005)  # so that the gateway reads them in different turns
        writer.write(ok(b"done"))
        await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port))
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", live.port))
            client.sendall(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            client.setblocking(False)
            await eventually(lambda: bool(small_send_buffers) and small_send_buffers[0].get_write_buffer_size() > 4096)
            await asyncio.sleep(0.2)
            assert small_send_buffers[0].get_write_buffer_size() < 64 * 1024
            data = b""
            while not data.endswith(b"done"):
                data += await asyncio.get_running_loop().sock_recv(client, 65536)
    assert data.count(b"103 Early Hints") == 240


async def test_a_slow_reader_of_interim_answers_leaves_the_upstreams_connection_usable(
    start: Start, service: Service, small_send_buffers: list[asyncio.Transport]
) -> None:
    """The interim answers fill the client's send buffer, and the final one came with them in the same read."""
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 1000 + b"\r\n\r\n"

    def answer(request: Request) -> bytes:
        return (interim * 14 if request.target == "/hints" else b"") + ok(b"done")

    async with upstream(answering(answer)) as up:
        live = await start(service(up.port, timeout=2))
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", live.port))
            client.sendall(b"GET /s/hints HTTP/1.1\r\nHost: h\r\n\r\n")
            client.setblocking(False)
            await up.until(lambda: len(up.requests) == 1)
            await eventually(lambda: small_send_buffers[0].get_write_buffer_size() > 0)
            async with dial(live.port) as other:
                await other.send(b"GET /s/next HTTP/1.1\r\nHost: h\r\n\r\n")
                assert (await other.response()).status == 200
            assert up.connections == 1
            data = b""
            while not data.endswith(b"done"):
                data += await asyncio.get_running_loop().sock_recv(client, 65536)
    assert data.count(b"103 Early Hints") == 14
