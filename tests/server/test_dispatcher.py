"""One door: what is judged of every request, over native and proxied paths, with and without a task."""

from __future__ import annotations

import re
from typing import Any

import pytest
import websockets

from tentaculo.net.session_cookie import PLAIN
from tentaculo.security.sessions import Sessions
from tentaculo.security.tickets import Tickets
from tests.conftest import TOKEN, Live, Start
from tests.support.waits import eventually
from tests.support.wire import WEBSOCKET, Response, answering, dial, ok, upstream

pytestmark = pytest.mark.usefixtures("both_ways")

ORIGIN = b"http://localhost:8020"
TRUSTED = {"port": 0, "grace": 1, "trusted_proxies": ["127.0.0.0/8"]}
OPEN = {"open_websocket": True}
AUTH = b"X-VX11-Token: " + TOKEN.encode()
BEARER = b"Authorization: Bearer " + TOKEN.encode()
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"X-Correlation-Id: the-services\r\n\r\n"
)


def services(port: int, **route: Any) -> dict[str, Any]:
    return {"madre": {"url": f"http://127.0.0.1:{port}", "routes": [{"prefix": "/madre", "auth": "none", **route}]}}


async def ask(live: Live, target: str, *lines: bytes, method: str = "GET") -> Response:
    """The response to one request on a connection of its own."""
    head = f"{method} {target} HTTP/1.1\r\nHost: gateway\r\n".encode() + b"".join(line + b"\r\n" for line in lines)
    async with dial(live.port) as wire:
        await wire.send(head + b"\r\n")
        return await wire.response(method)


def assert_ids(response: Response) -> str:
    """Both ids are there once, and are the same one."""
    assert len(response.all("x-request-id")) == 1
    assert response.all("x-correlation-id") == response.all("x-request-id")
    return response.all("x-request-id")[0]


@pytest.mark.parametrize("target", ["/livez", "/vx11/overview", "/madre/x", "/nothing"])
async def test_a_trusted_proxys_request_id_is_kept_everywhere(start: Start, target: str) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port), server=TRUSTED)
        response = await ask(live, target, b"X-Request-ID: from-the-front")
        assert assert_ids(response) == "from-the-front"
        assert [record.request_id for record in live.records] == ["from-the-front"]


@pytest.mark.parametrize("target", ["/livez", "/madre/x"])
async def test_any_other_peers_request_id_is_replaced_everywhere(start: Start, target: str) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port))
        assert assert_ids(await ask(live, target, b"X-Request-ID: forged")) != "forged"


@pytest.mark.parametrize(("count", "status"), [(256, 200), (257, 400)])
async def test_the_parameters_of_an_own_path_are_bounded(start: Start, count: int, status: int) -> None:
    """To read thousands of them, as of a page that needs no token, took the event loop 6 ms for 16 KB."""
    query = "?" + "&".join(["a"] * count)
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port))
        assert (await ask(live, f"/vx11/status{query}")).status == status
        assert (await ask(live, f"/madre/x{query}")).status == 200
        assert up.requests[0].target.endswith(query)


@pytest.mark.parametrize("target", ["/ws", "/madre/socket"])
@pytest.mark.parametrize(
    ("origin", "status"), [(b"https://public.example", 101), (b"https://evil.example", 403), (b"http://gateway", 403)]
)
async def test_the_origin_is_compared_with_what_a_trusted_proxy_says_of_the_host(
    start: Start, target: str, origin: bytes, status: int
) -> None:
    async with upstream(answering(SWITCHING)) as up:
        server = {**TRUSTED, "hosts": ["public.example", "gateway"]}
        live = await start(services(up.port, check_origin=True), server=server, auth=OPEN)
        lines = (*WEBSOCKET, b"Origin: " + origin, b"X-Forwarded-Host: public.example")
        response = await ask(live, target, *lines)
        assert response.status == status
        assert_ids(response)


@pytest.mark.parametrize("target", ["/ws", "/madre/socket"])
async def test_a_forged_forwarded_host_opens_no_websocket(start: Start, target: str) -> None:
    async with upstream(answering(SWITCHING)) as up:
        live = await start(services(up.port, check_origin=True), auth=OPEN)
        lines = (*WEBSOCKET, b"Origin: https://evil.example", b"X-Forwarded-Host: evil.example")
        assert (await ask(live, target, *lines)).status == 403


