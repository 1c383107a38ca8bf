"""Forwarding on real sockets: what goes out, what comes back, and what is said when it cannot."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, suppress

import pytest

from tests.conftest import Start
from tests.wire.conftest import Service
from tests.wirekit import Reader, Request, Script, Upstream, Writer, answering, dial, ok, read_request, upstream


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "PROPFIND"]
)
async def test_every_method_passes(start: Start, service: Service, method: str) -> None:
    async with upstream(answering(ok(b"" if method == "HEAD" else b"fine"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(f"{method} /s/path?q=1 HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            response = await wire.response(method)
    assert response.status == 200
    assert response.body == (b"" if method == "HEAD" else b"fine")
    assert (up.requests[0].method, up.requests[0].target) == (method, "/path?q=1")


async def test_the_target_goes_through_byte_for_byte(start: Start, service: Service) -> None:
    target = "/a%2Fb%20c%7E+;p=1//x?a=%2f&b=+&c&?="
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(f"GET /s{target} HTTP/1.1\r\nHost: h\r\n\r\n".encode("latin-1"))
            assert (await wire.response()).status == 200
    assert up.requests[0].target == target


async def test_status_reason_headers_and_body_pass_unchanged(start: Start, service: Service) -> None:
    body = bytes(range(256))
    answer = ok(
        body,
        b"Set-Cookie: a=1; Path=/x",
        b"Set-Cookie: b=2",
        b"X-Odd:   caf\xe9 ",
        b"Content-Encoding: gzip",
        b"WWW-Authenticate: Basic",
        status=b"418 I am a teapot",
    )
    async with upstream(answering(answer)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            response = await wire.response()
    assert (response.status, response.reason, response.body) == (418, "I am a teapot", body)
    assert response.all("set-cookie") == ["a=1; Path=/s/x", "b=2"]
    assert b"X-Odd:   caf\xe9 \r\n" in response.raw_head
    assert response.get("content-encoding") == "gzip"


async def test_hop_by_hop_fields_go_no_further(start: Start, service: Service) -> None:
    answer = ok(
        b"x", b"Connection: X-Private, keep-alive", b"X-Private: 1", b"Keep-Alive: timeout=5", b"Proxy-Authenticate: B"
    )
    async with upstream(answering(answer)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(
                b"GET /s/ HTTP/1.1\r\nHost: h\r\nConnection: X-Secret, X-Request-ID, Via\r\nX-Secret: 1\r\n"
                b"TE: gzip, trailers\r\nProxy-Authorization: Basic eA==\r\nKeep-Alive: 1\r\nUpgrade: h2c\r\n\r\n"
            )
            response = await wire.response()
    request = up.requests[0]
    for name in ("x-secret", "proxy-authorization", "keep-alive", "upgrade"):
        assert request.all(name) == []
    assert request.get("te") == "trailers"
    assert request.get("via") is not None
    assert request.get("x-request-id") == response.get("x-request-id")
    for name in ("x-private", "keep-alive", "proxy-authenticate", "connection"):
        assert response.all(name) == []


async def test_nothing_is_invented(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h.example:81\r\n\r\n")
            await wire.response()
    names = {name.lower() for name, _ in up.requests[0].headers}
    assert names == {
        "host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix",
        "x-real-ip", "forwarded", "x-request-id", "via",
    }  # fmt: skip
    assert up.requests[0].get("host") == "h.example:81"
    assert up.requests[0].get("x-forwarded-for") == "127.0.0.1"
    assert up.requests[0].get("x-forwarded-prefix") == "/s"


async def test_what_a_client_says_of_itself_is_replaced(start: Start, service: Service) -> None:
    forged = b"X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\n"
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\nX-Request-ID: mine\r\n" + forged + b"\r\n")
            await wire.response()
    assert b"6.6.6.6" not in up.requests[0].raw_head
    assert up.requests[0].get("x-request-id") != "mine"


async def test_a_trusted_peer_is_believed(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port), server={"port": 0, "trusted_proxies": ["127.0.0.0/8"]})
        async with dial(live.port) as wire:
            await wire.send(
                b"GET /s/ HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\n"
                b"X-Request-ID: theirs\r\n\r\n"
            )
            response = await wire.response()
    assert up.requests[0].get("x-forwarded-for") == "9.9.9.9, 127.0.0.1"
    assert up.requests[0].get("x-forwarded-proto") == "https"
    assert up.requests[0].get("x-real-ip") == "9.9.9.9"
    assert response.get("x-request-id") == up.requests[0].get("x-request-id") == "theirs"


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


async def test_an_upload_reaches_the_upstream_before_it_is_complete(start: Start, service: Service) -> None:
    arrived = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(5) == b"first"
        arrived.set()
        assert await reader.readexactly(6) == b"second"
        writer.write(ok(b"both"))
        await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nfirst")
            await asyncio.wait_for(arrived.wait(), 5)
            await wire.send(b"second")
            assert (await wire.response()).body == b"both"


async def test_an_event_reaches_the_client_before_the_answer_is_complete(start: Start, service: Service) -> None:
    seen = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await asyncio.wait_for(seen.wait(), 5)
        writer.write(b"data: 2\n\n")
        await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port, timeout=0.2))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.head()).get("transfer-encoding") == "chunked"
            assert await wire.reader.readuntil(b"\n\n\r\n") == b"9\r\ndata: 1\n\n\r\n"
            # Longer than the route's silence limit, which does not hold for event streams.
            await asyncio.sleep(0.4)
            seen.set()
            assert await wire.reader.readuntil(b"\n\n\r\n") == b"9\r\ndata: 2\n\n\r\n"
            assert await wire.reader.readexactly(5) == b"0\r\n\r\n"


async def test_a_large_body_both_ways(start: Start, service: Service) -> None:
    data = bytes(range(256)) * 40_000  # 10 MB
    async with upstream(answering(lambda request: ok(request.body))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            head = b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(data)
            sending = asyncio.gather(wire.send(head + data), wire.response())
            _, response = await asyncio.wait_for(sending, 20)
    assert response.body == data


async def test_expect_is_answered_by_the_upstream(start: Start, service: Service) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Expect: 100-continue\r\n" in head
        if b"/yes" in head:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert await reader.readexactly(5) == b"hello"
            writer.write(ok(b"taken"))
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
            assert (hints.status, hints.headers) == (103, [("Link", "</a.css>")])
            assert (await wire.response()).body == b"page"


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


def answering_once(answer: bytes) -> Script:
    """A script that answers one request and hangs up."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    return script


