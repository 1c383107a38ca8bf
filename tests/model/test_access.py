"""Every native route with every scope, on real sockets: which token may use it, and what the others are told."""

from __future__ import annotations

import json
import re

import pytest
from aiohttp import web

from tentaculo.config.accepted_tokens import AuthSettings
from tentaculo.model import access
from tentaculo.model.native_paths import READS
from tentaculo.model.scopes import PLAIN, is_scope
from tentaculo.security.tokens import hash_token
from tentaculo.server.native_routes import NativeRoute, NativeRoutes
from tests.conftest import TOKEN, Live, Start
from tests.docs.test_complete import PATH_IN_TABLE, anonymous, paths_in_the_api
from tests.support.native_routes import native_routes
from tests.support.wire import Response, dial

SCOPES = (*PLAIN, "proxy:beating", "proxy:other", "heartbeat:beating", "heartbeat:other")
SERVICES = {
    "beating": {"url": "http://127.0.0.1:9", "aliases": ["also"], "probe": {"kind": "heartbeat"}},
    "other": {"url": "http://127.0.0.1:9"},
}


def documented() -> dict[str, str | None]:
    """Each native route with the scope that the table of all paths in `docs/api.md` names; None where it names none."""
    found: dict[str, str | None] = {}
    for method, _, path, token in re.findall(f"{PATH_IN_TABLE} ([^|]*) \\|", paths_in_the_api()):
        scope = next((word for word in re.findall(r"`([^`]+)`", token) if is_scope(word)), None)
        found[f"{method or 'GET'} {anonymous(path)}"] = "status" if token == "as `/status`" else scope
    return found


DOCUMENTED = documented()


def wanted(route: NativeRoute) -> str | None:
    """The scope that the document names. KeyError for a route that it does not have."""
    path = re.sub(r"(?<=/heartbeat/)\w+", "<…>", anonymous(route.path))
    scope = DOCUMENTED[f"{route.method} {path}"]
    return "heartbeat:beating" if scope == "heartbeat:SERVICE" else scope


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


async def test_every_native_route_states_the_scope_that_is_documented(live: Live) -> None:
    for route in native_routes(live.gateway.config):
        need = route.access.needs.read if route.method in READS else route.access.needs.write
        assert (None if need is None else need[0]) == wanted(route), route


async def test_what_is_below_the_administration_needs_admin_whatever_it_is(live: Live) -> None:
    below = [route for route in native_routes(live.gateway.config) if route.path.startswith("/tentaculo/admin")]
    assert len(below) > 20
    assert {route.access for route in below} == {access.ADMIN}


async def handle(request: web.Request) -> web.Response:
    return web.Response()


def test_a_route_is_there_once() -> None:
    route = NativeRoute("GET", "/a", handle, access.STATUS, None)
    with pytest.raises(ValueError, match="<NativeRoute GET /a> is there twice"):
        web.Application().add_routes([route, route])


def test_routes_of_one_path_have_one_access() -> None:
    app = web.Application()
    app.add_routes(
        [NativeRoute("GET", "/a", handle, access.STATUS, None), NativeRoute("POST", "/a", handle, access.ADMIN, None)]
    )
    with pytest.raises(ValueError, match=r"POST /a> has another access"):
        NativeRoutes(app, AuthSettings())


@pytest.mark.thorough
@pytest.mark.timeout(120)
async def test_the_matrix(live: Live) -> None:
    tried = 0
    for route in native_routes(live.gateway.config):
        method, path = route.method, route.path
        scope = wanted(route)
        target = written(path)
        for granted in SCOPES:
            response = await ask(live, method, target, granted)
            # Who may only send may open it too.
            may = scope in (None, granted) or (path == "/ws" and granted == "events:write")
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
    for route in native_routes(live.gateway.config):
        response = await ask(live, route.method, written(route.path), None)
        assert (response.status == 403 and b"insufficient" in response.raw_head) is (wanted(route) == "admin"), route
