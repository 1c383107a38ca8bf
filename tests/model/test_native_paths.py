"""Every native route with every scope, on real sockets: which token may use it, and what the others are told."""

from __future__ import annotations

import json
import re

import pytest

from tentaculo.model.native_paths import READS, UNLISTED, access_of
from tentaculo.model.scopes import ADMIN, PLAIN
from tentaculo.security.tokens import hash_token
from tests.conftest import TOKEN, Live, Start
from tests.gateway.test_sign_in import native_routes
from tests.support.wire import Response, dial

FREE = None
STATUS, READ, WRITE, INCIDENTS = "status", "events:read", "events:write", "incidents:write"
WANTED: dict[str, str | None] = {
    "GET /": FREE,
    "GET /health": FREE,
    "GET /livez": FREE,
    "GET /metrics": FREE,
    "GET /readyz": FREE,
    "GET /vx11/status": FREE,
    "GET /tentaculo/asyncapi.json": FREE,
    "GET /tentaculo/openapi.json": FREE,
    "POST /auth/ticket": FREE,
    "GET /status/sign-in": FREE,
    "POST /status/sign-in": FREE,
    "POST /status/sign-out": FREE,
    "POST /status/actions": INCIDENTS,
    "GET /status": STATUS,
    "GET /status/api/v2/components.json": STATUS,
    "GET /status/api/v2/incidents.json": STATUS,
    "GET /status/api/v2/incidents/unresolved.json": STATUS,
    "GET /status/api/v2/scheduled-maintenances.json": STATUS,
    "GET /status/api/v2/scheduled-maintenances/active.json": STATUS,
    "GET /status/api/v2/scheduled-maintenances/upcoming.json": STATUS,
    "GET /status/api/v2/status.json": STATUS,
    "GET /status/api/v2/summary.json": STATUS,
    "GET /status/badge.json": STATUS,
    "GET /status/badge.svg": STATUS,
    "GET /status/badges/{service}.json": STATUS,
    "GET /status/badges/{service}.svg": STATUS,
    "GET /status/events": STATUS,
    "GET /status/incidents": STATUS,
    "GET /status/incidents.atom": STATUS,
    "GET /status/incidents/{id}": STATUS,
    "GET /status/services/{service}": STATUS,
    "GET /tentaculo/alerts": STATUS,
    "GET /tentaculo/clocks": STATUS,
    "GET /tentaculo/warnings": STATUS,
    "GET /vx11/circuit-breaker/status": STATUS,
    "GET /vx11/history/{service}": STATUS,
    "GET /vx11/incidents": STATUS,
    "GET /vx11/incidents/{id}": STATUS,
    "GET /vx11/maintenance": STATUS,
    "GET /vx11/overview": STATUS,
    "POST /vx11/incidents/{id}/acknowledgements": INCIDENTS,
    "POST /vx11/incidents/{id}/notes": INCIDENTS,
    "POST /vx11/maintenance": INCIDENTS,
    "DELETE /vx11/maintenance/{id}": INCIDENTS,
    "GET /api/events": READ,
    "GET /debug/events/cardinality": READ,
    "GET /debug/events/correlations": READ,
    "GET /events": READ,
    "GET /events/stream": READ,
    "POST /events/ingest": WRITE,
    "POST /vx11/heartbeat/beating": "heartbeat:beating",
    "POST /vx11/heartbeat/also": "heartbeat:beating",
    "GET /ws": READ,  # or to send only, which the other one is enough for
}
"""Each native route as it is written, with the scope that a token with scopes needs for it."""
ADMINISTRATION = "/tentaculo/admin"
SCOPES = (*PLAIN, "proxy:beating", "proxy:other", "heartbeat:beating", "heartbeat:other")
SERVICES = {
    "beating": {"url": "http://127.0.0.1:9", "aliases": ["also"], "probe": {"kind": "heartbeat"}},
    "other": {"url": "http://127.0.0.1:9"},
}