async def test_a_second_upgrade_does_not_hide_a_native_websocket_from_the_origin_check(start: Start) -> None:
    live = await start({}, auth=OPEN)
    lines = (*WEBSOCKET, b"Upgrade: h2c", b"Origin: https://evil.example")
    assert (await ask(live, "/ws", *lines)).status == 403


APP_ORIGINS = ["null", "file://", "capacitor://localhost", "vscode-webview://abc", "app://.", "https://evil.example"]


@pytest.mark.parametrize("target", ["/ws", "/madre/socket"])
@pytest.mark.parametrize("origin", APP_ORIGINS)
async def test_no_origin_is_judged_where_a_token_in_a_header_authenticated(
    start: Start, target: str, origin: str
) -> None:
    """No page can set such a header, so it is no attack by one."""
    async with upstream(answering(SWITCHING)) as up:
        live = await start(services(up.port, auth="token", check_origin=True))
        for token in (AUTH, b"Authorization: Bearer " + TOKEN.encode()):
            lines = (*WEBSOCKET, token, b"Origin: " + origin.encode())
            assert (await ask(live, target, *lines)).status == 101


async def test_an_open_route_leaves_the_origin_to_its_service(start: Start) -> None:
    async with upstream(answering(SWITCHING)) as up:
        live = await start(services(up.port), auth=OPEN)
        for origin in APP_ORIGINS:
            assert (await ask(live, "/madre/socket", *WEBSOCKET, b"Origin: " + origin.encode())).status == 101
            assert (await ask(live, "/ws", *WEBSOCKET, b"Origin: " + origin.encode())).status == 403


async def test_an_apps_origin_can_be_listed(start: Start) -> None:
    live = await start({}, auth=OPEN, cors={"origins": APP_ORIGINS[:5]})
    for origin in APP_ORIGINS:
        status = 403 if "evil" in origin else 101
        assert (await ask(live, "/ws", *WEBSOCKET, b"Origin: " + origin.encode())).status == status


async def test_a_rebound_name_is_not_the_gateway(start: Start) -> None:
    """DNS rebinding: the attacker's name leads to the gateway's address, so Origin and Host are equal."""
    live = await start({}, auth=OPEN, server={"hosts": ["mine.example"]})
    for host, status in ((b"127.0.0.1", 101), (b"localhost", 101), (b"gateway", 404), (b"mine.example", 101)):
        assert await _page_of(live, host) == status
    live = await start({}, auth=OPEN)
    for host, status in ((b"gateway", 101), (b"rebound.example", 403), (b"127.0.0.1.rebound.example", 403)):
        assert await _page_of(live, host) == status


async def _page_of(live: Live, host: bytes) -> int:
    lines = b"".join(line + b"\r\n" for line in (*WEBSOCKET, b"Host: " + host, b"Origin: http://" + host))
    async with dial(live.port) as wire:
        await wire.send(b"GET /ws HTTP/1.1\r\n" + lines + b"\r\n")
        return (await wire.response()).status


@pytest.mark.parametrize(
    ("method", "target", "lines", "status"),
    [
        ("GET", "/vx11/overview", [], 401),
        ("GET", "/vx11/overview", [b"X-VX11-Token: wrong"], 403),
        ("DELETE", "/health", [], 405),
        ("GET", "/ws", [AUTH], 426),
        ("GET", "/ws", [*WEBSOCKET, b"Origin: http://evil.example"], 403),
        ("POST", "/events/ingest", [AUTH, b"Content-Length: 0"], 415),
        ("GET", "/vx11/incidents/1/nothing", [AUTH], 404),
        ("GET", "/vx11/../health", [], 400),
        ("GET", "/nothing", [], 404),
        ("GET", "/closed", [], 401),
        ("GET", "/closed", [b"X-VX11-Token: wrong"], 403),
        ("GET", "/madre/socket", [*WEBSOCKET, b"Origin: http://evil.example"], 403),
        ("GET", "/madre/%2e%2e/x", [], 400),
        ("POST", "/madre", [b"Content-Length: 9"], 413),
        ("GET", "/madre", [b"Bad name: x"], 400),
        ("GET", "/refusing", [], 502),
        ("HEAD", "/nothing", [], 404),
        ("HEAD", "/vx11/overview", [], 401),
    ],
)
async def test_every_refusal_says_whose_it_is_and_which_request_it_answers(
    start: Start, refusing_port: int, method: str, target: str, lines: list[bytes], status: int
) -> None:
    async with upstream(answering(ok())) as up:
        table = services(up.port, max_body=4, check_origin=True)
        table["closed"] = {"url": f"http://127.0.0.1:{up.port}", "routes": [{"prefix": "/closed"}]}
        url = f"http://127.0.0.1:{refusing_port}"
        table["refusing"] = {"url": url, "routes": [{"prefix": "/refusing", "auth": "none"}]}
        live = await start(table, auth=OPEN)
        response = await ask(live, target, *lines, method=method)
        assert response.status == status
        assert len(response.all("proxy-status")) == 1
        assert re.fullmatch(r"tentaculo-link-\w+; error=\w+", response.all("proxy-status")[0])
        request_id = assert_ids(response)
        assert [(record.request_id, record.status) for record in live.records] == [(request_id, status)]
        assert live.records[0].error


