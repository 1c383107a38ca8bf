"""The cookie of a sign-in never reaches a service, and no service sets it, however a request is served."""

from __future__ import annotations

import pytest

from tests.conftest import TOKEN, Start
from tests.support.wire import answering, dial, ok, upstream
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")

PLAIN, HOST_ONLY = b"tentaculo_session=secret", b"__Host-tentaculo_session=secret"
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Set-Cookie: __Host-tentaculo_session=forged; Path=/; Secure\r\nSet-Cookie: own=1\r\n\r\n"
)
HANDSHAKE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
AUTH = b"X-VX11-Token: " + TOKEN.encode() + b"\r\n"


@pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS", b"TRACE"])
async def test_no_service_sees_it(start: Start, service: Service, method: bytes) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port, auth="none"))
        async with dial(live.port) as wire:
            for _ in range(3):  # the later ones repeat the head of the first one
                await wire.send(
                    method + b" /s/ HTTP/1.1\r\nHost: h\r\nCookie: a=b; " + PLAIN + b"; c=d\r\n"
                    b"cookie: " + HOST_ONLY + b"\r\nCookie: e=f;" + HOST_ONLY + b"\r\nContent-Length: 0\r\n\r\n"
                )
                assert (await wire.response(method.decode())).status == 200
            other = b" /s/other?x=1 HTTP/1.1\r\nHost: h\r\nCookie: " + PLAIN + b"\r\nContent-Length: 0\r\n\r\n"
            await wire.send(method + other)
            assert (await wire.response(method.decode())).status == 200
    assert len(up.requests) == 4
    assert b"secret" not in b"".join(request.raw_head for request in up.requests)
    kept = [] if method == b"TRACE" else ["a=b; c=d", "e=f"]
    assert [request.all("cookie") for request in up.requests] == [kept, kept, kept, []]


@pytest.mark.parametrize("auth", [b"", AUTH])
async def test_it_is_no_credential_for_a_service(start: Start, service: Service, auth: bytes) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port, auth="token"))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\nCookie: " + PLAIN + b"\r\n" + auth + b"\r\n")
            assert (await wire.response()).status == (200 if auth else 401)
    assert len(up.requests) == bool(auth)


async def test_nor_does_one_behind_an_upgrade(start: Start, service: Service) -> None:
    async with upstream(answering(SWITCH)) as up:
        live = await start(service(up.port, auth="none"))
        async with dial(live.port) as wire:
            cookies = b"Cookie: " + PLAIN + b"; a=b; " + HOST_ONLY + b"\r\n"
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n" + HANDSHAKE + cookies + b"\r\n")
            head = await wire.head()
    assert (head.status, head.all("set-cookie")) == (101, ["own=1"])
    assert up.requests[0].all("cookie") == ["a=b"]


async def test_no_service_sets_it(start: Start, service: Service) -> None:
    lines = (
        *(
            b"Set-Cookie: tentaculo_session=forged; Path=/",
            b"set-cookie: a=1",
            b"Set-Cookie: __Host-tentaculo_session=",
        ),
        *(b"Set-Cookie: =tentaculo_session=forged", b"Set-Cookie: tentaculo_session_of_mine=1; Path=/"),
    )
    early = b"HTTP/1.1 103 Early Hints\r\nSet-Cookie: tentaculo_session=forged\r\nLink: </a>\r\n\r\n"
    async with upstream(answering(early + ok(b"", *lines))) as up:
        live = await start(service(up.port, auth="none"))
        async with dial(live.port) as wire:
            for _ in range(2):
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
                hints = await wire.head()
                assert (hints.status, hints.all("set-cookie")) == (103, [])
                response = await wire.response()
                assert response.all("set-cookie") == ["a=1", "tentaculo_session_of_mine=1; Path=/s"]
