"""Framing: where a body ends, both ways (RFC 9112 sections 5 to 8), and what is refused because it could be read in two ways."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from tests.conftest import Start
from tests.support.wire import (
    Reader,
    Request,
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


async def test_a_length_body_and_a_chunked_body_keep_their_framing(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
            assert (await wire.response()).status == 200
            await wire.send(
                b"POST /s/b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
            )
            assert (await wire.response()).status == 200
            await wire.send(b"GET /s/c HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody")
            assert (await wire.response()).status == 200
    one, two, three = up.requests
    assert (one.body, one.get("content-length"), one.all("transfer-encoding")) == (b"hello", "5", [])
    assert (two.body, two.all("content-length"), two.get("transfer-encoding")) == (b"abcde", [], "chunked")
    assert (three.method, three.body) == ("GET", b"body")
    assert up.connections == 1


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /s/ HTTP/1.1\r\n\r\n", 400),
        (b"GET /s/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /s/ HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"GET /s/ HTTP/1.0\r\nHost: \r\n\r\n", 400),
        (b"GET http://h/s/ HTTP/1.1\r\nHost: \r\n\r\n", 400),
        (b"GET /s/ HTTP/1.1\r\nHost: user@h\r\n\r\n", 400),
        (b"GET /s/ HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        (b"GET /s/ HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET /s/ HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET http://user@h/s/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", 501),
        (b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /s/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST /s/ HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\nx", 400),
        (b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\nx", 400),
        (b"GET /s/ HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n", 400),
        (b"GET /s/ HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400),
        (b"GET /s/ HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", 400),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (b"GET /s/ HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /s/ HTTP/1.1\r\nHost: h\r\n" + b"X: aaaaaaaaaa\r\n" * 200 + b"\r\n", 431),
        (b"GET /s/ HTTP/1.1\r\nHost: h\r\n" + (b"X: " + b"a" * 1000 + b"\r\n") * 40 + b"\r\n", 431),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
)  # fmt: skip
async def test_a_malformed_request_never_reaches_an_upstream(
    start: Start, service: Service, head: bytes, status: int
) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(head)
            response = await wire.response()
            assert response.version == "HTTP/1.1"
            assert (response.status, problem(response)["status_code"]) == (status, status)
        async with dial(live.port) as wire:
            assert (await ask(wire, "/s/")).status == 200
    assert len(up.requests) == 1


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /events/ingest HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"GET /health HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: h\r\n" + (b"X: " + b"a" * 1000 + b"\r\n") * 40 + b"\r\n", 431),
    ],
)
async def test_the_gateways_own_paths_are_as_strict(start: Start, head: bytes, status: int) -> None:
    live = await start({})
    async with dial(live.port) as wire:
        await wire.send(head)
        assert (await wire.response()).status == status
    async with asyncio.timeout(5):
        while not live.records:  # written after the answer
            await asyncio.sleep(0.01)
    assert [record.status for record in live.records] == [status]


async def test_a_broken_chunk_in_the_request_never_reaches_its_end(
    start: Start, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    got = bytearray()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        got.extend(await reader.read(-1))

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            await up.until(lambda: up.connections == 1)
            await wire.send(b"zz\r\nabc\r\n0\r\n\r\n")
            response = await wire.response()
            await up.until(lambda: up.gone == 1)
    assert response.status == 400
    assert not got.endswith(b"0\r\n\r\n")
    assert caplog.records == []  # a caller's mistake is no error of ours


@pytest.mark.parametrize("broken", [b"\n0\n\n", b"\nzz\r\n", b"\n0\r\nbad trailer\r\n\r\n"])
async def test_an_error_in_the_segment_that_ends_a_chunk_is_noticed(
    start: Start, service: Service, broken: bytes
) -> None:
    """The end of the chunk wakes the reader of the body, and in the same turn of the loop the framing turns out broken."""

    async with upstream(until_it_leaves(b"abc")) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r")
            await up.until(lambda: len(up.requests) == 1)
            await wire.send(broken)
            assert (await wire.response()).status == 400
            await up.until(lambda: up.gone == 1)


TE = b"Transfer-Encoding: "
CL = b"Content-Length: "


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("lines", "body"),
    [
        ([TE + b"chunked", TE + b"chunked"], b"0\r\n\r\n"),
        ([TE + b"identity"], b""),
        ([TE + b"identity, chunked"], b"0\r\n\r\n"),
        ([TE + b"chunked, identity"], b"0\r\n\r\n"),
        ([TE + b"gzip"], b""),
        ([TE], b"0\r\n\r\n"),
        ([TE + b"xchunked"], b"0\r\n\r\n"),
        ([TE + b"chunked,"], b"0\r\n\r\n"),
        ([TE + b"\x0bchunked"], b"0\r\n\r\n"),
        ([TE + b"chunked;q=1"], b"0\r\n\r\n"),
        ([TE + b'"chunked"'], b"0\r\n\r\n"),
        ([TE + b"chunked", CL + b"5"], b"0\r\n\r\n"),
        ([CL + b"5", TE + b"chunked"], b"0\r\n\r\n"),
        ([CL + b"0", TE + b"identity"], b""),
        ([CL], b""),
        ([CL + b"1 1"], b"x"),
        ([CL + b"1,1"], b"x"),
        ([CL + b"1", CL + b"1"], b"x"),
        ([CL + b"1", CL + b"2"], b"xy"),
        ([CL + b"-0"], b""),
        ([CL + b"0x1"], b"x"),
        ([CL + b"1.0"], b"x"),
        ([CL + b"1e0"], b"x"),
        ([CL + "\u0661".encode()], b"x"),
        ([CL + b"99999999999999999999"], b"x"),
    ],
)
async def test_framing_that_could_be_read_in_two_ways_is_refused(
    start: Start, service: Service, lines: list[bytes], body: bytes
) -> None:
    """On a request for a service and on one of the gateway's own, and nothing behind it is taken for a request."""
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        for target in (b"/s/", b"/events/ingest"):
            async with dial(live.port) as wire:
                head = b"\r\n".join([b"POST " + target + b" HTTP/1.1", b"Host: h", *lines])
                await wire.send(head + b"\r\n\r\n" + body + b"GET /s/second HTTP/1.1\r\nHost: h\r\n\r\n")
                answers = await wire.rest()
                assert answers[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 501")
                assert answers.count(b"HTTP/1.1 ") == 1
                assert b"\r\nConnection: close\r\n" in answers
    assert up.requests == []


@pytest.mark.parametrize(
    "chunks",
    [
        b"0x2\r\nab\r\n",
        b"2 \r\nab\r\n",
        b" 2\r\nab\r\n",
        b"+2\r\nab\r\n",
        b"-2\r\nab\r\n",
        b"1_0\r\nab\r\n",
        b"\r\nab\r\n",
        b"2\nab\r\n",
        b"2\rab\r\n",
        b"2\r\nab\n",
        b"2\r\nabc\r\n",
        b"2\r\nabX\r\n",
        b"2;a\nab\r\n",
        b"2;a\rb\r\nab\r\n",
        b"2;\x00\r\nab\r\n",
        b"g\r\nab\r\n",
        b"11111111111111111\r\nab\r\n",
        b"2\r\nab\r\n0\r\nbad trailer\r\n\r\n",
        b"2\r\nab\r\n0\r\n folded: x\r\n\r\n",
        b"2\r\nab\r\n0\r\n\n",
        b"2\r\nab\r\n0\n\r\n",
    ],
)
async def test_a_chunk_that_is_not_exact_ends_the_upload(start: Start, service: Service, chunks: bytes) -> None:
    got: list[bytes] = []

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        got.append(await reader.read(-1))

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
            await wire.send(b"0\r\n\r\nGET /s/second HTTP/1.1\r\nHost: h\r\n\r\n")
            answers = await wire.rest()
        await up.until(lambda: up.gone == up.connections)
    assert answers[:12] == b"HTTP/1.1 400"
    assert b"HTTP/1.1 200" not in answers
    assert not any(data.endswith(b"0\r\n\r\n") or b"second" in data for data in got)


@pytest.mark.parametrize("size", [100_000, 3_000_000])
@pytest.mark.parametrize("way", ["one extension", "many extensions", "many trailers", "one trailer"])
@pytest.mark.parametrize("target", [b"/s/", b"/events/ingest"])
async def test_extensions_and_trailers_are_bounded(
    start: Start, service: Service, target: bytes, way: str, size: int
) -> None:
    chunks = {
        "one extension": b"1;a=" + b"x" * size + b"\r\nb\r\n0\r\n\r\n",
        "many extensions": (b"1;a=" + b"x" * 500 + b"\r\nb\r\n") * (size // 500) + b"0\r\n\r\n",
        "many trailers": b"1\r\nb\r\n0\r\n" + b"X: y\r\n" * (size // 6) + b"\r\n",
        "one trailer": b"1\r\nb\r\n0\r\nX: " + b"y" * size + b"\r\n\r\n",
    }[way]
    whole: list[Request] = []

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        whole.append(await read_request(reader))
        writer.write(ok())
        await reader.read(1)

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            head = b"POST " + target + b" HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n" + live.auth
            with suppress(ConnectionError):
                await wire.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
            answers = await wire.rest()
        await up.until(lambda: up.gone == up.connections)
    assert b"HTTP/1.1 2" not in answers
    assert whole == []


async def test_small_chunks_and_short_extensions_are_no_excess(start: Start, service: Service) -> None:
    body = b"".join(b"1;a=b\r\n%c\r\n" % byte for byte in bytes(range(256)) * 400)
    async with upstream(answering(lambda request: ok(request.body))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
            await wire.send(body + b"0\r\nX-Trailer: 1\r\n\r\n")
            assert (await wire.response()).body == bytes(range(256)) * 400


async def test_trailers_that_nobody_announced_or_asked_for_go_no_further(start: Start, service: Service) -> None:
    """They are read, bounded and dropped: never merged into the headers, and announced to nobody."""
    answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n"
        b"2\r\nok\r\n0\r\nX-Late: 1\r\nSet-Cookie: a=b\r\n\r\n"
    )
    bytes_seen: list[bytes] = []

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        bytes_seen.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        await reader.read(1)

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(
                b"POST /s/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Forwarded-For\r\n\r\n"
                b"2\r\nhi\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\nX-Late: 1\r\n\r\n"
            )
            head = await wire.head()
            assert await wire.reader.readexactly(12) == b"2\r\nok\r\n0\r\n\r\n"
    assert {name.lower() for name, _ in head.headers} & {"trailer", "x-late", "set-cookie"} == set()
    assert b"6.6.6.6" not in bytes_seen[0]
    assert b"x-late" not in bytes_seen[0].lower()
    assert b"\r\ntrailer:" not in bytes_seen[0].lower()


@pytest.mark.parametrize(
    "line",
    [
        b"X : y",
        b"X\t: y",
        b"X: a\r\n b",
        b"X: a\r\n\tb",
        b"X: a\rb",
        b"X: a\nb: c",
        b"X: a\x00b",
        b"X: a\x01b",
        b"X: a\x7fb",
        b"X\xff: a",
        b"X(): a",
        b"no colon",
        b": nameless",
        b"\x00X: y",
    ],
)
async def test_a_malformed_field_is_refused_both_ways(start: Start, service: Service, line: bytes) -> None:
    async with upstream(answering(b"HTTP/1.1 200 OK\r\n" + line + b"\r\nContent-Length: 2\r\n\r\nok")) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n" + line + b"\r\n\r\n")
            assert (await wire.response()).status == 400
        assert up.connections == 0
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            response = await wire.response()
        assert response.status == 502
        assert line not in response.raw_head


async def test_look_alikes_of_known_names_are_dropped(start: Start, service: Service) -> None:
    names = (
        b"Content_Length", b"Transfer_Encoding", b"X_Forwarded_For", b"X-Forwarded_For", b"X_VX11_Token", b"X_Real_IP",
        b"Proxy_Authorization", b"Max_Forwards",
    )  # fmt: skip
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            lines = b"".join(name + b": 7\r\n" for name in names)
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\nX_Own: kept\r\n" + lines + b"\r\n")
            assert (await wire.response()).status == 200
    assert up.requests[0].get("x_own") == "kept"
    assert {name.encode() for name, _ in up.requests[0].headers} & set(names) == set()


ANNOUNCED = b"POST /s/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum,cookie, grpc-status,X_Real_IP, Content-Length, Range, if-match, Content-Type, X-Gone,,x-hop\r\n"
TRAILERS = b"X-Sum:  a\r\ngrpc-status: 0\r\n"
HIDDEN = b"Content-Length: 3\r\nRange: bytes=0-1\r\nIf-Match: x\r\nContent-Type: x\r\nX-Unannounced: 1\r\nX-VX11-Token: x\r\nX_Forwarded_For: 1.1.1.1\r\nCookie: a=b\r\nX-Gone: 1\r\nX-Hop: 1\r\n"


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("pause", [True, False])
async def test_trailers_of_a_request_reach_a_service_to_which_they_were_announced(
    start: Start, service: Service, pause: bool
) -> None:
    received: list[bytes] = []

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readuntil(b"0\r\n")
            while not body.endswith(b"\r\n\r\n"):
                body += await reader.readuntil(b"\r\n")
            received.extend((head, body))
            writer.write(ok())

    async with upstream(script) as up:
        live = await start(service(up.port, remove_headers=["X-Gone"]))
        async with dial(live.port) as wire:
            for head in (ANNOUNCED + b"Connection: X-Hop\r\n", ANNOUNCED.replace(b"Trailer:", b"X-Trailer:")):
                await wire.send(head + b"\r\n5\r\nhello\r\n")
                if pause:
                    await asyncio.sleep(0.05)
                await wire.send(b"0\r\n" + TRAILERS + HIDDEN + b"\r\n")
                assert (await wire.response()).status == 200
            # What follows is a request of its own, with trailers of its own.
            for number in range(4):
                data = b"\r\n1\r\n%d\r\n0\r\nX-Sum: %d\r\n\r\n" % (number, number)
                wire.writer.write(ANNOUNCED + data)
            for _ in range(4):
                assert (await wire.response()).status == 200
    assert b"\r\nTrailer: X-Sum, grpc-status\r\n" in received[0]
    assert received[1].endswith(b"0\r\n" + TRAILERS + b"\r\n")
    assert b"\r\nTrailer:" not in received[2]
    assert received[3].endswith(b"0\r\n\r\n")
    assert received[5::2] == [b"1\r\n%d\r\n0\r\nX-Sum: %d\r\n\r\n" % (number, number) for number in range(4)]