async def test_bytes_beyond_the_length_are_dropped_with_the_connection(start: Start, service: Service) -> None:
    async with upstream(answering(ok(b"fine") + b"HTTP/1.1 200 OK\r\nX-Smuggled: 1\r\n\r\n")) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for _ in range(2):
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
                response = await wire.response()
                assert (response.body, response.all("x-smuggled")) == (b"fine", [])
    assert up.connections == 2


async def test_a_stale_connection_is_invisible_where_a_repeat_is_safe(start: Start, service: Service) -> None:
    """The upstream closes each connection when the second request comes, as a server whose keep-alive ran out."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        state.requests.append(await read_request(reader))
        writer.write(ok(b"fine"))
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for method in ("GET", "GET", "PUT", "DELETE"):
                await wire.send(f"{method} /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi".encode())
                assert (await wire.response()).body == b"fine"
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
            assert (await wire.response()).status == 502  # a POST is never sent twice
    assert [request.method for request in up.requests] == ["GET", "GET", "PUT", "DELETE"]


async def test_a_refused_connection_is_a_502_and_another_address_is_tried(
    start: Start, service: Service, unused_tcp_port: int
) -> None:
    live = await start(service(unused_tcp_port))
    async with dial(live.port) as wire:
        await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
        response = await wire.response()
        assert (response.status, json.loads(response.body)["error"]) == (502, "connect_failed")
    async with upstream(answering(ok(b"here"))) as up:
        live = await start(service(unused_tcp_port, up.port))
        async with dial(live.port) as wire:
            for _ in range(4):
                await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
                assert (await wire.response()).body == b"here"


async def test_round_robin_over_several_addresses(start: Start, service: Service) -> None:
    async with upstream(answering(ok(b"one"))) as one, upstream(answering(ok(b"two"))) as two:
        live = await start(service(one.port, two.port))
        async with dial(live.port) as wire:
            bodies = []
            for _ in range(4):
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
                bodies.append((await wire.response()).body)
    assert sorted(bodies) == [b"one", b"one", b"two", b"two"]


async def test_a_silent_upstream_is_a_504(start: Start, service: Service) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        await reader.read(1)

    async with upstream(script) as up:
        live = await start(service(up.port, timeout=0.2))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            response = await wire.response()
            await up.until(lambda: up.gone == 1)
    assert (response.status, json.loads(response.body)["error"]) == (504, "upstream_timeout")


async def test_the_limit_starts_when_the_request_has_been_sent_whole(start: Start, service: Service) -> None:
    async with upstream(answering(ok(b"patient"))) as up:
        live = await start(service(up.port, timeout=0.3))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n")
            for byte in b"slow":
                await asyncio.sleep(0.15)
                await wire.send(bytes([byte]))
            assert (await wire.response()).body == b"patient"


async def test_silence_within_the_answer_cuts_it(start: Start, service: Service) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await reader.read(1)

    async with upstream(script) as up:
        live = await start(service(up.port, timeout=0.2))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            data = await wire.rest()
            await up.until(lambda: up.gone == 1)
    assert data.endswith(b"half")
    assert live.records[0].error == "upstream_idle"


@pytest.mark.parametrize("when", ["before the answer", "within the answer", "within the upload"])
async def test_a_client_that_leaves_ends_the_upstream_call(start: Start, service: Service, when: str) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if when == "within the answer":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        state.requests.append(Request("", "", [], b"", b""))
        await state.note()
        await reader.read(-1)

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            length = 10 if when == "within the upload" else 0
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % length)
            await up.until(lambda: len(up.requests) == 1)
            if when == "within the answer":
                await wire.head()
            wire.abort()
            await up.until(lambda: up.gone == 1)
        assert live.gateway.board.service("s").breaker.failure_count == 0
    assert [record.status for record in live.records] == [499]


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


async def test_a_100_that_nobody_asked_for_goes_no_further(start: Start, service: Service) -> None:
    async with upstream(answering(b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"x"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.head()).status == 200


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


async def test_one_slow_client_costs_bounded_memory(start: Start, service: Service) -> None:
    """100 MB that nobody reads: the upstream is held back, and nothing piles up in the gateway."""
    written = 0

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
        for _ in range(1600):
            writer.write(bytes(65536))
            await writer.drain()
            written += 65536

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            await wire.head()
            before = -1
            while written != before:
                before = written
                await asyncio.sleep(0.3)
            assert written < 40_000_000
            wire.abort()
            await up.until(lambda: up.gone == 1)


async def test_pipelined_requests_are_answered_in_order(start: Start, service: Service) -> None:
    async with upstream(answering(lambda request: ok(request.target.encode()))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"".join(b"GET /s/%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(20)))
            assert [(await wire.response()).body for _ in range(20)] == [b"/%d" % n for n in range(20)]


async def test_a_body_must_keep_its_pace_once_its_grace_is_over(start: Start, service: Service) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.read(-1)

    async with upstream(script) as up:
        live = await start(service(up.port), limits={"body_rate": 1000, "body_grace": 0.3})
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n")
            with suppress(ConnectionError):
                for _ in range(10):
                    await wire.send(b"x")
                    await asyncio.sleep(0.1)
            response = await wire.response()
            await up.until(lambda: up.gone == 1)
    assert (response.status, json.loads(response.body)["error"]) == (408, "request_timeout")


async def test_an_upload_that_the_upstream_holds_back_is_not_slow(start: Start, service: Service) -> None:
    size = 20_000_000

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.6)
        await reader.readexactly(size)
        writer.write(ok(b"all"))
        await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port), limits={"body_rate": 10**9, "body_grace": 0.3})
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
            assert json.loads(refused.body)["error"] == "overloaded"
            go.set()
            assert [(await wire.response()).status for wire in wires[:3]] == [200, 200, 200]
    assert len(up.requests) == 3


async def test_tunnels_are_not_in_flight(start: Start, service: Service) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    async with upstream(answering(lambda request: switch if request.get("upgrade") else ok())) as up:
        live = await start(service(up.port), limits={"in_flight": 1, "queue": 0})
        async with dial(live.port) as one, dial(live.port) as two, dial(live.port) as three:
            for wire in (one, two):
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
                assert (await wire.head()).status == 101
            await three.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await three.response()).status == 200


async def test_max_forwards_counts_down_and_ends_here(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for method in ("OPTIONS", "TRACE"):
                await wire.send(
                    f"{method} /s/ HTTP/1.1\r\nHost: h\r\nMax-Forwards: 3\r\nCookie: secret\r\n\r\n".encode()
                )
                assert (await wire.response()).status == 200
                await wire.send(
                    f"{method} /s/ HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\nCookie: secret\r\n\r\n".encode()
                )
                last = await wire.response()
                assert last.status == 200
                assert b"secret" not in last.body
    assert [request.get("max-forwards") for request in up.requests] == ["2", "2"]
    assert last.body.startswith(b"TRACE /s/ HTTP/1.1\r\nHost: h\r\n")
    assert up.requests[1].all("cookie") == []


async def test_http_1_0_without_a_host(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.0\r\n\r\n")
            assert (await wire.response()).status == 200
    assert up.requests[0].get("host") == f"127.0.0.1:{up.port}"


async def test_a_stop_ends_event_streams_and_closes_behind_other_answers(start: Start, service: Service) -> None:
    go = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        request = await read_request(reader)
        state.requests.append(request)
        await state.note()
        if request.target == "/events":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
            await reader.read(1)
        await go.wait()
        writer.write(ok(b"late"))
        await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as listener, dial(live.port) as caller:
            await listener.send(b"GET /s/events HTTP/1.1\r\nHost: h\r\n\r\n")
            await listener.reader.readuntil(b"data: 1\n\n")
            await caller.send(b"GET /s/slow HTTP/1.1\r\nHost: h\r\n\r\n")
            await up.until(lambda: len(up.requests) == 2)
            live.gateway.proxy.drain()
            assert not (await listener.rest()).endswith(b"0\r\n\r\n")
            go.set()
            response = await caller.response()
    assert (response.body, response.get("connection")) == (b"late", "close")