@pytest.mark.parametrize(
    ("method", "target", "lines", "status"),
    [
        ("GET", "/health", [], 200),
        ("GET", "/status", [], 200),
        ("GET", "/", [], 302),
        ("GET", "http://localhost", [], 302),
        ("HEAD", "http://localhost", [], 302),
        ("OPTIONS", "*", [], 200),
        ("OPTIONS", "/events/ingest", [b"Origin: " + ORIGIN, b"Access-Control-Request-Method: POST"], 204),
        ("OPTIONS", "/madre", [b"Origin: " + ORIGIN, b"Access-Control-Request-Method: POST"], 204),
        ("TRACE", "/madre", [b"Max-Forwards: 0"], 200),
        ("GET", "/madre", [], 200),
        ("GET", "/madre", [b"Expect: 100-continue"], 200),
        ("GET", "/ws", [AUTH, *WEBSOCKET], 101),
    ],
)
async def test_every_answer_carries_both_ids(
    start: Start, method: str, target: str, lines: list[bytes], status: int
) -> None:
    async with upstream(answering(ok(b"x", b"X-Correlation-Id: the-services", b"X_Correlation_Id: as-well"))) as up:
        live = await start(services(up.port))
        response = await ask(live, target, *lines, method=method)
        assert response.status == status
        assert assert_ids(response) not in ("the-services", "")
        assert response.all("x_correlation_id") == []
        assert response.all("proxy-status") == []


REPEATED = [
    ([AUTH, AUTH], 403),
    ([AUTH, b"X-VX11-Token: wrong"], 403),
    ([b"X-VX11-Token: wrong", AUTH], 403),
    ([b"X-VX11-Token:", AUTH], 403),
    ([b"X-VX11-Token:", b"X-VX11-Token: "], 401),
    ([BEARER, BEARER], 400),
    ([BEARER, b"Authorization: Bearer wrong"], 400),
    ([b"Authorization: Basic dTpw", BEARER], 400),
    ([BEARER, b"Authorization: Basic dTpw"], 400),
    ([AUTH, b"Authorization: Basic dTpw", b"Authorization: Basic dTpw"], 400),
    ([b"X-VX11-Token:", b"X-VX11-Token:", BEARER], 0),
]
"""Header lines with a repeated token header, and the refusal; 0 where they are accepted."""


@pytest.mark.parametrize(("lines", "status"), REPEATED)
async def test_a_repeated_token_header_is_judged_alike_everywhere(
    start: Start, lines: list[bytes], status: int
) -> None:
    async with upstream(answering(ok())) as up:
        table = services(up.port)
        table["closed"] = {"url": f"http://127.0.0.1:{up.port}", "routes": [{"prefix": "/closed"}]}
        live = await start(table)
        found = {
            target: (await ask(live, target, *lines, *more)).status
            for target, more in [
                ("/vx11/overview", ()),
                ("/closed", ()),
                ("/closed/health", ()),
                ("/closed/socket", WEBSOCKET),
                ("/ws", WEBSOCKET),
            ]
        }
        accepted = {target: 101 if target == "/ws" else 200 for target in found}
        assert found == (dict.fromkeys(found, status) if status else accepted)


