"""From request to route to answer: tokens, refusals, breakers, CORS, and what a route's keys do."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from tentaculo.tasks import TaskGroup
from tests.conftest import TOKEN, Start
from tests.wire.conftest import Service
from tests.wirekit import Reader, Request, Response, Upstream, Wire, Writer, answering, dial, ok, read_request, upstream

ORIGIN = b"http://localhost:8020"


async def ask(wire: Wire, target: str, *lines: bytes, method: str = "GET", host: str = "h") -> Response:
    """One request and its answer."""
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n".encode() + b"".join(line + b"\r\n" for line in lines)
    await wire.send(head + b"\r\n")
    return await wire.response(method)


def problem(response: Response) -> dict[str, object]:
    """The problem that an answer carries."""
    assert response.get("content-type") == "application/problem+json"
    members: dict[str, object] = json.loads(response.body)
    assert members["status_code"] == response.status
    return members


@pytest.mark.parametrize(
    ("lines", "status", "error"),
    [
        ([], 401, "auth_required"),
        ([b"X-VX11-Token: wrong"], 403, "forbidden"),
        ([b"Authorization: Bearer wrong"], 403, "forbidden"),
        ([b"Authorization: Basic abc"], 401, "auth_required"),
        ([b"X-VX11-Token: wrong", b"Authorization: Bearer " + TOKEN.encode()], 403, "forbidden"),
        ([b"X-VX11-Token: " + TOKEN.encode(), b"Authorization: Bearer other"], 200, None),
        ([b"Authorization: bearer " + TOKEN.encode()], 200, None),
    ],
)
async def test_tokens(start: Start, service: Service, lines: list[bytes], status: int, error: str | None) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port, auth="token"))
        async with dial(live.port) as wire:
            response = await ask(wire, "/s/", *lines)
    assert response.status == status
    if error is not None:
        assert problem(response)["error"] == error
        assert up.connections == 0
    if status == 401:
        assert (response.get("www-authenticate") or "").startswith("Bearer")


async def test_the_gateways_token_stays_here_and_the_services_own_goes_on(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        services = service(up.port, auth="token")
        services["s"]["token"] = "the-service-token"
        live = await start(services)
        async with dial(live.port) as wire:
            await ask(wire, "/s/", b"X-VX11-Token: " + TOKEN.encode(), b"Authorization: Bearer for-the-service")
            await ask(wire, "/s/", b"Authorization: Bearer " + TOKEN.encode())
    first, second = up.requests
    assert first.all("x-vx11-token") == second.all("x-vx11-token") == ["the-service-token"]
    assert first.get("authorization") == "Bearer for-the-service"
    assert second.all("authorization") == []


async def test_a_refusal_does_not_wait_for_the_body(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port, auth="token"))
        async with dial(live.port) as wire:
            response = await ask(wire, "/s/", b"Content-Length: 1000000", method="POST")
            assert (response.status, response.get("connection")) == (401, "close")


async def test_an_unknown_path_is_a_404_that_tells_no_secrets(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            response = await ask(wire, "/nothing?token=abc")
            assert problem(response)["error"] == "not_found"
            assert set(problem(response)) == {"type", "title", "status", "status_code", "error", "request_id"}
            assert (await ask(wire, "/switchboard")).status == 404
            page = await ask(wire, "/nothing", b"Accept: text/html,application/xhtml+xml")
            assert (page.status, page.get("content-type")) == (404, "text/html; charset=utf-8")
            assert (await ask(wire, "/nothing", method="HEAD")).status == 404
    assert live.records[0].target == "/nothing"


@pytest.mark.parametrize(
    "target",
    [
        "/s/../x",
        "/s/%2e%2e/x",
        "/s/.%2E/x",
        "/s/..;a=b/x",
        "/s/./x",
        "/s/a%2f../x",
        "/s/%2e%2e%5cx",
        "/s\\x",
        "/s/%00",
        "/s/..",
        "/s#x",
    ],
)
async def test_a_path_that_could_be_read_in_two_ways_is_refused(start: Start, service: Service, target: str) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            assert (await ask(wire, target)).status == 400
    assert up.connections == 0


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


async def test_absolute_form_wins_over_host(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            assert (await ask(wire, "http://wins.example/s/x?y=1", host="loses")).status == 200
    assert (up.requests[0].target, up.requests[0].get("host")) == ("/x?y=1", "wins.example")


async def test_prefixes_hosts_and_root(start: Start) -> None:
    async with upstream(answering(lambda request: ok(request.target.encode()))) as up:
        url = f"http://127.0.0.1:{up.port}"
        live = await start(
            {
                "madre": {
                    "url": url,
                    "routes": [
                        {"prefix": "/madre", "auth": "none"},
                        {"prefix": "/madre/tasks", "to": "/tasks", "auth": "none"},
                        {"prefix": "/madre", "host": "other.example", "to": "/elsewhere", "auth": "none"},
                    ],
                },
                "site": {"url": url, "routes": [{"prefix": "/", "auth": "none"}]},
            }
        )
        async with dial(live.port) as wire:
            for target, host, seen in [
                ("/madre/x", "h", "/madre/x"),
                ("/madre", "h", "/madre"),
                ("/madre/tasks/5?a=b", "h", "/tasks/5?a=b"),
                ("/madre/tasksx", "h", "/madre/tasksx"),
                ("/madre/x", "other.example:8000", "/elsewhere/x"),
                ("/madres", "h", "/madres"),
                ("/", "h", "/"),
                ("/events/other", "h", "/events/other"),
            ]:
                assert (await ask(wire, target, host=host)).body.decode() == seen
            for target in ("/health", "/health?x=y", "http://any.example/health"):
                assert json.loads((await ask(wire, target)).body)["module"] == "tentaculo_link"


async def test_the_health_path_of_a_service(start: Start) -> None:
    async with upstream(answering(lambda request: ok(request.target.encode()))) as up:
        live = await start(
            {
                "shubniggurath": {
                    "url": f"http://127.0.0.1:{up.port}",
                    "aliases": ["shub"],
                    "health": ["/healthz", "/health"],
                    "routes": [{"prefix": "/shubniggurath"}],
                }
            }
        )
        async with dial(live.port) as wire:
            assert (await ask(wire, "/shubniggurath/health")).status == 401
            for name in ("shubniggurath", "shub"):
                assert (await ask(wire, f"/{name}/health", live.auth.strip())).body == b"/healthz"
            posted = await ask(wire, "/shubniggurath/health", live.auth.strip(), method="POST")
            assert posted.body == b"/shubniggurath/health"


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


async def test_a_request_that_came_from_here_is_a_loop(start: Start, service: Service) -> None:
    seen: list[str] = []

    def answer(request: Request) -> bytes:
        seen.append(request.get("via") or "")
        return ok()

    async with upstream(answering(answer)) as up:
        own = await start(service(up.port))
        async with dial(own.port) as wire:
            await ask(wire, "/s/")
            response = await ask(wire, "/s/", b"Via: " + seen[0].encode())
    assert (response.status, problem(response)["error"]) == (508, "loop_detected")


async def test_headers_set_and_removed_by_a_route(start: Start, service: Service) -> None:
    async with upstream(answering(ok(b"x", b"Server: secret/1.0", b"X-Keep: 1", b"Cache-Control: none"))) as up:
        live = await start(
            service(
                up.port,
                set_headers={"X-Tenant": "one", "User-Agent": "gateway"},
                remove_headers=["Cookie"],
                set_response_headers={"Cache-Control": "no-store"},
                remove_response_headers=["server"],
            )
        )
        async with dial(live.port) as wire:
            response = await ask(wire, "/s/", b"Cookie: a=b", b"User-Agent: curl", b"X-Tenant: forged")
    request = up.requests[0]
    assert (request.all("x-tenant"), request.all("user-agent"), request.all("cookie")) == (["one"], ["gateway"], [])
    assert (response.all("server"), response.all("cache-control"), response.get("x-keep")) == ([], ["no-store"], "1")


async def test_host_override(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        services = service(up.port)
        services["s"]["host"] = "inner.example"
        live = await start(services)
        async with dial(live.port) as wire:
            await ask(wire, "/s/")
    assert up.requests[0].get("host") == "inner.example"
    assert up.requests[0].get("x-forwarded-host") == "h"


async def test_location_and_cookie_paths_come_back_with_the_prefix(start: Start, service: Service) -> None:
    answers = {
        "/relative": b"Location: /login?next=/x",
        "/absolute": b"Location: http://h/login",
        "/foreign": b"Location: https://else.example/login",
        "/cookie": b"Set-Cookie: a=b; HttpOnly; Path=/; Secure",
    }
    async with upstream(answering(lambda request: ok(b"", answers[request.target], status=b"302 Found"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            assert (await ask(wire, "/s/relative")).get("location") == "/s/login?next=/x"
            assert (await ask(wire, "/s/absolute")).get("location") == "http://h/s/login"
            assert (await ask(wire, "/s/foreign")).get("location") == "https://else.example/login"
            assert (await ask(wire, "/s/cookie")).get("set-cookie") == "a=b; HttpOnly; Path=/s; Secure"


async def test_cors_for_listed_origins_only(start: Start, service: Service) -> None:
    async with upstream(answering(ok(b"x", b"Access-Control-Allow-Origin: *", b"Vary: Accept"))) as up:
        live = await start(service(up.port, auth="token"))
        async with dial(live.port) as wire:
            asked = (b"Access-Control-Request-Method: PUT", b"Access-Control-Request-Headers: x-vx11-token")
            preflight = await ask(wire, "/s/", b"Origin: " + ORIGIN, *asked, method="OPTIONS")
            assert preflight.status == 204
            assert preflight.get("access-control-allow-origin") == ORIGIN.decode()
            assert preflight.get("access-control-allow-methods") == "PUT"
            assert up.requests == []
            # Before authentication for listed origins; anybody else's goes its ordinary way.
            foreign = await ask(wire, "/s/", b"Origin: http://evil.example", *asked, method="OPTIONS")
            assert foreign.status == 401
            refused = await ask(wire, "/s/", b"Origin: " + ORIGIN)
            assert (refused.status, refused.get("access-control-allow-origin")) == (401, ORIGIN.decode())
            listed = await ask(wire, "/s/", b"Origin: " + ORIGIN, live.auth.strip())
            assert listed.all("access-control-allow-origin") == [ORIGIN.decode()]
            assert listed.get("access-control-allow-credentials") == "true"
            assert listed.all("vary") == ["Accept", "Origin"]
            other = await ask(wire, "/s/", b"Origin: http://evil.example", live.auth.strip())
            assert other.all("access-control-allow-origin") == ["*"]


async def test_a_hung_service_slows_no_other(start: Start) -> None:
    async def hang(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        state.requests.append(Request("", "", [], b"", b""))
        await state.note()
        await reader.read(1)

    async with upstream(hang) as bad, upstream(answering(ok(b"good"))) as good:
        live = await start(
            {
                name: {"url": f"http://127.0.0.1:{port}", "routes": [{"prefix": f"/{name}", "auth": "none"}]}
                for name, port in (("bad", bad.port), ("good", good.port))
            }
        )

        async def stick() -> None:
            async with dial(live.port) as wire:
                await wire.send(b"GET /bad HTTP/1.1\r\nHost: h\r\n\r\n")
                await wire.rest()

        stuck = TaskGroup("stuck")
        for _ in range(200):
            stuck.start(stick(), "client")
        await bad.until(lambda: len(bad.requests) == 200)
        async with dial(live.port) as wire:
            for _ in range(20):
                async with asyncio.timeout(1):
                    assert (await ask(wire, "/good")).body == b"good"
        await stuck.close()
        await bad.until(lambda: bad.gone == 200)


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
