"""A client that sends the same fields again is remembered, and nobody gets what was another's or of another request."""

from __future__ import annotations

from tests.conftest import TOKEN, Start
from tests.support.wire import Request, answering, dial, ok, upstream
from tests.wire.conftest import Service

FIELDS = (
    b"Host: h\r\nX-VX11-Token: "
    + TOKEN.encode()
    + b"\r\nX-One: 1\r\nUpgrade: websocket\r\nConnection: upgrade, X-Gone\r\nX-Gone: 1\r\n"
)


def told(request: Request) -> list[tuple[str, str]]:
    """The fields of a request, but for its id."""
    return [field for field in request.headers if field[0] != "X-Request-ID"]


async def test_the_same_fields_again_mean_the_same(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port, auth="token"))
        async with dial(live.port) as wire:
            for target in (b"/s/1", b"/s/2?x=y", b"/s/3"):
                await wire.send(b"GET " + target + b" HTTP/1.1\r\n" + FIELDS + b"\r\n")
                assert (await wire.response()).status == 200
    one, two, three = up.requests
    assert [request.target for request in up.requests] == ["/1", "/2?x=y", "/3"]
    assert told(one) == told(two) == told(three)
    assert len({request.get("x-request-id") for request in up.requests}) == 3
    assert one.all("x-gone") == []


async def test_another_method_route_or_field_is_another_request(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        services = service(up.port, auth="token")
        services["t"] = {**services["s"], "token": "other", "routes": [{"prefix": "/t", "set_headers": {"X-One": "2"}}]}
        live = await start(services)
        async with dial(live.port) as wire:

            async def ask(line: bytes, fields: bytes = FIELDS) -> Request:
                await wire.send(line + b" HTTP/1.1\r\n" + fields + b"\r\n")
                assert (await wire.response()).status == 200
                return up.requests[-1]

            first = await ask(b"GET /s/")
            assert first.get("upgrade") == "websocket"
            assert (await ask(b"POST /s/")).all("upgrade") == []
            assert told(await ask(b"GET /s/")) == told(first)
            other = await ask(b"GET /t/")
            assert (other.get("x-one"), other.get("x-vx11-token")) == ("2", "other")
            assert told(await ask(b"GET /s/")) == told(first)
            assert (await ask(b"GET /s/", FIELDS.replace(b"X-One: 1", b"X-One: 3"))).get("x-one") == "3"
            assert told(await ask(b"GET http://h/s/")) == told(first)
            assert (await ask(b"GET http://else/s/")).get("host") == "else"
            assert (await ask(b"TRACE /s/", FIELDS + b"Cookie: secret\r\n")).all("cookie") == []
            assert (await ask(b"GET /s/", FIELDS + b"Cookie: secret\r\n")).get("cookie") == "secret"


async def test_a_wrong_token_stays_wrong_and_a_right_one_right(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port, auth="token"))
        async with dial(live.port) as wire:
            for token, status in ((b"x", 403), (b"x", 403), (TOKEN.encode(), 200), (b"x", 403), (TOKEN.encode(), 200)):
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\nX-VX11-Token: " + token + b"\r\n\r\n")
                assert (await wire.response()).status == status
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.response()).status == 401


async def test_the_same_head_of_an_answer_for_different_clients(start: Start, service: Service) -> None:
    async with upstream(answering(ok(b"x", b"Access-Control-Allow-Origin: *"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for _ in range(2):
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
                assert (await wire.response()).all("access-control-allow-origin") == ["*"]
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\nOrigin: http://localhost:8020\r\n\r\n")
                assert (await wire.response()).all("access-control-allow-origin") == ["http://localhost:8020"]
                await wire.send(b"HEAD /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
                assert (await wire.response("HEAD")).get("content-length") == "1"
            await wire.send(b"GET /s/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert (await wire.response()).get("connection") == "keep-alive"
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            assert (await wire.response()).get("connection") == "close"
    assert up.connections == 3  # a body behind the answer to HEAD is nobody else's head
