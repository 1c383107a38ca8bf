"""Native routes behind the dispatcher: tokens, CORS, problems, safe headers."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientPayloadError
from aiohttp.test_utils import make_mocked_request

from tentaculo.config.accepted_tokens import AuthSettings
from tentaculo.server.native_routes import is_known
from tests.support.calls import counting_calls
from tests.support.native_gateway import ORIGIN, TOKEN, Gateway, State, running

OPEN = ["/", "/health", "/vx11/status", "/livez", "/readyz", "/metrics", "/status"]
CLOSED = ["/vx11/overview", "/vx11/circuit-breaker/status", "/ws"]
RIGHT, WRONG = TOKEN, "wrong-token"


async def raw(gateway: Gateway, request: bytes) -> bytes:
    """Send these bytes; the status line of the answer."""
    reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
    try:
        writer.write(request)
        async with asyncio.timeout(3):
            return await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("path", OPEN)
@pytest.mark.parametrize("headers", [{}, {"X-VX11-Token": RIGHT}, {"X-VX11-Token": WRONG}])
async def test_open_paths_ask_for_nothing(gateway: Gateway, path: str, headers: dict[str, str]) -> None:
    async with gateway.client.get(path, headers=headers) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize(
    ("headers", "status", "error"),
    [
        ({}, 401, "auth_required"),
        ({"Authorization": "Basic dXNlcjpw"}, 401, "auth_required"),
        ({"X-VX11-Token": WRONG}, 403, "forbidden"),
        ({"X-VX11-Token": ""}, 401, "auth_required"),
        ({"Authorization": f"Bearer {WRONG}"}, 403, "forbidden"),
        ({"X-VX11-Token": WRONG, "Authorization": f"Bearer {RIGHT}"}, 403, "forbidden"),
        ({"X-VX11-Token": RIGHT}, 0, ""),
        ({"Authorization": f"Bearer {RIGHT}"}, 0, ""),
        ({"Authorization": f"bearer {RIGHT}"}, 0, ""),
        ({"X-VX11-Token": RIGHT, "Authorization": f"Bearer {WRONG}"}, 0, ""),
    ],
)
async def test_closed_paths_ask_for_the_token(
    gateway: Gateway, path: str, headers: dict[str, str], status: int, error: str
) -> None:
    async with gateway.client.get(path, headers=headers) as answer:
        if not status:
            assert answer.status in (200, 201)
            return
        body = await answer.text()
        assert answer.status == status
        assert answer.content_type == "application/problem+json"
        problem = await answer.json(content_type=None)
        assert (problem["error"], problem["status_code"], problem["status"]) == (error, status, status)
        assert ("WWW-Authenticate" in answer.headers) is (status == 401)
        assert RIGHT not in body
        assert WRONG not in body


async def test_the_configuration_opens_and_closes_paths() -> None:
    async with running(State(), AuthSettings(open_status=False, open_websocket=True)) as gateway:
        async with gateway.client.get("/status") as answer:
            assert answer.status == 401
        async with gateway.client.get("/ws") as answer:
            assert answer.status == 201


async def test_an_encoded_path_is_no_native_one(gateway: Gateway) -> None:
    assert await raw(gateway, b"GET /vx11/%6fverview HTTP/1.1\r\nHost: x\r\n\r\n") == b"HTTP/1.1 404 Not Found\r\n"


async def test_a_refusal_does_not_wait_for_the_body(gateway: Gateway) -> None:
    head = b"POST /events/ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    assert await raw(gateway, head) == b"HTTP/1.1 401 Unauthorized\r\n"
    assert gateway.state.bodies == []


async def test_an_unknown_path_is_404_for_everybody_and_tells_nothing(gateway: Gateway) -> None:
    for headers in ({}, {"X-VX11-Token": RIGHT}):
        async with gateway.client.get("/no/such/path", headers=headers) as answer:
            assert (answer.status, answer.content_type) == (404, "application/problem+json")
            problem = await answer.json(content_type=None)
            assert set(problem) == {"type", "title", "status", "error", "status_code", "request_id"}
            assert problem["error"] == "not_found"
            assert problem["request_id"] == answer.headers["X-Request-ID"]
            assert "aiohttp" not in str(answer.headers)
            assert TOKEN not in await answer.text()
            assert "10.9.8.7" not in await answer.text()


@pytest.mark.parametrize(("path", "headers"), [("/health", {}), ("/vx11/overview", {"X-VX11-Token": RIGHT})])
async def test_a_wrong_method_is_told_the_right_ones(gateway: Gateway, path: str, headers: dict[str, str]) -> None:
    async with gateway.client.delete(path, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (405, "application/problem+json")
        assert {name.strip() for name in answer.headers["Allow"].split(",")} == {"GET", "HEAD"}
        assert (await answer.json(content_type=None))["error"] == "method_not_allowed"


async def test_a_wrong_method_on_a_closed_path_still_needs_the_token(gateway: Gateway) -> None:
    async with gateway.client.delete("/vx11/overview") as answer:
        assert answer.status == 401


async def test_a_defect_is_answered_500_and_nothing_of_it_gets_out(gateway: Gateway) -> None:
    async with gateway.client.get("/debug/fail", headers={"X-VX11-Token": RIGHT}) as answer:
        assert (answer.status, answer.content_type) == (500, "application/problem+json")
        text = await answer.text()
        assert "1234" not in text
        assert "RuntimeError" not in text
        assert answer.headers["X-Request-ID"] in text
    async with gateway.client.get("/health") as answer:
        assert answer.status == 200


async def test_a_failure_within_an_answer_ends_the_connection_and_never_looks_whole(gateway: Gateway) -> None:
    async with gateway.client.get("/debug/break-off", headers={"X-VX11-Token": RIGHT}) as answer:
        with pytest.raises(ClientPayloadError):
            await answer.read()


async def test_a_browser_is_shown_a_page(gateway: Gateway) -> None:
    async with gateway.client.get("/vx11/overview", headers={"Accept": "text/html"}) as answer:
        assert (answer.status, answer.content_type) == (401, "text/html")
        assert "A token is required." in await answer.text()
        assert "style-src 'sha256-" in answer.headers["Content-Security-Policy"]
        assert "script-src" not in answer.headers["Content-Security-Policy"]


async def test_a_preflight_of_a_listed_origin_needs_no_token(gateway: Gateway) -> None:
    headers = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-vx11-token, content-type",
    }
    async with gateway.client.options("/events/ingest", headers=headers) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert "x-vx11-token" in answer.headers["Access-Control-Allow-Headers"]
        assert int(answer.headers["Access-Control-Max-Age"]) > 0
        assert "Origin" in answer.headers["Vary"]
        assert answer.headers.getall("Access-Control-Allow-Origin") == [ORIGIN]


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:8020.evil.example", "null"])
async def test_another_origin_gets_no_cors_headers(gateway: Gateway, origin: str) -> None:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    async with gateway.client.options("/events/ingest", headers=headers) as answer:
        assert answer.status == 401
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
    async with gateway.client.get("/health", headers={"Origin": origin}) as answer:
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
        assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize(("path", "status"), [("/health", 200), ("/vx11/overview", 401), ("/nothing", 404)])
async def test_a_listed_origin_can_read_answers_and_refusals(gateway: Gateway, path: str, status: int) -> None:
    async with gateway.client.get(path, headers={"Origin": ORIGIN}) as answer:
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"


@pytest.mark.parametrize("path", ["/health", "/status", "/metrics", "/vx11/overview", "/nothing"])
async def test_safe_headers_are_on_every_answer(gateway: Gateway, path: str) -> None:
    async with gateway.client.get(path) as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        # A page has forms, which browsers would send with the Origin `null`.
        expected = "same-origin" if path == "/status" else "no-referrer"
        assert answer.headers["Referrer-Policy"] == expected
        assert answer.headers["Cache-Control"] == ("no-cache, private" if path == "/status" else "no-store")
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Server"] == "Tentaculo-Link"
        first = answer.headers["X-Request-ID"]
    async with gateway.client.get(path) as answer:
        assert answer.headers["X-Request-ID"] != first


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ('"a"', True),
        ('W/"a"', True),
        ('"x,y" ,\tW/"a"', True),
        ("*", True),
        ("a", False),
        ('w/"a"', False),
        ('"a', False),
        ('"b"', False),
        ("", False),
    ],
)
@pytest.mark.parametrize("etag", ['"a"', 'W/"a"'])
def test_a_document_is_known_by_its_tag(sent: str, etag: str, *, expected: bool) -> None:
    assert is_known(make_mocked_request("GET", "/", headers={"If-None-Match": sent}), etag) is expected


def test_a_document_is_not_known_without_a_tag() -> None:
    assert not is_known(make_mocked_request("GET", "/"), '"a"')


@pytest.mark.parametrize("part", ['"a",', 'W/"a" ,', '"'])
def test_the_cost_of_many_tags_is_small(part: str) -> None:
    request = make_mocked_request("GET", "/", headers={"If-None-Match": part * (30_000 // len(part))})
    with counting_calls() as calls:
        assert not is_known(request, 'W/"b"')
    assert calls.total < 50
