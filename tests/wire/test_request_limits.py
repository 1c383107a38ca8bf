"""Limits of requests and networks of clients over real sockets, with and without a task."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from tests.conftest import TOKEN, Live, Start
from tests.support.waits import eventually
from tests.support.wire import (
    WEBSOCKET,
    Reader,
    Request,
    Response,
    Upstream,
    Writer,
    answering,
    dial,
    ok,
    read_request,
    upstream,
)

pytestmark = pytest.mark.usefixtures("both_ways")

TRUSTED = {"port": 0, "grace": 1, "trusted_proxies": ["127.0.0.0/8"]}
AUTH = b"X-VX11-Token: " + TOKEN.encode()
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
ITEM = re.compile(r'"([^"]*)"((?:;[a-z]+=[^;,]+)*)')


def services(port: int, *limits: dict[str, Any], **route: Any) -> dict[str, Any]:
    table = {"prefix": "/madre", "auth": "none", **({"limits": list(limits)} if limits else {}), **route}
    return {"madre": {"url": f"http://127.0.0.1:{port}", "routes": [table]}}


def get(target: str, *lines: bytes, method: str = "GET") -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: gateway\r\n".encode()
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


async def ask(live: Live, target: str, *lines: bytes, method: str = "GET") -> Response:
    """The response to one request on a connection of its own."""
    async with dial(live.port) as wire:
        await wire.send(get(target, *lines, method=method))
        return await wire.response(method)


def items(response: Response, name: str) -> dict[str, dict[str, str]]:
    """The items of a structured list, with their parameters."""
    value = response.get(name)
    assert value is not None, f"{name} is missing"
    found = {word: dict(one.split("=", 1) for one in rest.split(";") if one) for word, rest in ITEM.findall(value)}
    assert found
    return found


def assert_limited(response: Response, *names: str, error: str = "rate_limited") -> dict[str, Any]:
    assert response.status == 429
    assert response.get("content-type") == "application/problem+json"
    problem: dict[str, Any] = json.loads(response.body)
    assert problem["error"] == error
    assert problem["violated-policies"] == list(names)
    assert all(name in problem["detail"] for name in names)
    assert int(response.get("retry-after") or 0) == problem["retry_after"] >= 1
    assert "http_request_denied" in (response.get("proxy-status") or "")
    for name in names:
        assert name in items(response, "ratelimit-policy")
        assert items(response, "ratelimit")[name]["r"] == "0"
    return problem


async def test_a_rate_over_a_kept_connection(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port, {"rate": "3/h", "per": "address"}))
        async with dial(live.port) as wire:
            for left in (2, 1, 0):
                await wire.send(get("/madre/x"))
                response = await wire.response()
                assert response.status == 200
                assert items(response, "ratelimit-policy") == {"3/h per address": {"q": "3", "w": "3600"}}
                assert items(response, "ratelimit")["3/h per address"]["r"] == str(left)
            for _ in range(3):
                await wire.send(get("/madre/x"))
                problem = assert_limited(await wire.response(), "3/h per address")
                assert problem["service"] == "madre"
                assert 1190 <= problem["retry_after"] <= 1200
            await wire.send(get("/livez"))
            assert (await wire.response()).status == 200
        assert len(up.requests) == 3
        refused = [record for record in live.records if record.error is not None]
        assert [(one.status, one.error, one.service) for one in refused] == [(429, "rate_limited", "madre")] * 3
        assert "3/h per address" in (refused[0].detail or "")


async def test_it_recovers_after_the_seconds_of_retry_after(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port, {"rate": "1/2s", "per": "route"}))
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert (await ask(live, "/madre/x")).status == 200
        response = await ask(live, "/madre/x")
        refused_at = loop.time()
        assert_limited(response, "1/2s per route")
        assert response.get("retry-after") == "2"
        passed = False
        while loop.time() < began + 1.5:
            if (await ask(live, "/madre/x")).status == 200:
                passed = True
                assert loop.time() >= began + 2, "it lets more through than the rate"
            await asyncio.sleep(0.05)
        await asyncio.sleep(max(0.0, refused_at + 2 - loop.time()))
        assert passed or (await ask(live, "/madre/x")).status == 200


async def test_requests_that_are_sent_at_once_are_counted_one_by_one(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port, {"rate": "2/h", "per": "route"}))
        async with dial(live.port) as wire:
            await wire.send(get("/madre/x") * 5)
            statuses = [(await wire.response()).status for _ in range(5)]
        assert statuses == [200, 200, 429, 429, 429]
        assert len(up.requests) == 2


async def test_callers_are_counted_by_their_tokens_and_others_by_address(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port, {"rate": "1/h"}))
        assert (await ask(live, "/madre/x")).status == 200
        assert (await ask(live, "/madre/x")).status == 429
        assert (await ask(live, "/madre/x", AUTH)).status == 200
        assert (await ask(live, "/madre/x", AUTH)).status == 429
        # On an open route a token that is not accepted makes nobody another caller.
        for number in range(3):
            assert (await ask(live, "/madre/x", b"X-VX11-Token: made-up-%d" % number)).status == 429


async def test_who_is_not_let_in_uses_nothing_up(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port, {"rate": "1/h", "per": "route"}, auth="token"))
        for _ in range(3):
            assert (await ask(live, "/madre/x")).status == 401
        assert (await ask(live, "/madre/x", AUTH)).status == 200
        assert (await ask(live, "/madre/x", AUTH)).status == 429


@pytest.mark.parametrize("name", [b"X-Forwarded-For", b"X-Real-IP", b"Forwarded"])
async def test_what_an_untrusted_peer_says_of_its_address_counts_for_nothing(start: Start, name: bytes) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port, {"rate": "1/h", "per": "address"}))
        value = b"for=10.0.0.%d" if name == b"Forwarded" else b"10.0.0.%d"
        found = [(await ask(live, "/madre/x", name + b": " + value % number)).status for number in range(3)]
        assert found == [200, 429, 429]


@pytest.mark.parametrize("name", [b"X-Forwarded-For", b"X-Real-IP", b"Forwarded"])
async def test_the_clients_of_a_trusted_proxy_are_counted_apart(start: Start, name: bytes) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port, {"rate": "1/h", "per": "address"}), server=TRUSTED)
        value = b'for="[2001:db8:0:%d::%d]:4711"' if name == b"Forwarded" else b"2001:db8:0:%d::%d"

        async def status(network: int, host: int) -> int:
            return (await ask(live, "/madre/x", name + b": " + value % (network, host))).status

        assert await status(1, 1) == 200
        assert await status(1, 2) == 429, "the network of one customer has many addresses"
        assert await status(2, 1) == 200


async def test_a_client_of_a_trusted_proxy_cannot_put_addresses_before_its_own(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port, {"rate": "1/h", "per": "address"}), server=TRUSTED)
        found = [
            (await ask(live, "/madre/x", b"X-Forwarded-For: 10.9.9.%d, 192.0.2.1" % number)).status
            for number in range(3)
        ]
        assert found == [200, 429, 429]


async def test_a_service_keeps_its_own_fields_beside_the_gateways(start: Start) -> None:
    own = (b'RateLimit-Policy: "service";q=7;w=1', b'RateLimit: "service";r=6;t=1')
    async with upstream(answering(ok(b"x", *own))) as up:
        live = await start(services(up.port, {"rate": "9/h", "per": "route"}))
        for _ in range(2):
            response = await ask(live, "/madre/x")
            assert [value.partition(";")[0] for value in response.all("ratelimit")] == ['"service"', '"9/h per route"']
            assert len(response.all("ratelimit-policy")) == 2


async def test_a_route_without_limits_says_nothing_of_them(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        other = {"url": f"http://127.0.0.1:{up.port}", "routes": [{"prefix": "/other", "auth": "none"}]}
        live = await start({**services(up.port, {"rate": "1/h"}), "other": other})
        for _ in range(3):
            response = await ask(live, "/other/x")
            assert (response.status, response.all("ratelimit"), response.all("ratelimit-policy")) == (200, [], [])


async def test_limits_for_all_routes_count_each_by_itself(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        url = f"http://127.0.0.1:{up.port}"
        found = {
            "a": {"url": url, "routes": [{"prefix": "/a", "auth": "none"}]},
            "b": {
                "url": url,
                "routes": [{"prefix": "/b", "auth": "none"}, {"prefix": "/c", "auth": "none", "limits": []}],
            },
        }
        live = await start(found, limits={"routes": [{"rate": "1/h", "per": "address"}]})
        for prefix in ("/a", "/b"):
            assert [(await ask(live, f"{prefix}/x")).status for _ in range(2)] == [200, 429]
        assert [(await ask(live, "/c/x")).status for _ in range(3)] == [200, 200, 200]
        # A service's health has a path of its own, and a count of its own.
        assert [(await ask(live, "/a/health")).status for _ in range(2)] == [200, 429]


async def test_several_limits_and_none_is_used_up_by_what_another_refuses(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port, {"rate": "1/h"}, {"rate": "3/h", "per": "route"}))
        assert (await ask(live, "/madre/x")).status == 200
        for _ in range(5):
            assert_limited(await ask(live, "/madre/x"), "1/h per caller")
        response = await ask(live, "/madre/x", AUTH)
        assert items(response, "ratelimit")["3/h per route"]["r"] == "1"


# -- the gateway's own paths ---------------------------------------------------------------------------------------


async def test_the_own_paths_have_limits_of_their_own(start: Start) -> None:
    own = {"own_paths": [{"rate": "2/h", "per": "address"}]}
    live = await start({}, limits=own)
    for left in (1, 0):
        response = await ask(live, "/vx11/status")
        assert response.status == 200
        assert items(response, "ratelimit")["2/h per address"]["r"] == str(left)
    problem = assert_limited(await ask(live, "/vx11/status"), "2/h per address")
    assert "service" not in problem
    for path in ("/livez", "/readyz", "/health", "/metrics"):
        assert (await ask(live, path)).status == 200, "a monitor would take the gateway for dead"


async def test_events_are_limited_on_a_kept_connection(start: Start) -> None:
    """A repeated request with a body takes the shortest way of all."""
    live = await start({}, limits={"own_paths": [{"rate": "2/h"}]}, events={"wait": 0.05})
    request = (
        get("/events/ingest", AUTH, b"Content-Type: application/json", b"Content-Length: 2", method="POST") + b"{}"
    )
    async with dial(live.port) as wire:
        statuses = []
        for _ in range(4):
            await wire.send(request)
            response = await wire.response()
            statuses.append(response.status)
            assert response.get("ratelimit") is not None
    assert statuses[2:] == [429, 429]
    assert 429 not in statuses[:2]


# -- requests at once ----------------------------------------------------------------------------------------------


class Gate:
    """An upstream's script that answers a request once it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, reader: Reader, writer: Writer, state: Upstream) -> None:
        while True:
            request: Request = await read_request(reader)
            state.requests.append(request)
            await state.note()
            if request.target.endswith("/slow"):
                await self.open.wait()
            writer.write(ok())
            await writer.drain()


