"""Forwarding: what happens to each header, interim answers, and nothing transformed (RFC 9110 sections 7.6, 7.7, 10.1, 15.2)."""

from __future__ import annotations

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
    upstream,
)


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
            assert (hints.status, hints.headers) == (103, [("Link", "</a.css>")])
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
