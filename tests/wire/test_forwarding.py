"""Forwarding: what happens to each header, interim answers, and nothing transformed (RFC 9110 sections 7.6, 7.7, 10.1, 15.2)."""

from __future__ import annotations

import gzip

import pytest

from tests.conftest import Start
from tests.support.wire import Request, answering, dial, ok, upstream
from tests.wire.asking import ask, problem
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")


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
    forged = (
        b"X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\n"
        b"X-Original-URL: /admin/6.6.6.6\r\nX-Rewrite-URL: /admin/6.6.6.6\r\n"
    )
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
                b"X-Request-ID: theirs\r\nX-Original-URL: /app\r\n\r\n"
            )
            response = await wire.response()
    assert up.requests[0].get("x-forwarded-for") == "9.9.9.9, 127.0.0.1"
    assert up.requests[0].get("x-forwarded-proto") == "https"
    assert up.requests[0].get("x-real-ip") == "9.9.9.9"
    assert up.requests[0].get("x-original-url") == "/app"
    assert response.get("x-request-id") == up.requests[0].get("x-request-id") == "theirs"


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


GET = b"GET /s/ HTTP/1.1\r\nHost: h\r\n"


async def test_fields_keep_their_order_repetition_case_and_bytes(start: Start, service: Service) -> None:
    lines = b"X-A: 1\r\nx-b: \xff\xfe \xc3\xa9\r\nX-a: 2\r\nCookie: a=1\r\nX-EMPTY: \r\nCookie: b=2\r\nX-A: 1\r\n"
    back = (b"X-A: 1", b"Set-Cookie: a=\xff", b"x-b: \xfe\xe9", b"Set-Cookie: b", b"X-A: 1", b"X-Empty:", b"Link: a, b")
    async with upstream(answering(ok(b"", *back))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(GET + lines + b"\r\n")
            response = await wire.response()
    assert lines in up.requests[0].raw_head
    assert b"\r\n".join(back) + b"\r\n" in response.raw_head


async def test_nothing_is_invented_in_an_answer(start: Start, service: Service) -> None:
    """No Server or Content-Type of ours; the upstream's own are left as they are."""
    async with upstream(
        answering(lambda request: ok() if request.target == "/" else ok(b"", b"Date: x", b"Server: y"))
    ) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(GET + b"\r\n")
            bare = await wire.response()
            await wire.send(b"GET /s/full HTTP/1.1\r\nHost: h\r\n\r\n")
            full = await wire.response()
    assert [name for name, _ in bare.headers] == ["Content-Length", "Via", "X-Request-ID", "X-Correlation-Id", "Date"]
    assert full.headers[:2] == [("Date", "x"), ("Server", "y")]


async def test_nothing_is_transformed(start: Start, service: Service) -> None:
    """No decompression, no redirect followed, no cookie kept between two requests."""
    packed = gzip.compress(b"x" * 1000)
    answer = ok(packed, b"Content-Encoding: gzip", b"Location: /else", b"Set-Cookie: a=b", status=b"307 Moved")
    async with upstream(answering(answer)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for _ in range(2):
                body = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(packed), packed)
                await wire.send(b"POST /s/ HTTP/1.1\r\nHost: h\r\nAccept-Encoding: br\r\n" + body)
                response = await wire.response()
                assert (response.status, response.body) == (307, packed)
    assert len(up.requests) == 2
    assert [request.body for request in up.requests] == [packed] * 2
    assert up.requests[1].all("cookie") == []


async def test_connection_cannot_name_what_the_gateway_says(start: Start, service: Service) -> None:
    ours = (
        b"Host, Content-Length, Transfer-Encoding, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Real-IP, "
        b"Forwarded, X-Request-ID, Via, X-VX11-Token, X-Tenant"
    )
    async with upstream(answering(ok())) as up:
        services = service(up.port, set_headers={"X-Tenant": "one"}, send_token=True)
        services["s"]["token"] = "the-services-own"
        live = await start(services)
        async with dial(live.port) as wire:
            await wire.send(
                b"POST /s/ HTTP/1.1\r\nHost: h\r\nConnection: " + ours + b"\r\nConnection: X-Mine\r\nX-Mine: 1\r\n"
                b"X-Tenant: forged\r\nContent-Length: 2\r\n\r\nhi"
            )
            assert (await wire.response()).status == 200
    request = up.requests[0]
    for name in ours.decode().split(", "):
        if name != "Transfer-Encoding":
            assert request.get(name), name
    assert (request.get("x-tenant"), request.get("x-vx11-token"), request.body) == ("one", "the-services-own", b"hi")
    assert request.all("x-mine") == request.all("connection") == []


async def test_what_the_upstreams_connection_names_goes_no_further(start: Start, service: Service) -> None:
    lines = (
        b"Connection: X-Private, Set-Cookie", b"connection: Via, X-Request-ID, Content-Length", b"X-Private: 1",
        b"Set-Cookie: a=b", b"Proxy-Connection: keep-alive", b"TE: x", b"Upgrade: h2c", b"Trailer: X", b"Via: 1.1 inner",
    )  # fmt: skip
    async with upstream(answering(ok(b"ok", *lines))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(GET + b"\r\n")
            response = await wire.response()
    assert [name for name, _ in response.headers] == [
        "Content-Length",
        "Via",
        "X-Request-ID",
        "X-Correlation-Id",
        "Date",
    ]
    assert (response.get("via") or "").startswith("1.1 tentaculo-link")


@pytest.mark.parametrize(
    ("lines", "sent"),
    [
        (b"TE: trailers\r\n", ["trailers"]),
        (b"TE: gzip\r\nTE: deflate, Trailers\r\n", ["trailers"]),
        (b"TE: gzip;q=0.5\r\n", []),
        (b"TE:\r\n", []),
        (b"", []),
    ],
)
async def test_te_goes_on_as_trailers_only(start: Start, service: Service, lines: bytes, sent: list[str]) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(GET + lines + b"\r\n")
            await wire.response()
    assert up.requests[0].all("te") == sent
    assert up.requests[0].all("connection") == (["TE"] if sent else [])


async def test_via_names_each_hop_both_ways(start: Start, service: Service) -> None:
    async with upstream(answering(b"HTTP/1.0 200 OK\r\nVia: 1.1 inner\r\nContent-Length: 0\r\n\r\n")) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.0\r\nVia: 1.1 outer\r\nVia: 1.0 other (x)\r\n\r\n")
            response = await wire.response()
    said, answered = up.requests[0].all("via"), response.all("via")
    assert said[:2] == ["1.1 outer", "1.0 other (x)"]
    assert answered[0] == "1.1 inner"
    assert said[2].startswith("1.0 tentaculo-link")
    assert answered[1] == said[2]


async def test_a_route_may_leave_via_out(start: Start, service: Service) -> None:
    """As for nginx, which by default compresses nothing for a request that has Via."""
    async with upstream(answering(ok(b"x", b"Via: 1.1 inner"))) as up:
        live = await start(service(up.port, via=False))
        async with dial(live.port) as wire:
            for _ in range(2):
                await wire.send(GET + b"Via: 1.1 outer\r\n\r\n")
                assert (await wire.response()).all("via") == ["1.1 inner"]
    assert [request.all("via") for request in up.requests] == [["1.1 outer"]] * 2


async def test_max_forwards_means_nothing_elsewhere(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for line in (b"GET", b"OPTIONS"):
                for value in (b"0", b"x", b"-1", b"10, 9"):
                    if (line, value) != (b"OPTIONS", b"0"):
                        await wire.send(line + b" /s/ HTTP/1.1\r\nHost: h\r\nMax-Forwards: " + value + b"\r\n\r\n")
                        assert (await wire.response()).body == b"ok"
    assert up.requests[0].get("max-forwards") == "0"


async def test_trace_tells_no_secret_to_anybody(start: Start, service: Service) -> None:
    secrets = (
        b"Cookie: secret\r\nAuthorization: Bearer secret\r\nX-VX11-Token: secret\r\nProxy-Authorization: secret\r\n"
    )
    async with upstream(answering(lambda request: ok(request.raw_head))) as up:
        services = service(up.port)
        services["s"]["token"] = "the-services-own"
        live = await start(services)
        async with dial(live.port) as wire:
            for line in (b"", b"Max-Forwards: 0\r\n"):
                await wire.send(b"TRACE /s/ HTTP/1.1\r\nHost: h\r\n" + secrets + line + b"\r\n")
                response = await wire.response()
                assert response.status == 200
                assert b"secret" not in response.body
                assert b"the-services-own" not in response.body
