"""The application on the wire: tokens, refusals before the body, what is never told, CORS."""

from __future__ import annotations

import pytest

from tests.conftest import TOKEN, Start
from tests.support.wire import answering, dial, ok, upstream
from tests.wire.asking import ask, problem
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")

ORIGIN = b"http://localhost:8020"
EXPOSED_HERE = "X-Request-ID, X-Correlation-Id, Proxy-Status, RateLimit, RateLimit-Policy, Retry-After"
EXPOSED = b"Access-Control-Expose-Headers: Upload-Offset, Location"


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


@pytest.mark.parametrize(
    ("target", "lines", "status"),
    [
        ("/s/%2e%2e/x?a=b&lang=es", [b"Host: h"], 400),
        ("/s/%00?lang=es", [b"Host: h"], 400),
        ("/s/?lang=es", [b"Host: h", b"Authorization: a", b"Authorization: b"], 400),
        ("/s/?lang=es", [b"Host: h", b"X: " + b"x" * 1500, b"Y: " + b"y" * 1500], 431),
    ],
    ids=["dots", "NUL", "authorization twice", "long head"],
)
async def test_a_browser_gets_the_page_of_a_refusal_that_comes_before_the_target_is_read(
    start: Start, service: Service, target: str, lines: list[bytes], status: int
) -> None:
    """Its language is looked for in a target that may not have been taken apart: the connection was closed then."""
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port), limits={"headers": 2048})
        async with dial(live.port) as wire:
            head = b"".join(line + b"\r\n" for line in (b"Accept: text/html", *lines))
            await wire.send(b"GET %b HTTP/1.1\r\n%b\r\n" % (target.encode(), head))
            page = await wire.response()
    assert (page.status, page.get("content-type")) == (status, "text/html; charset=utf-8")
    assert b'<html lang="es"' in page.body


async def test_cors_for_listed_origins_only(start: Start, service: Service) -> None:
    async with upstream(answering(ok(b"x", b"Access-Control-Allow-Origin: *", b"Vary: Accept", EXPOSED))) as up:
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
            exposed = (refused.get("access-control-expose-headers") or "").lower().split(", ")
            added = {"x-request-id", "x-correlation-id", "proxy-status", "www-authenticate"}
            assert added <= {*exposed} & {name.lower() for name, _ in refused.headers}
            assert {"retry-after", "ratelimit", "ratelimit-policy", "etag"} <= {*exposed}
            listed = await ask(wire, "/s/", b"Origin: " + ORIGIN, live.auth.strip())
            assert listed.all("access-control-allow-origin") == [ORIGIN.decode()]
            assert listed.get("access-control-allow-credentials") == "true"
            assert listed.all("vary") == ["Accept", "Origin"]
            # As resumable uploads need: the page may read what the service lets it read, and what the gateway adds.
            assert listed.all("access-control-expose-headers") == [f"Upload-Offset, Location, {EXPOSED_HERE}"]
            other = await ask(wire, "/s/", b"Origin: http://evil.example", live.auth.strip())
            assert other.all("access-control-allow-origin") == ["*"]
            assert other.all("access-control-expose-headers") == ["Upload-Offset, Location"]


async def test_a_token_is_told_to_nobody(start: Start, service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Not by refusals, not by pages, not by the record of a request, whichever way it came."""
    secret = "a-wrong-and-secret-token"
    async with upstream(answering(ok())) as up:
        services = service(up.port, auth="token")
        services["s"]["token"] = "the-services-own"
        live = await start(services)
        told = b""
        async with dial(live.port) as wire:
            for target in ("/s/", "/vx11/overview", "/debug/events/cardinality", "/nothing"):
                for line in (f"X-VX11-Token: {secret}", f"Authorization: Bearer {secret}", f"X-VX11-Token: {TOKEN}"):
                    for accept in (b"Accept: text/html", b"Accept: */*"):
                        response = await ask(wire, target + "?token=" + secret, line.encode(), accept)
                        told += response.raw_head + response.body
            for target in ("/status", "/vx11/status", "/metrics", "/health"):
                response = await ask(wire, target)
                told += response.raw_head + response.body
    told += repr(live.records).encode() + caplog.text.encode()
    for word in (secret, TOKEN, "the-services-own"):
        assert word.encode() not in told


async def test_what_a_client_sends_cannot_write_the_log(
    start: Start, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    live = await start({})
    async with dial(live.port) as wire:
        await wire.send(b"GET /s/\x1b[31m HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await wire.response()).status == 400
    async with dial(live.port) as wire:
        assert (await ask(wire, "/x%0d%0aforged%1b", b"User-Agent: \xff\xfe")).status == 404
        assert (await ask(wire, "/caf\u00e9")).status == 404
    assert "\x1b[31m " not in capsys.readouterr().out
    assert [record.target for record in live.records][-2:] == ["/x%0d%0aforged%1b", "/caf\u00e9"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"source": "s", "type": "t", "payload": ' + b'{"a":' * 100 + b"1" + b"}" * 100 + b"}", 400),
        (b"[" * (1024 * 1024 + 1), 413),
        (b"[" * 100_000, 400),
        (b'{"source": "s", "type": "t", "payload": {"a": NaN}}', 422),
        (b"\xff", 400),
        (b'{"source": "s", "type": "t", "payload": {"a": "' + b"x" * 70_000 + b'"}}', 413),
    ],
)
async def test_json_is_bounded_in_depth_and_size(start: Start, body: bytes, status: int) -> None:
    live = await start({})
    async with dial(live.port) as wire:
        head = b"POST /events/ingest HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n" + live.auth
        await wire.send(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        assert (await wire.response()).status == status


async def test_writing_calls_need_a_token_and_a_json_media_type(start: Start) -> None:
    """What a foreign page can send without asking (RFC 6454, CORS): none of it is enough."""
    live = await start({}, events={"wait": 0.1})
    body = b'{"source": "s", "type": "t", "payload": {}}'
    async with dial(live.port) as wire:
        for lines, status in [
            (b"Content-Type: application/json\r\n", 401),
            (live.auth, 415),
            (live.auth + b"Content-Type: text/plain\r\n", 415),
            (live.auth + b"Content-Type: application/x-www-form-urlencoded\r\n", 415),
            (live.auth + b"Content-Type: application/json; charset=utf-8\r\n", None),
        ]:
            await wire.send(
                b"POST /events/ingest HTTP/1.1\r\nHost: h\r\n"
                + lines
                + b"Content-Length: %d\r\n\r\n" % len(body)
                + body
            )
            response = await wire.response()
            assert response.status == status if status else response.status in (201, 503)


async def test_pages_are_safe_to_open(start: Start) -> None:
    live = await start({})
    async with dial(live.port) as wire:
        for target in ("/status", "/nothing<script>"):
            response = await ask(wire, target, b"Accept: text/html")
            assert "default-src 'none'" in (response.get("content-security-policy") or "")
            assert "frame-ancestors 'none'" in (response.get("content-security-policy") or "")
            assert response.get("x-content-type-options") == "nosniff"
            assert b"<script>alert" not in response.body
            assert b"nothing<script>" not in response.body


async def test_the_gateway_names_neither_aiohttp_nor_python(start: Start) -> None:
    live = await start({})
    async with dial(live.port) as wire:
        for target in ("/health", "/status", "/nothing", "/vx11/overview", "/livez"):
            response = await ask(wire, target)
            assert b"aiohttp" not in response.raw_head.lower()
            assert b"python" not in response.raw_head.lower()
