"""Framing: where a body ends, both ways (RFC 9112 sections 5 to 8), and what is refused because it could be read in two ways."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.conftest import Start
from tests.wire.asking import ask, problem
from tests.wire.conftest import Service
from tests.wirekit import (
    Reader,
    Request,
    Script,
    Upstream,
    Writer,
    answering,
    dial,
    ok,
    read_request,
    upstream,
)


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


async def test_chunked_answers_are_chunked_for_1_1_and_close_delimited_for_1_0(start: Start, service: Service) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n"
    async with upstream(answering(answer)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            response = await wire.response()
            assert (response.body, response.get("transfer-encoding")) == (b"hello", "chunked")
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            response = await wire.response()
            assert (response.body, response.all("transfer-encoding")) == (b"hello", [])
            assert response.get("connection") == "close"


async def test_head_204_and_304_have_no_body_whatever_the_upstream_says(start: Start, service: Service) -> None:
    def answer(request: Request) -> bytes:
        return {
            "/head": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
            "/204": b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
            "/304": b'HTTP/1.1 304 Not Modified\r\nContent-Length: 70\r\nETag: "x"\r\n\r\n',
        }[request.target]

    async with upstream(answering(answer)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"HEAD /s/head HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.response("HEAD")).get("content-length") == "100"
            await wire.send(b"GET /s/204 HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.response()).all("content-length") == []
            await wire.send(b"GET /s/304 HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.response()).get("content-length") == "70"
    assert up.connections == 1


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /s/ HTTP/1.1\r\n\r\n", 400),
        (b"GET /s/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
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


async def test_pipelined_requests_are_answered_in_order(start: Start, service: Service) -> None:
    async with upstream(answering(lambda request: ok(request.target.encode()))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"".join(b"GET /s/%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(20)))
            assert [(await wire.response()).body for _ in range(20)] == [b"/%d" % n for n in range(20)]


BROKEN = {
    "garbage": b"garbage\r\n\r\n",
    "http/0.9": b"<html>hello</html>",
    "http/2": b"HTTP/2 200 OK\r\n\r\n",
    "both lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "listed length": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    "odd coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "obs-fold": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space before colon": b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "unasked 101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000,
    "endless 1xx": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100,
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_answer_is_a_502_and_its_connection_is_not_used_again(
    start: Start, service: Service, name: str
) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(BROKEN[name])
        await writer.drain()
        if BROKEN[name] and name != "half a head":
            await reader.read(1)  # waits for the gateway to hang up

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
            response = await wire.response()
            await up.until(lambda: up.gone == 1)
    assert response.status == 502
    problem = json.loads(response.body)
    assert response.get("content-type") == "application/problem+json"
    assert problem["status_code"] == 502
    assert problem["service"] == "s"
    assert "proxy-status" in {key.lower() for key, _ in response.headers}
    assert str(up.port) not in response.body.decode()
    assert "127.0.0.1" not in response.body.decode()


def answering_once(answer: bytes) -> Script:
    """A script that answers one request and hangs up."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    return script


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalfXX0\r\n\r\n",
    ],
)
async def test_a_cut_answer_never_looks_whole(start: Start, service: Service, answer: bytes) -> None:
    async with upstream(answering_once(answer)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            data = await wire.rest()
    assert data.count(b"HTTP/1.1") <= 1
    assert not data.endswith(b"0\r\n\r\n")
    if b"200 OK" in data:
        assert b"half" in data or b"Content-Length: 100" in data or b"chunked" in data
    await up.until(lambda: up.gone == 1)


async def test_bytes_beyond_the_length_are_dropped_with_the_connection(start: Start, service: Service) -> None:
    async with upstream(answering(ok(b"fine") + b"HTTP/1.1 200 OK\r\nX-Smuggled: 1\r\n\r\n")) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for _ in range(2):
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
                response = await wire.response()
                assert (response.body, response.all("x-smuggled")) == (b"fine", [])
    assert up.connections == 2
