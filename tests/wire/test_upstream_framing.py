"""What an upstream may not do to the framing of an answer, and what is made of it: 502, or an end that never looks whole."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from tests.conftest import Start
from tests.support.wire import (
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
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")


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


BROKEN = {
    "garbage": b"garbage\r\n\r\n",
    "http/0.9": b"<html>hello</html>",
    "http/2": b"HTTP/2 200 OK\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "listed lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok!",
    "odd coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "obs-fold": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space before colon": b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "bare LF throughout": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "NUL": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "unasked 101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000,
    "endless 1xx": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10_000,
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


HABITS = {
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks and length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "identity": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks in 1.0": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
}
"""Framing that another reader might read otherwise: it is read, and nothing follows it on its connection."""
HARMLESS_HABITS = {
    "listed length": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    "length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "padded chunk sizes": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n002  \r\nok\r\n0 \r\n\r\n",
}


@pytest.mark.parametrize("name", [*HABITS, *HARMLESS_HABITS])
async def test_what_old_servers_send_is_read(start: Start, service: Service, name: str) -> None:
    async with upstream(answering((HABITS | HARMLESS_HABITS)[name])) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for _ in range(2):
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
                response = await wire.response()
                assert (response.status, response.body) == (200, b"ok")
                assert len(response.all("content-length")) + len(response.all("transfer-encoding")) == 1
                assert response.get("transfer-encoding") in (None, "chunked")
                assert response.get("content-length") in (None, "2")
            await wire.send(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.head()).status == 200
    assert up.connections == (2 if name in HABITS else 1)


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
    if data.startswith(b"HTTP/1.1 200 OK"):
        # Without one of both the end of the connection would be the end of the body.
        head, _, body = data.partition(b"\r\n\r\n")
        assert b"\r\nTransfer-Encoding: chunked" in head or (b"\r\nContent-Length: 100" in head and len(body) < 100)
    await up.until(lambda: up.gone == 1)


async def test_where_the_end_of_the_connection_ends_the_body_a_cut_is_a_reset(start: Start, service: Service) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
    async with upstream(answering_once(answer)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.0\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                await wire.reader.read(-1)


async def test_bytes_beyond_the_length_are_dropped_with_the_connection(start: Start, service: Service) -> None:
    async with upstream(answering(ok(b"fine") + b"HTTP/1.1 200 OK\r\nX-Smuggled: 1\r\n\r\n")) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for _ in range(2):
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
                response = await wire.response()
                assert (response.body, response.all("x-smuggled")) == (b"fine", [])
    assert up.connections == 2


async def test_no_body_where_none_may_be(start: Start, service: Service) -> None:
    answers = {
        "/204": b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        "/204te": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        "/304te": b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
        "/1.0": b"HTTP/1.0 200 OK\r\n\r\n",
    }
    async with upstream(answering_once(b"")) as _, upstream(answering(lambda r: answers[r.target])) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for target, method in [("/204", "GET"), ("/204te", "GET"), ("/304te", "GET"), ("/1.0", "HEAD")]:
                await wire.send(f"{method} /s{target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
                head = await wire.head()
                assert head.status == int(answers[target][9:12])
                assert head.all("content-length") == head.all("transfer-encoding") == []
            await wire.send(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.head()).raw_head.startswith(b"HTTP/1.1 200")


async def test_an_answer_that_ends_with_its_connection_is_chunked_for_1_1(start: Start, service: Service) -> None:
    for version in (b"1.0", b"1.1"):
        async with upstream(answering_once(b"HTTP/" + version + b" 200 OK\r\n\r\nbody")) as up:
            live = await start(service(up.port))
            async with dial(live.port) as wire:
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
                response = await wire.response()
                assert (response.body, response.get("transfer-encoding")) == (b"body", "chunked")
                await wire.send(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
                assert (await wire.response()).status == 200


TRAILERS = (
    b"grpc-status: 0\r\nX-Sum:  \xff\r\nContent-Length: 9\r\nset_cookie: a\r\nTransfer-Encoding: x\r\nVary: *\r\n"
)
WITH_TRAILERS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status, X-Sum\r\n\r\n"


@pytest.mark.parametrize("pause", [False, True], ids=["at once", "in pieces"])
async def test_trailers_reach_a_client_that_asked_for_them(start: Start, service: Service, pause: bool) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        while True:
            state.requests.append(await read_request(reader))
            writer.write(WITH_TRAILERS + b"2\r\nok\r\n")
            if pause:
                await state.note()
                await state.until(lambda: bool(state.requests) and state.gone == -1)
            writer.write(b"0\r\n" + TRAILERS + b"\r\n")
            await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port))
        for lines, wants in ((b"TE: trailers\r\nConnection: TE\r\n", True), (b"", False)):
            async with dial(live.port) as wire:
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\n")
                head = await wire.head()
                assert head.all("trailer") == (["grpc-status, X-Sum"] if wants else [])
                assert await wire.reader.readexactly(7) == b"2\r\nok\r\n"
                if pause:
                    up.gone = -1
                    await up.note()
                end = b"0\r\n" + (b"grpc-status: 0\r\nX-Sum:  \xff\r\n" if wants else b"") + b"\r\n"
                assert await wire.reader.readexactly(len(end)) == end
                up.gone = 0
    assert [request.all("te") for request in up.requests] == [["trailers"], []]


async def test_trailers_obey_the_route_and_do_not_reach_1_0(start: Start, service: Service) -> None:
    answer = WITH_TRAILERS + b"2\r\nok\r\n0\r\n" + TRAILERS + b"\r\n"
    async with upstream(answering(answer)) as up:
        live = await start(service(up.port, remove_response_headers=["x-sum"]))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n")
            assert (await wire.rest()).endswith(b"2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n")
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.0\r\nTE: trailers\r\nConnection: TE\r\n\r\n")
            data = await wire.rest()
            assert data.endswith(b"\r\n\r\nok")
            assert b"Trailer" not in data


async def test_a_response_without_a_date_gets_one(start: Start, service: Service) -> None:
    theirs = b"Date: Sun, 06 Nov 1994 08:49:37 GMT"
    async with upstream(answering(lambda request: ok(b"x", *([theirs] if request.target == "/own" else [])))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for _ in range(2):  # the second one from the cached head
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
                made = parsedate_to_datetime((await wire.response()).get("date") or "")
                assert abs((datetime.now(UTC) - made).total_seconds()) < 30
                await wire.send(b"GET /s/own HTTP/1.1\r\nHost: h\r\n\r\n")
                assert (await wire.response()).get("date") == theirs.decode()[6:]
