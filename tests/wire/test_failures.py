"""What is said when it fails, what is tried again, and who is blamed: retries, 502, 503, 504, 499."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from tests.conftest import Start
from tests.wire.asking import ask, problem
from tests.wire.conftest import Service
from tests.wirekit import (
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


async def test_the_breaker_opens_on_failures_and_says_why(start: Start, service: Service) -> None:
    statuses = iter([b"404 Not Found"] * 5 + [b"500 Oops"] * 2)

    async with upstream(answering(lambda request: ok(status=next(statuses)))) as up:
        live = await start(service(up.port, breaker={"failures": 2, "open_for": 60}))
        async with dial(live.port) as wire:
            for expected in (404, 404, 404, 404, 404, 500, 500):
                assert (await ask(wire, "/s/")).status == expected
            response = await ask(wire, "/s/")
    members = problem(response)
    assert (response.status, members["error"], members["reason"]) == (
        503,
        "circuit_open",
        "2 failures in a row: answered 500",
    )
    assert str(members["last_failure"]).endswith("Z")
    assert 0 < int(response.get("retry-after") or 0) <= 60
    assert len(up.requests) == 7


async def test_an_open_breaker_closes_after_one_good_trial(start: Start, service: Service) -> None:
    statuses = iter([b"500 Oops", b"404 Not Found", b"200 OK"])

    async with upstream(answering(lambda request: ok(status=next(statuses)))) as up:
        live = await start(service(up.port, breaker={"failures": 1, "open_for": 0.2}))
        async with dial(live.port) as wire:
            assert (await ask(wire, "/s/")).status == 500
            assert (await ask(wire, "/s/")).status == 503
            await asyncio.sleep(0.25)
            assert (await ask(wire, "/s/")).status == 404
            assert (await ask(wire, "/s/")).status == 200


async def test_a_service_that_is_off_says_so(start: Start) -> None:
    live = await start(
        {
            "shub": {
                "url": "http://127.0.0.1:9",
                "enabled": False,
                "off_reason": "too heavy",
                "routes": [{"prefix": "/shub"}],
            }
        }
    )
    async with dial(live.port) as wire:
        response = await ask(wire, "/shub/x", live.auth.strip())
    assert (response.status, problem(response)["error"], problem(response)["detail"]) == (
        503,
        "service_off",
        "too heavy",
    )


async def test_one_record_for_each_request(start: Start, service: Service) -> None:
    async with upstream(answering(ok(b"12345"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/x?secret=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
            response = await wire.response()
    (record,) = live.records
    assert (record.method, record.target, record.status, record.service) == ("POST", "/s/x", 200, "s")
    assert (record.received, record.sent, record.peer) == (3, 5, "127.0.0.1")
    assert re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", record.request_id)
    assert response.get("x-request-id") == record.request_id
    assert next(live.gateway.proxy.traffic.totals())[:3] == ("s", "2xx", 1)
