"""What is said when it fails, what is tried again, and who is blamed: retries, 502, 503, 504, 499."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct

import pytest

from tentaculo.model.health import BreakerState
from tests.conftest import Start
from tests.support.waits import eventually
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
from tests.wire.asking import ask, problem
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")


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
    start: Start, service: Service, refusing_port: int
) -> None:
    live = await start(service(refusing_port))
    async with dial(live.port) as wire:
        await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
        response = await wire.response()
        assert (response.status, json.loads(response.body)["error"]) == (502, "connect_failed")
    async with upstream(answering(ok(b"here"))) as up:
        live = await start(service(refusing_port, up.port))
        async with dial(live.port) as wire:
            for _ in range(4):
                await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
                assert (await wire.response()).body == b"here"


async def test_round_robin_over_several_addresses(start: Start, service: Service) -> None:
    async with upstream(answering(ok(b"one"))) as one, upstream(answering(ok(b"two"))) as two:
        live = await start(service(one.port, two.port, settings={"policy": "round_robin"}))
        async with dial(live.port) as wire:
            bodies = []
            for _ in range(4):
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
                bodies.append((await wire.response()).body)
    assert bodies == [b"one", b"two", b"one", b"two"]


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
        live = await start(service(up.port), limits={"first_byte": 0.6})
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n")
            for byte in b"slow":
                await asyncio.sleep(0.2)
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


@pytest.mark.usefixtures("notices_soon")
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
        assert live.gateway.health_service.board.service("s").breaker.failure_count == 0
    assert [record.status for record in live.records] == [499]


async def test_the_breaker_opens_on_failures_and_says_why(start: Start, service: Service) -> None:
    statuses = iter([b"404 Not Found"] * 5 + [b"500 Oops"] * 2)

    async with upstream(answering(lambda request: ok(status=next(statuses)))) as up:
        live = await start(service(up.port, breaker={"failures": 2, "open_for": 60}, breaker_statuses=["500-504"]))
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
        live = await start(service(up.port, breaker={"failures": 1, "open_for": 0.05}, breaker_statuses=[500]))
        board = live.gateway.health_service.board
        async with dial(live.port) as wire:
            assert (await ask(wire, "/s/")).status == 500
            await eventually(lambda: board.service("s").breaker.state is BreakerState.HALF_OPEN)
            assert (await ask(wire, "/s/")).status == 404
            assert (await ask(wire, "/s/")).status == 200


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (ok(status=b"500 Oops"), 500),
        # More than `limits.headers`, or more addresses than are mapped: the limits are the gateway's.
        (ok(b"", b"X: " + b"a" * 40_000), 502),
        (ok(b"", b"Link: " + b"</a>," * 2000), 502),
    ],
)
async def test_one_bad_url_does_not_pause_a_service(start: Start, service: Service, bad: bytes, status: int) -> None:
    def answer(request: Request) -> bytes:
        return bad if request.target == "/bad" else ok()

    async with upstream(answering(answer)) as up:
        live = await start(service(up.port, breaker={"failures": 5}))
        async with dial(live.port) as wire:
            for _ in range(30):
                assert (await ask(wire, "/s/bad")).status == status
            assert (await ask(wire, "/s/good")).status == 200
        view = live.gateway.health_service.board.service("s")
    assert (view.breaker.state, view.breaker.failure_count) == (BreakerState.CLOSED, 0)
    assert (view.traffic.ok, view.traffic.failed) == (1, 30), "they are still failed requests"


async def test_time_outs_beside_other_successes_do_not_pause_a_service(start: Start, service: Service) -> None:
    """A long poll that never ends in time must not shut out the requests that work."""

    async def answer(request: Request) -> bytes:
        if request.target == "/poll":
            await asyncio.Event().wait()
        return ok()

    async with upstream(answering(answer)) as up:
        live = await start(service(up.port, breaker={"failures": 2, "open_for": 60}, timeout=0.2))
        async with dial(live.port) as wire:
            for _ in range(4):
                assert (await ask(wire, "/s/poll")).status == 504
                assert (await ask(wire, "/s/")).status == 200
            for _ in range(2):
                assert (await ask(wire, "/s/poll")).status == 504
            assert (await ask(wire, "/s/")).status == 503, "nothing else succeeds, so the endpoint seems dead"


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


async def test_a_post_after_a_pause_meets_no_stale_connection(start: Start, service: Service) -> None:
    """The upstream closes after each answer, as one whose keep-alive is short: it is noticed before the next request."""
    async with upstream(answering_once(ok(b"fine"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for number in range(1, 11):
                await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
                assert (await wire.response()).body == b"fine"
                await up.until(lambda number=number: up.gone == number)  # type: ignore[misc]
                await asyncio.sleep(0.01)
    assert up.connections == 10


@pytest.mark.parametrize("sent", [b"", b"HTTP", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_only_what_is_safe_is_tried_again(start: Start, service: Service, method: str, sent: bytes) -> None:
    """On a kept connection that dies: GET if not one byte of an answer had come, POST never."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        for answer in (ok(b"first"), sent) if not state.requests else (ok(b"again"),):
            state.requests.append(await read_request(reader))
            writer.write(answer)
            await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.response()).body == b"first"
            await wire.send(f"{method} /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode())
            response = await wire.response()
    is_repeated = method == "GET" and not sent
    assert (response.status, response.body == b"again") == ((200, True) if is_repeated else (502, False))
    assert len(up.requests) == (3 if is_repeated else 2)


async def test_an_upload_that_has_begun_is_not_tried_again(start: Start, service: Service) -> None:
    """Its bytes are gone: PUT is idempotent, but nobody has them any more."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        state.requests.append(Request("", "", [], b"", b""))
        await reader.readexactly(5)

    async with upstream(script) as one, upstream(script) as two:
        live = await start(service(one.port, two.port))
        async with dial(live.port) as wire:
            await wire.send(b"PUT /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n")
            await one.until(lambda: one.connections + two.connections == 1)
            await wire.send(bytes(1000))
            assert (await wire.response()).status == 502
    assert len(one.requests) + len(two.requests) == 1


@pytest.mark.parametrize("when", ["before a byte", "within the head", "within the body"])
async def test_a_reset_is_the_upstreams_failure(start: Start, service: Service, when: str) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
        writer.write({"before a byte": b"", "within the head": whole[:20], "within the body": whole}[when])
        await asyncio.sleep(0.05)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
            data = await wire.rest() if when == "within the body" else (await wire.response()).raw_head
        assert live.gateway.health_service.board.service("s").breaker.failure_count == 1
    assert data.startswith(b"HTTP/1.1 200" if when == "within the body" else b"HTTP/1.1 502")
    assert data.count(b"HTTP/1.1") == 1


async def test_every_refusal_names_its_kind_and_no_address(start: Start, service: Service, refusing_port: int) -> None:
    """Proxy-Status (RFC 9209), a machine's word and a person's, and nothing of where the service is."""

    async def hang(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.read(-1)

    async with upstream(hang) as hung, upstream(answering_once(b"junk")) as junk, upstream(answering_once(b"")) as gone:
        services = {
            name: {
                "url": f"http://{host}:{port}",
                "routes": [{"prefix": f"/{name}", "auth": "none", "timeout": 0.2}],
                "breaker": {"failures": 1, "open_for": 30},
            }
            for name, host, port in [
                ("refused", "127.0.0.1", refusing_port),
                ("unknown", "no-such-host.invalid", 80),
                ("hung", "127.0.0.1", hung.port),
                ("junk", "127.0.0.1", junk.port),
                ("gone", "127.0.0.1", gone.port),
            ]
        }
        live = await start(services)
        for name, status, error, token in [
            ("refused", 502, "connect_failed", "connection_refused"),
            ("unknown", 502, "dns_failed", "dns_error"),
            ("hung", 504, "upstream_timeout", "http_response_timeout"),
            ("junk", 502, "bad_response", "http_protocol_error"),
            ("gone", 502, "connection_lost", "connection_terminated"),
            ("refused", 503, "circuit_open", "destination_unavailable"),
        ]:
            async with dial(live.port) as wire:
                response = await ask(wire, f"/{name}/x")
            assert (response.status, problem(response)["error"]) == (status, error)
            assert re.fullmatch(rf"tentaculo-link-\w+; error={token}", response.get("proxy-status") or "")
            assert (response.get("retry-after") is not None) == (status == 503)
            whole = response.raw_head + response.body
            for secret in (
                b"127.0.0.1",
                b"localhost",
                b".invalid",
                str(services[name]["url"]).rpartition(":")[2].encode(),
            ):
                assert secret not in whole or secret == b"80"
            assert b"Traceback" not in whole


@pytest.mark.parametrize(
    ("request_head", "status", "token"),
    [
        ("GET /none HTTP/1.1\r\nHost: h\r\n\r\n", 404, "destination_not_found"),
        ("GET /closed HTTP/1.1\r\nHost: h\r\n\r\n", 401, "http_request_denied"),
        ("GET /closed HTTP/1.1\r\nHost: h\r\nX-VX11-Token: no\r\n\r\n", 403, "http_request_denied"),
        ("GET /s/../x HTTP/1.1\r\nHost: h\r\n\r\n", 400, "http_request_error"),
        ("GET /s/ HTTP/1.1\r\n\r\n", 400, "http_request_error"),
        ("GET /s/ HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n", 400, "http_request_error"),
        ("POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n", 400, "http_request_error"),
        ("POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n", 413, "http_request_error"),
        (f"GET /s/{'a' * 5000} HTTP/1.1\r\nHost: h\r\n\r\n", 414, "http_request_error"),
        (f"GET /s/ HTTP/1.1\r\nHost: h\r\nX: {'a' * 5000}\r\n\r\n", 431, "http_request_error"),
        ("GET /s/ HTTP/1.1\r\nHost: h\r\n", 408, "http_request_error"),
        ("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", 501, "proxy_internal_response"),
        ("GET /off HTTP/1.1\r\nHost: h\r\n\r\n", 503, "destination_unavailable"),
    ],
)
async def test_every_refusal_of_a_request_says_whose_it_is(
    start: Start, service: Service, request_head: str, status: int, token: str
) -> None:
    """Also where no handler saw it: a client can distinguish a response of the gateway from one of a service."""
    async with upstream(answering(ok())) as up:
        services = {
            **service(up.port, max_body=10),
            "closed": {"url": f"http://127.0.0.1:{up.port}", "routes": [{"prefix": "/closed"}]},
            "off": {"url": "http://127.0.0.1:1", "enabled": False, "routes": [{"prefix": "/off", "auth": "none"}]},
        }
        live = await start(services, limits={"headers": 4096, "head_time": 0.2})
        async with dial(live.port) as wire:
            await wire.send(request_head.encode())
            response = await wire.response()
    assert response.status == status
    assert re.fullmatch(rf"tentaculo-link-\w+; error={token}", response.get("proxy-status") or "")
    assert problem(response)["request_id"] == response.get("x-request-id") == live.records[-1].request_id
    assert up.requests == []


@pytest.mark.usefixtures("notices_soon")
@pytest.mark.parametrize("resets", [False, True])
async def test_a_client_that_closes_the_connection_has_left(start: Start, service: Service, resets: bool) -> None:
    """That it has not only closed its sending half, the kernel finds out within seconds (499 in the log)."""
    async with upstream(hanging) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            await up.until(lambda: up.connections == 1)
            if resets:
                wire.writer.write_eof()
                linger = struct.pack("ii", 1, 0)
                wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            wire.writer.close()
            await up.until(lambda: up.gone == 1)
    assert [(record.status, record.error) for record in live.records] == [(499, "client_left")]


async def hanging(reader: Reader, writer: Writer, state: Upstream) -> None:
    """A script that never answers."""
    await reader.read(-1)


def answering_once(answer: bytes) -> Script:
    """A script that answers one request and hangs up."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        state.requests.append(await read_request(reader))
        writer.write(answer)
        await writer.drain()

    return script


async def test_retries_do_not_double_the_load_where_everything_fails(start: Start, service: Service) -> None:
    async def leave(reader: Reader, writer: Writer, state: Upstream) -> None:
        state.requests.append(await read_request(reader))

    async with upstream(leave) as one, upstream(leave) as two:
        live = await start(service(one.port, two.port))
        async with dial(live.port) as wire:
            details = []
            for _ in range(60):
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
                response = await wire.response()
                assert response.status == 502
                details.append(json.loads(response.body)["detail"])
    assert 70 <= len(one.requests) + len(two.requests) < 90
    assert "not repeated" not in details[0]
    assert sum("not repeated, since about a tenth of the requests may be" in one for one in details) > 30
