"""Which paths a host name has: the gateway's own names, names that routes claim, and all others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Start
from tests.support.wire import Response, answering, dial, ok, upstream

pytestmark = pytest.mark.usefixtures("both_ways")


def _services(web: int, api: int) -> dict[str, dict[str, Any]]:
    return {
        "web": {
            "url": f"http://127.0.0.1:{web}",
            "routes": [{"prefix": "/", "host": "web.test", "auth": "none"}],
        },
        "api": {"url": f"http://127.0.0.1:{api}", "routes": [{"prefix": "/api", "auth": "none"}]},
    }


async def _ask(port: int, host: str, path: str, method: str = "GET", lines: bytes = b"") -> Response:
    async with dial(port) as wire:
        await wire.send(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n".encode() + lines + b"\r\n")
        return await wire.response(method)


OWN = (
    "/health",
    "/livez",
    "/metrics",
    "/status",
    "/vx11/status",
    "/ws",
    "/events/ingest",
    "/api/health",
    "/api/x",
    "/",
)


@pytest.mark.parametrize("path", OWN)
async def test_an_application_on_its_own_host_has_the_whole_path_space(start: Start, path: str) -> None:
    async with upstream(answering(ok(b"web"))) as web, upstream(answering(ok(b"api"))) as api:
        live = await start(_services(web.port, api.port))
        for host in ("web.test", "WEB.test:8000", "web.test."):
            response = await _ask(live.port, host, path)
            assert (response.status, response.body) == (200, b"web")
    assert {request.target for request in web.requests} == {path}
    assert api.requests == []


async def test_what_no_route_of_a_claimed_name_takes_is_404(start: Start) -> None:
    async with upstream(answering(ok(b"web"))) as web, upstream(answering(ok(b"api"))) as api:
        services = _services(web.port, api.port)
        services["web"]["routes"][0]["prefix"] = "/app"
        live = await start(services)
        assert (await _ask(live.port, "web.test", "/app/x")).body == b"web"
        for path in ("/livez", "/api/x", "/status", "/"):
            assert (await _ask(live.port, "web.test", path)).status == 404
    assert api.requests == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "[::1]", "localhost", "LOCALHOST:1", "other.test", "gw"]
)
async def test_by_default_every_other_name_is_the_gateways(start: Start, host: str) -> None:
    async with upstream(answering(ok(b"web"))) as web, upstream(answering(ok(b"api"))) as api:
        live = await start(_services(web.port, api.port))
        assert (await _ask(live.port, host, "/livez")).status == 200
        assert (await _ask(live.port, host, "/api/x")).body == b"api"
        assert (await _ask(live.port, host, "/x")).status == 404


async def test_with_hosts_the_own_paths_are_there_and_at_addresses(start: Start) -> None:
    async with upstream(answering(ok(b"web"))) as web, upstream(answering(ok(b"api"))) as api:
        server = {"port": 0, "grace": 1, "hosts": ["gateway.test"]}
        live = await start(_services(web.port, api.port), server=server)
        for host in ("gateway.test", "Gateway.test.:80", "127.0.0.1", "localhost"):
            assert (await _ask(live.port, host, "/livez")).status == 200
        assert (await _ask(live.port, "other.test", "/livez")).status == 404
        assert (await _ask(live.port, "other.test", "/api/x")).body == b"api"
        assert (await _ask(live.port, "web.test", "/livez")).body == b"web"


async def test_a_name_of_both_is_the_gateways(start: Start) -> None:
    """Own paths win, then the routes of that name, then `/<service>/health` and the routes without a host."""
    async with upstream(answering(ok(b"web"))) as web, upstream(answering(ok(b"api"))) as api:
        server = {"port": 0, "grace": 1, "hosts": ["web.test"]}
        services = _services(web.port, api.port)
        services["web"]["routes"] += [{"prefix": "/api/health", "host": "web.test", "auth": "none"}]
        services["web"]["routes"][0]["prefix"] = "/app"
        live = await start(services, server=server)
        assert b"web" not in (await _ask(live.port, "web.test", "/livez")).body
        assert (await _ask(live.port, "web.test", "/app")).body == b"web"
        assert (await _ask(live.port, "web.test", "/api/health")).body == b"web"
        assert (await _ask(live.port, "web.test", "/api/x")).body == b"api"


async def test_the_health_path_of_a_service_is_as_open_as_its_routes(start: Start) -> None:
    async with upstream(answering(ok(b"up"))) as up:
        url = f"http://127.0.0.1:{up.port}"
        opened = {"auth": "none"}
        routes: dict[str, list[dict[str, Any]]] = {
            "open": [{"prefix": "/open", **opened}],
            "elsewhere": [{"prefix": "/x", **opened}, {"prefix": "/y", "host": "y.test", **opened}],
            "half": [{"prefix": "/half", **opened}, {"prefix": "/half/admin"}],
            "other": [{"prefix": "/other"}, {"prefix": "/other/page", **opened}],
            "hidden": [{"prefix": "/hidden", **opened}, {"prefix": "/hidden/h", "to": "/health"}],
            "mixed": [{"prefix": "/m", **opened}, {"prefix": "/n"}],
            "closed": [{"prefix": "/closed"}],
            "probed": [],
        }
        services = {name: {"url": url, "host": f"{name}.test", "routes": listed} for name, listed in routes.items()}
        live = await start(services)
        found = {name: (await _ask(live.port, "h", f"/{name}/health")).status for name in routes}
        assert {name for name, status in found.items() if status == 200} == {"open", "elsewhere", "half"}
        assert {name for name, status in found.items() if status == 401} == routes.keys() - {
            "open",
            "elsewhere",
            "half",
        }


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_a_stripped_prefix_with_a_slash_is_redirected_there(start: Start, method: str) -> None:
    async with upstream(answering(ok())) as up:
        url = f"http://127.0.0.1:{up.port}"
        routes = [
            {"prefix": "/app/", "strip": True, "auth": "none"},
            {"prefix": "/plain", "strip": True, "auth": "none"},
            {"prefix": "/kept/", "auth": "none"},
            {"prefix": "/closed/", "to": "/x"},
        ]
        live = await start({"app": {"url": url, "routes": routes}})
        lines = b"Content-Length: 0\r\n" if method == "POST" else b""
        response = await _ask(live.port, "h", "/app?q=1", method, lines)
        assert (response.status, response.get("location")) == (308, "/app/?q=1")
        assert (await _ask(live.port, "h", "/closed", method, lines)).status == 401
        assert up.requests == []
        for path in ("/app/", "/plain", "/kept"):
            assert (await _ask(live.port, "h", path, method, lines)).status == 200
    assert [request.target for request in up.requests] == ["/", "/", "/kept"]


async def test_what_a_redirection_would_break_goes_to_the_service(start: Start) -> None:
    """A browser follows no redirection of a WebSocket or of a preflight."""
    async with upstream(answering(ok())) as up:
        routes = [{"prefix": "/app/", "strip": True, "auth": "none"}]
        live = await start({"app": {"url": f"http://127.0.0.1:{up.port}", "routes": routes}})
        upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        assert (await _ask(live.port, "h", "/app", lines=upgrade)).status == 200
        asked = b"Origin: http://other.test\r\nAccess-Control-Request-Method: PUT\r\n"
        assert (await _ask(live.port, "h", "/app", "OPTIONS", asked)).status == 200
        assert [request.target for request in up.requests] == ["/", "/"]
        listed = await _ask(live.port, "h", "/app", lines=b"Origin: http://localhost:8020\r\n")
        assert (listed.status, listed.get("access-control-allow-origin")) == (308, "http://localhost:8020")


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        (b"?a=%0d%0aX:1", b"?a=%0d%0aX:1"),
        (b"?next=//evil.test&a=b+c;%2F", b"?next=//evil.test&a=b+c;%2F"),
        (b"?\xc3\xa9", b"?%C3%A9"),
        (b"?", b"?"),
    ],
)
async def test_the_query_of_a_redirection_stays_as_it_is(start: Start, query: bytes, sent: bytes) -> None:
    live = await start(
        {"app": {"url": "http://127.0.0.1:1", "routes": [{"prefix": "/app/", "strip": True, "auth": "none"}]}}
    )
    async with dial(live.port) as wire:
        await wire.send(b"GET /app" + query + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        response = await wire.response()
    assert response.status == 308
    assert b"Location: /app/" + sent + b"\r\n" in response.raw_head


async def test_a_client_of_http_1_0_that_names_no_host_reaches_the_gateway(start: Start) -> None:
    """The health check of an older load balancer."""
    live = await start({}, server={"port": 0, "grace": 1, "hosts": ["gateway.test"]})
    async with dial(live.port) as wire:
        await wire.send(b"GET /livez HTTP/1.0\r\n\r\n")
        assert (await wire.response()).status == 200


@pytest.mark.parametrize("first", [b"GET /livez HTTP/1.1", b"GET /livez HTTP/1.0", b"GET http://h/livez HTTP/1.1"])
@pytest.mark.parametrize("value", [b"", b" ", b"\t "])
async def test_an_empty_host_is_refused(start: Start, first: bytes, value: bytes) -> None:
    live = await start({})
    async with dial(live.port) as wire:
        await wire.send(first + b"\r\nHost:" + value + b"\r\n\r\n")
        assert (await wire.response()).status == 400


async def test_an_open_route_does_not_lead_around_a_guarded_one(start: Start) -> None:
    async with upstream(answering(ok(b"up"))) as up:
        routes = [{"prefix": "/str", "strip": True, "auth": "none"}, {"prefix": "/admin"}]
        live = await start({"app": {"url": f"http://127.0.0.1:{up.port}", "routes": routes}})
        assert (await _ask(live.port, "h", "/str/x")).status == 200
        assert (await _ask(live.port, "h", "/str/admin/x")).status == 401
        assert (await _ask(live.port, "h", "/str/admin/x", lines=live.auth)).status == 200
    assert [request.target for request in up.requests] == ["/x", "/admin/x"]


async def test_services_at_one_endpoint_guard_each_other(start: Start) -> None:
    async with upstream(answering(ok(b"up"))) as up:
        url = f"http://127.0.0.1:{up.port}"
        opened = [{"prefix": "/str", "strip": True, "auth": "none"}]
        live = await start({"one": {"url": url, "routes": opened}, "two": {"url": url, "routes": [{"prefix": "/adm"}]}})
        assert (await _ask(live.port, "h", "/str/x")).status == 200
        assert (await _ask(live.port, "h", "/str/adm/x")).status == 401
        assert (await _ask(live.port, "h", "/str/%61dm/x")).status == 401
        assert (await _ask(live.port, "h", "/str/adm/x", lines=live.auth)).status == 200
    assert [request.target for request in up.requests] == ["/x", "/adm/x"]


async def test_the_preflight_of_an_unknown_path_is_as_any_other(start: Start) -> None:
    live = await start({})
    asked = b"Origin: http://localhost:8020\r\nAccess-Control-Request-Method: PUT\r\n"
    response = await _ask(live.port, "h", "/nothing", "OPTIONS", asked)
    assert (response.status, response.get("access-control-allow-origin")) == (204, "http://localhost:8020")
    other = await _ask(live.port, "h", "/nothing", "OPTIONS", asked.replace(b"localhost:8020", b"evil.example"))
    assert other.status == 404