AT_ONCE = {"in_flight": 1, "per": "route"}
NAME = "1 at once per route"


async def until_free(live: Live) -> None:
    """Wait until a request is let through again, and see that exactly one is free."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 10
    while (response := await ask(live, "/madre/x")).status == 429:
        assert loop.time() < deadline, "what a request held was not given back"
        await asyncio.sleep(0.01)
    assert response.status == 200
    assert items(response, "ratelimit")[NAME]["r"] == "0"


async def test_requests_at_once(start: Start) -> None:
    gate = Gate()
    async with upstream(gate) as up:
        live = await start(services(up.port, AT_ONCE))
        async with dial(live.port) as wire:
            await wire.send(get("/madre/slow"))
            await up.until(lambda: len(up.requests) == 1)
            assert_limited(await ask(live, "/madre/x"), NAME, error="too_many_at_once")
            assert len(up.requests) == 1
            gate.open.set()
            response = await wire.response()
            assert response.status == 200
            assert items(response, "ratelimit-policy")[NAME] == {"q": "1", "qu": '"concurrent-requests"'}
            await until_free(live)


@pytest.mark.usefixtures("notices_soon")
@pytest.mark.parametrize("how", ["client closes", "client resets"])
async def test_a_client_that_leaves_gives_its_place_back(start: Start, how: str) -> None:
    gate = Gate()
    async with upstream(gate) as up:
        live = await start(services(up.port, AT_ONCE))
        async with dial(live.port) as wire:
            await wire.send(get("/madre/slow"))
            await up.until(lambda: len(up.requests) == 1)
            wire.abort() if how == "client closes" else wire.reset()
            await until_free(live)
            gate.open.set()
        assert {record.status for record in live.records} >= {499}


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", b"nonsense\r\n\r\n", b""])
async def test_a_service_that_fails_gives_the_place_back(start: Start, answer: bytes) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        request = await read_request(reader)
        state.requests.append(request)
        await state.note()
        writer.write(answer if request.target.endswith("/slow") else ok())
        await writer.drain()

    async with upstream(script) as up:
        live = await start(services(up.port, AT_ONCE))
        async with dial(live.port) as wire:
            await wire.send(get("/madre/slow"))
            await wire.rest() if answer.startswith(b"HTTP") else await wire.response()
        await until_free(live)


async def test_a_request_that_takes_too_long_gives_its_place_back(start: Start) -> None:
    gate = Gate()
    async with upstream(gate) as up:
        live = await start(services(up.port, AT_ONCE, timeout=0.2))
        response = await ask(live, "/madre/slow")
        assert response.status == 504
        assert items(response, "ratelimit")[NAME]["r"] == "0"
        await until_free(live)
        gate.open.set()


async def test_a_service_that_is_off_holds_no_place(start: Start) -> None:
    found = services(1, AT_ONCE)
    found["madre"]["enabled"] = False
    live = await start(found)
    for _ in range(3):
        assert (await ask(live, "/madre/x")).status == 503


async def test_a_tunnel_holds_a_place_until_it_ends(start: Start) -> None:
    async with upstream(answering(lambda request: SWITCHING if request.get("upgrade") else ok())) as up:
        live = await start(services(up.port, AT_ONCE))
        async with dial(live.port) as wire:
            await wire.send(get("/madre/socket", *WEBSOCKET))
            response = await wire.response()
            assert response.status == 101
            assert items(response, "ratelimit")[NAME]["r"] == "0"
            assert (await ask(live, "/madre/x")).status == 429
            assert_limited(await ask(live, "/madre/socket", *WEBSOCKET), NAME, error="too_many_at_once")
            wire.abort()
            await until_free(live)


async def test_an_event_stream_holds_a_place_until_it_ends(start: Start) -> None:
    stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n"

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        request = await read_request(reader)
        state.requests.append(request)
        await state.note()
        if request.target.endswith("/slow"):
            writer.write(stream)
            await reader.read(1)
        else:
            writer.write(ok())
            await writer.drain()

    async with upstream(script) as up:
        live = await start(services(up.port, AT_ONCE))
        async with dial(live.port) as wire:
            await wire.send(get("/madre/slow"))
            assert (await wire.head()).status == 200
            assert (await ask(live, "/madre/x")).status == 429
            wire.abort()
            await until_free(live)


async def test_an_own_websocket_holds_a_place_until_it_ends(start: Start) -> None:
    limits = {"own_paths": [{"in_flight": 1, "per": "caller"}]}
    live = await start({}, limits=limits)
    async with dial(live.port) as wire:
        await wire.send(get("/ws", AUTH, *WEBSOCKET))
        response = await wire.response()
        assert response.status == 101
        assert items(response, "ratelimit") == {"1 at once per caller": {"r": "0"}}
        assert (await ask(live, "/vx11/overview", AUTH)).status == 429
        wire.abort()

        async def is_free() -> bool:
            return (await ask(live, "/vx11/overview", AUTH)).status == 200

        loop = asyncio.get_running_loop()
        deadline = loop.time() + 10
        while not await is_free():
            assert loop.time() < deadline
            await asyncio.sleep(0.01)


async def test_a_client_that_leaves_before_its_request_is_served_holds_nothing(start: Start) -> None:
    live = await start({}, limits={"own_paths": [{"in_flight": 1, "per": "address"}]})
    for _ in range(30):
        async with dial(live.port) as wire:
            await wire.send(get("/vx11/status"))
            wire.reset()
    await eventually(lambda: not live.gateway._admission.open, "no connection is open")
    assert (await ask(live, "/vx11/status")).status == 200


# -- networks ------------------------------------------------------------------------------------------------------


async def via(live: Live, target: str, address: str, *lines: bytes) -> int:
    """The status that the client with `address` gets, of a trusted proxy."""
    return (await ask(live, target, b"X-Forwarded-For: " + address.encode(), *lines)).status


async def test_networks_of_a_route(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        found = services(up.port, allow=["10.0.0.0/8", "fd00::/8"], deny=["10.9.0.0/16"])
        live = await start(found, server=TRUSTED)
        for address in ("10.1.1.1", "::ffff:10.1.1.1", "fd00::5", "[fd00::5%eth0]:80", "10.1.1.1:4711"):
            assert await via(live, "/madre/x", address) == 200, address
        for address in ("10.9.1.1", "::ffff:10.9.1.1", "192.0.2.1", "2001:db8::1", "unknown", "10.1.1", "x" * 500):
            assert await via(live, "/madre/x", address) == 403, address
        assert await via(live, "/madre/x", "10.1.1.1, 192.0.2.1") == 403


async def test_a_refusal_says_why_and_names_no_network(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port, allow=["10.0.0.0/8"], auth="token"))
        for lines in ((), (AUTH,), (b"X-Forwarded-For: 10.1.1.1",)):
            response = await ask(live, "/madre/x", *lines)
            problem = json.loads(response.body)
            assert (response.status, problem["error"]) == (403, "network_denied")
            assert "10." not in response.body.decode()
            assert "http_request_denied" in (response.get("proxy-status") or "")
        assert up.requests == []
        assert {record.error for record in live.records} == {"network_denied"}


async def test_networks_hold_on_a_kept_connection(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port, allow=["10.0.0.0/8"]), server=TRUSTED)
        async with dial(live.port) as wire:
            statuses = []
            for address in ("10.1.1.1", "10.1.1.1", "192.0.2.1", "10.1.1.1", "192.0.2.1", "192.0.2.1"):
                await wire.send(get("/madre/x", b"X-Forwarded-For: " + address.encode()))
                statuses.append((await wire.response()).status)
        assert statuses == [200, 200, 403, 200, 403, 403]


AROUND = [
    "/madre/admin/x",
    "/madre/%61dmin/x",
    "/madre//admin/x",
    "/madre/ADMIN/x",
    "/madre/admin;x/y",
    "/madre/%2561dmin/x",
    "/madre/x/%252e%252e/admin",
    "/all/admin/x",
    "/all/%61dmin",
]


@pytest.mark.parametrize("target", AROUND)
async def test_no_wider_route_leads_around_a_narrower_one(start: Start, target: str) -> None:
    """The endpoint may read a path more loosely than the gateway does."""
    async with upstream(answering(ok())) as up:
        routes = [
            {"prefix": "/madre", "strip": True, "auth": "none"},
            {"prefix": "/madre/admin", "to": "/admin", "auth": "none", "allow": ["10.0.0.0/8"]},
        ]
        url = f"http://127.0.0.1:{up.port}"
        other = {"url": url, "routes": [{"prefix": "/all", "strip": True, "auth": "none"}]}
        live = await start({"madre": {"url": url, "routes": routes}, "other": other}, server=TRUSTED)
        assert await via(live, target, "192.0.2.1") == 403
        assert up.requests == []
        assert await via(live, target, "10.1.1.1") in (200, 400)
        assert await via(live, "/madre/public", "192.0.2.1") == 200
        assert await via(live, "/madre/public", "192.0.2.1", b"Destination: /admin/x") == 403


async def test_a_narrower_route_may_be_open_to_more(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        routes = [
            {"prefix": "/madre", "auth": "none", "allow": ["10.0.0.0/8"]},
            {"prefix": "/madre/public", "auth": "none"},
        ]
        live = await start({"madre": {"url": f"http://127.0.0.1:{up.port}", "routes": routes}}, server=TRUSTED)
        assert await via(live, "/madre/x", "192.0.2.1") == 403
        assert await via(live, "/madre/public/x", "192.0.2.1") == 200
        assert await via(live, "/madre/public/x", "10.1.1.1") == 200


async def test_the_health_of_a_service_is_for_its_networks(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port, allow=["10.0.0.0/8"]), server=TRUSTED)
        assert await via(live, "/madre/health", "192.0.2.1") == 403
        assert await via(live, "/madre/health", "10.1.1.1") == 200


async def test_a_redirection_is_for_its_networks(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        found = services(up.port, prefix="/madre/", strip=True, allow=["10.0.0.0/8"])
        live = await start(found, server=TRUSTED)
        assert await via(live, "/madre", "10.1.1.1") == 308
        assert await via(live, "/madre", "192.0.2.1") == 403


async def test_networks_of_the_own_paths(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        server = {**TRUSTED, "allow": ["10.0.0.0/8"]}
        live = await start(services(up.port), server=server)
        for path in ("/status", "/livez", "/metrics", "/vx11/status"):
            assert await via(live, path, "192.0.2.1") == 403
            assert await via(live, path, "10.1.1.1") == 200
        assert await via(live, "/madre/x", "192.0.2.1") == 200, "routes have keys of their own"