def wanted(route: str) -> str | None:
    """The scope of a route. KeyError for one that nobody has thought of."""
    path = route.partition(" ")[2]
    if path.startswith(ADMINISTRATION):
        return "admin"
    if path.endswith("/other"):
        return WANTED[f"{route.removesuffix('other')}beating"]
    return WANTED[route]


def written(path: str) -> str:
    """A path of a route, as it is written."""
    return re.sub(r"\{\w+\}", "7", path.replace("{service}", "beating"))


async def ask(live: Live, method: str, path: str, token: str | None) -> Response:
    """The head of the response; of a refusal the body as well."""
    async with dial(live.port) as wire:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Sec-Fetch-Site: same-origin", "Content-Length: 0"]
        if path == "/ws":
            lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
            lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Origin: http://localhost"]
        lines += [] if token is None else [f"X-VX11-Token: {token}"]
        await wire.send("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        response = await wire.head()
        if response.status == 403:
            response.body = await wire.reader.readexactly(int(response.get("content-length") or 0))
        return response


@pytest.fixture
async def live(start: Start) -> Live:
    tokens = [{"hash": hash_token(scope), "name": scope.replace(":", "."), "scopes": [scope]} for scope in SCOPES]
    return await start(SERVICES, auth={"tokens": tokens, "open_status": False})


def routes_of(live: Live) -> list[str]:
    return sorted({f"{method} {path}" for method, path in native_routes(live) if method != "HEAD"})


async def test_every_native_route_states_its_scope(live: Live) -> None:
    found = routes_of(live)
    assert [route for route in found if not wanted(route) and route not in WANTED] == []
    assert [route for route in WANTED if route not in found] == [], "a route that is gone"
    for route in found:
        method, _, path = route.partition(" ")
        needs = access_of(path, live.gateway.config.names)
        need = needs.read if method in READS else needs.write
        assert (None if need is None else need[0]) == wanted(route), route
        assert needs is not UNLISTED, route


@pytest.mark.thorough
@pytest.mark.timeout(120)
async def test_the_matrix(live: Live) -> None:
    tried = 0
    for route in routes_of(live):
        method, _, path = route.partition(" ")
        scope = wanted(route)
        target = written(path)
        for granted in SCOPES:
            response = await ask(live, method, target, granted)
            may = scope in (None, granted) or (path == "/ws" and granted == WRITE)
            challenge = response.get("www-authenticate") or ""
            assert ("insufficient_scope" in challenge) is not may, (route, granted, response.status)
            assert response.status != 401, (route, granted)
            if not may:
                problem = json.loads(response.body)
                assert response.status == 403
                assert (problem["error"], problem["status_code"], problem["scope"]) == ("forbidden", 403, scope)
                name = granted.replace(":", ".")
                assert problem["detail"] == f"The token {name} does not have the scope {scope}."
                assert challenge == f'Bearer realm="Tentaculo Link", error="insufficient_scope", scope="{scope}"'
            tried += 1
        # A token without scopes, as all were before there were any.
        response = await ask(live, method, target, TOKEN)
        assert ("insufficient_scope" in (response.get("www-authenticate") or "")) is (scope == "admin"), route
    assert tried > 500


async def test_nobody_has_admin_where_tokens_are_not_checked(start: Start) -> None:
    live = await start({}, auth={"enabled": False})
    for route in routes_of(live):
        method, _, path = route.partition(" ")
        response = await ask(live, method, written(path), None)
        assert (response.status == 403 and b"insufficient" in response.raw_head) is (wanted(route) == "admin"), route


def test_what_is_below_the_administration_needs_admin_whatever_it_is() -> None:
    for path in (ADMINISTRATION, f"{ADMINISTRATION}/reload", f"{ADMINISTRATION}/services/{{name}}"):
        assert access_of(path) == (ADMIN, ADMIN)
    assert access_of(f"{ADMINISTRATION}s") is UNLISTED
    assert access_of("/tentaculo/new") is UNLISTED
