"""Which requests carry a service's own token to it, and which never do."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from tests.conftest import TOKEN, Start
from tests.support.wire import Request, answering, dial, ok, upstream

pytestmark = pytest.mark.usefixtures("both_ways")

OWN = "the-services-own"
AUTH = f"X-VX11-Token: {TOKEN}"
BEARER = f"Authorization: Bearer {TOKEN}"


async def received(start: Start, *lines: str, method: str = "GET", enabled: bool = True, **route: Any) -> Request:
    """What the service receives of a request with these header lines."""
    async with upstream(answering(ok())) as up:
        url = f"http://127.0.0.1:{up.port}"
        table = {"madre": {"url": url, "token": OWN, "routes": [{"prefix": "/madre", **route}]}}
        live = await start(table, auth={"enabled": enabled})
        head = "".join(f"{line}\r\n" for line in (f"{method} /madre/x HTTP/1.1", "Host: h", *lines))
        async with dial(live.port) as wire:
            # Twice: the second one is served from what was cached for the first.
            for _ in range(2):
                await wire.send(head.encode() + b"\r\n")
                assert (await wire.response()).status == 200
        first, second = up.requests
        assert first.all("x-vx11-token") == second.all("x-vx11-token")
        return first


@pytest.mark.parametrize("line", [AUTH, BEARER])
@pytest.mark.parametrize("auth", ["token", "none"])
async def test_an_authenticated_request_carries_it_in_place_of_the_clients(start: Start, line: str, auth: str) -> None:
    request = await received(start, line, auth=auth)
    assert request.all("x-vx11-token") == [OWN]
    assert request.all("authorization") == []


@pytest.mark.parametrize(
    "lines", [[], ["X-VX11-Token: wrong"], ["X-VX11-Token:"], ["Authorization: Bearer an-apps-own"]]
)
async def test_an_anonymous_request_of_an_open_route_carries_none(start: Start, lines: list[str]) -> None:
    request = await received(start, *lines, auth="none")
    assert request.all("x-vx11-token") == []
    assert request.all("authorization") == [line.partition(": ")[2] for line in lines if line.startswith("Auth")]


@pytest.mark.parametrize("auth", ["token", "none"])
async def test_authorization_with_a_token_of_the_gateway_never_reaches_the_service(start: Start, auth: str) -> None:
    assert (await received(start, AUTH, BEARER, auth=auth)).all("authorization") == []
    other = await received(start, AUTH, "Authorization: Bearer an-apps-own", auth=auth)
    assert other.all("authorization") == ["Bearer an-apps-own"]


@pytest.mark.parametrize(
    "value",
    [
        *(f"bearer  {TOKEN}", f"Bearer\t{TOKEN}", f"Token {TOKEN}", f"ApiKey {TOKEN} ", TOKEN),
        # http://user:token@gateway/ and http://token@gateway/, as curl and browsers send them.
        *(f"Basic {b64encode(text.encode()).decode()}" for text in (f"ana:{TOKEN}", f"{TOKEN}:", TOKEN)),
    ],
)
async def test_a_token_of_the_gateway_in_any_scheme_never_reaches_the_service(start: Start, value: str) -> None:
    assert (await received(start, AUTH, f"Authorization: {value}")).all("authorization") == []
    assert (await received(start, f"Authorization: {value}", auth="none")).all("authorization") == []


@pytest.mark.parametrize("value", ["Basic YW5hOnNlY3JldA==", "Basic !", "Basic", "Digest a=b", "x", "Basic é"])
async def test_any_other_authorization_is_the_services(start: Start, value: str) -> None:
    expected = value.encode().decode("latin-1")
    assert (await received(start, AUTH, f"Authorization: {value}")).all("authorization") == [expected]


@pytest.mark.parametrize("line", ["X-VX11-Token: wrong", f"X-VX11-Token: {TOKEN}\r\nX-VX11-Token: {TOKEN}"])
async def test_it_does_not_where_another_header_made_the_request_anonymous(start: Start, line: str) -> None:
    request = await received(start, line, BEARER, auth="none")
    assert (request.all("authorization"), request.all("x-vx11-token")) == ([], [])


async def test_without_authentication_every_request_is_anonymous(start: Start) -> None:
    assert (await received(start, AUTH, enabled=False)).all("x-vx11-token") == []


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("lines", [[], ["X-VX11-Token: wrong"]])
async def test_a_route_may_ask_to_send_it_always(start: Start, lines: list[str], enabled: bool) -> None:
    request = await received(start, *lines, enabled=enabled, auth="none", send_token=True)
    assert request.all("x-vx11-token") == [OWN]


async def test_the_preflight_of_an_unlisted_origin_carries_none(start: Start) -> None:
    lines = ("Origin: https://other.example", "Access-Control-Request-Method: GET", BEARER)
    request = await received(start, *lines, method="OPTIONS")
    assert (request.all("x-vx11-token"), request.all("authorization")) == ([], [])


async def test_one_that_is_sent_to_a_route_does_not_reach_another_route_by_a_cached_head(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        routes = [{"prefix": "/open", "auth": "none"}, {"prefix": "/sent", "auth": "none", "send_token": True}]
        live = await start({"madre": {"url": f"http://127.0.0.1:{up.port}", "token": OWN, "routes": routes}})
        async with dial(live.port) as wire:
            for path in ("/open", "/sent", "/open", "/sent"):
                await wire.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
                assert (await wire.response()).status == 200
    assert [request.all("x-vx11-token") for request in up.requests] == [[], [OWN], [], [OWN]]