@pytest.mark.parametrize("lines", [lines for lines, _ in REPEATED])
async def test_no_service_gets_a_token_from_a_repeated_header(start: Start, lines: list[bytes]) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port))
        response = await ask(live, "/madre", *lines)
        assert response.status in (200, 400)
        assert not [request for request in up.requests if TOKEN.encode() in request.raw_head]


async def test_both_ids_stand_once_in_answers_that_repeat_a_head(start: Start) -> None:
    async with upstream(answering(ok(b"x", b"X-Correlation-Id: the-services"))) as up:
        live = await start(services(up.port))
        async with dial(live.port) as wire:
            seen = set()
            for _ in range(3):
                await wire.send(b"GET /madre HTTP/1.1\r\nHost: gateway\r\n\r\n")
                seen.add(assert_ids(await wire.response()))
        assert len(seen) == 3
        assert seen == {request.get("x-request-id") for request in up.requests}


async def test_native_and_proxied_requests_of_one_connection_are_each_recorded_once(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port))
        async with dial(live.port) as wire:
            for target in ("/madre", "/livez", "/madre", "/livez", "/vx11/overview", "/madre", "/nothing", "/livez"):
                await wire.send(f"GET {target} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())
                response = await wire.response()
                record = live.records[-1]
                assert (record.target, record.status, record.request_id) == (
                    target,
                    response.status,
                    assert_ids(response),
                )
        assert len(live.records) == 8


async def test_a_path_beside_the_routes_of_a_native_tree_is_404_and_goes_to_no_service(start: Start) -> None:
    async with upstream(answering(ok(b"upstream"))) as up:
        live = await start(services(up.port, prefix="/"))
        assert (await ask(live, "/vx11/incidents/7/anything")).status == 404
        assert (await ask(live, "/vx11/incidents/7")).status == 401
        assert (await ask(live, "/vx11/incidentsx")).body == b"upstream"
        assert (await ask(live, "/vx11")).body == b"upstream"


@pytest.mark.parametrize("is_clean", [True, False])
async def test_the_log_has_an_upgraded_connection_that_its_client_ended_as_101(start: Start, is_clean: bool) -> None:
    live = await start({}, auth=OPEN)
    socket = await websockets.connect(f"ws://127.0.0.1:{live.port}/ws", proxy=None)
    await socket.recv()
    if is_clean:
        await socket.close()
    else:
        socket.transport.abort()
    await eventually(lambda: live.records)
    assert [(record.target, record.status, record.error) for record in live.records] == [("/ws", 101, None)]


async def _failing(self: object, secret: object) -> object:
    raise ValueError("a defect")


@pytest.mark.parametrize(
    ("target", "lines"),
    [
        ("/status", [b"Cookie: " + PLAIN + b"=" + b"a" * 43]),
        ("/events/stream?ticket=any", []),
        ("/closed/stream?ticket=any", [b"Accept: text/html, text/event-stream"]),
    ],
)
async def test_a_defect_behind_the_database_is_a_refusal_of_that_request_as_every_other(
    start: Start, monkeypatch: pytest.MonkeyPatch, target: str, lines: list[bytes]
) -> None:
    monkeypatch.setattr(Sessions, "find", _failing)
    monkeypatch.setattr(Tickets, "redeem", _failing)
    async with upstream(answering(ok())) as up:
        table = services(up.port)
        table["closed"] = {"url": f"http://127.0.0.1:{up.port}", "routes": [{"prefix": "/closed"}]}
        live = await start(table, server=TRUSTED)
        response = await ask(live, target, *lines, b"X-Request-ID: from-the-front")
        assert (response.status, assert_ids(response)) == (500, "from-the-front")
        assert (response.get("proxy-status") or "").endswith("; error=proxy_internal_error")
        assert response.get("connection") is None, "nothing is wrong with the request, nor with the connection"
        assert b"a defect" not in response.body
        record = live.records[0]
        assert [(one.method, one.target.partition("?")[0], one.status) for one in live.records] == [
            ("GET", target.partition("?")[0], 500)
        ]
        assert (record.request_id, record.error) == ("from-the-front", "internal_error")
        assert live.gateway.proxy.traffic.in_flight == 0
