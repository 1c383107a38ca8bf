"""The application on the wire: tokens, refusals before the body, what is never told, CORS."""

from __future__ import annotations

import pytest

from tests.conftest import TOKEN, Start
from tests.wire.asking import ask, problem
from tests.wire.conftest import Service
from tests.wirekit import (
    answering,
    dial,
    ok,
    upstream,
)

ORIGIN = b"http://localhost:8020"


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
            # Anybody else's is the service's to judge, and comes without a token of ours.
            foreign = await ask(wire, "/s/", b"Origin: http://evil.example", *asked, method="OPTIONS")
            assert foreign.status == 200
            assert up.requests.pop().all("x-vx11-token") == []
            plain = await ask(wire, "/s/", b"Origin: http://evil.example", method="OPTIONS")
            assert plain.status == 401
            refused = await ask(wire, "/s/", b"Origin: " + ORIGIN)
            assert (refused.status, refused.get("access-control-allow-origin")) == (401, ORIGIN.decode())
            listed = await ask(wire, "/s/", b"Origin: " + ORIGIN, live.auth.strip())
            assert listed.all("access-control-allow-origin") == [ORIGIN.decode()]
            assert listed.get("access-control-allow-credentials") == "true"
            assert listed.all("vary") == ["Accept", "Origin"]
            other = await ask(wire, "/s/", b"Origin: http://evil.example", live.auth.strip())
            assert other.all("access-control-allow-origin") == ["*"]
