"""Target and Host: one view of them for routing, for the token and for the upstream, byte for byte (RFC 9112 section 3.2)."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Start
from tests.wire.asking import ask
from tests.wire.conftest import Service
from tests.wirekit import (
    answering,
    dial,
    ok,
    upstream,
)


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "PROPFIND"]
)
async def test_every_method_passes(start: Start, service: Service, method: str) -> None:
    async with upstream(answering(ok(b"" if method == "HEAD" else b"fine"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(f"{method} /s/path?q=1 HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            response = await wire.response(method)
    assert response.status == 200
    assert response.body == (b"" if method == "HEAD" else b"fine")
    assert (up.requests[0].method, up.requests[0].target) == (method, "/path?q=1")


async def test_the_target_goes_through_byte_for_byte(start: Start, service: Service) -> None:
    target = "/a%2Fb%20c%7E+;p=1//x?a=%2f&b=+&c&?="
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(f"GET /s{target} HTTP/1.1\r\nHost: h\r\n\r\n".encode("latin-1"))
            assert (await wire.response()).status == 200
    assert up.requests[0].target == target


@pytest.mark.parametrize(
    "target",
    [
        "/s/../x",
        "/s/%2e%2e/x",
        "/s/.%2E/x",
        "/s/..;a=b/x",
        "/s/./x",
        "/s/a%2f../x",
        "/s/%2e%2e%5cx",
        "/s\\x",
        "/s/%00",
        "/s/..",
        "/s#x",
    ],
)
async def test_a_path_that_could_be_read_in_two_ways_is_refused(start: Start, service: Service, target: str) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            assert (await ask(wire, target)).status == 400
    assert up.connections == 0


async def test_absolute_form_wins_over_host(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            assert (await ask(wire, "http://wins.example/s/x?y=1", host="loses")).status == 200
    assert (up.requests[0].target, up.requests[0].get("host")) == ("/x?y=1", "wins.example")


async def test_http_1_0_without_a_host(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.0\r\n\r\n")
            assert (await wire.response()).status == 200
    assert up.requests[0].get("host") == f"127.0.0.1:{up.port}"


async def test_prefixes_hosts_and_root(start: Start) -> None:
    async with upstream(answering(lambda request: ok(request.target.encode()))) as up:
        url = f"http://127.0.0.1:{up.port}"
        live = await start(
            {
                "madre": {
                    "url": url,
                    "routes": [
                        {"prefix": "/madre", "auth": "none"},
                        {"prefix": "/madre/tasks", "to": "/tasks", "auth": "none"},
                        {"prefix": "/madre", "host": "other.example", "to": "/elsewhere", "auth": "none"},
                    ],
                },
                "site": {"url": url, "routes": [{"prefix": "/", "auth": "none"}]},
            }
        )
        async with dial(live.port) as wire:
            for target, host, seen in [
                ("/madre/x", "h", "/madre/x"),
                ("/madre", "h", "/madre"),
                ("/madre/tasks/5?a=b", "h", "/tasks/5?a=b"),
                ("/madre/tasksx", "h", "/madre/tasksx"),
                ("/madre/x", "other.example:8000", "/elsewhere/x"),
                ("/madres", "h", "/madres"),
                ("/", "h", "/"),
                ("/events/other", "h", "/events/other"),
            ]:
                assert (await ask(wire, target, host=host)).body.decode() == seen
            for target in ("/health", "/health?x=y", "http://any.example/health"):
                assert json.loads((await ask(wire, target)).body)["module"] == "tentaculo_link"


async def test_the_health_path_of_a_service(start: Start) -> None:
    async with upstream(answering(lambda request: ok(request.target.encode()))) as up:
        live = await start(
            {
                "shubniggurath": {
                    "url": f"http://127.0.0.1:{up.port}",
                    "aliases": ["shub"],
                    "health": ["/healthz", "/health"],
                    "routes": [{"prefix": "/shubniggurath"}],
                }
            }
        )
        async with dial(live.port) as wire:
            assert (await ask(wire, "/shubniggurath/health")).status == 401
            for name in ("shubniggurath", "shub"):
                assert (await ask(wire, f"/{name}/health", live.auth.strip())).body == b"/healthz"
            posted = await ask(wire, "/shubniggurath/health", live.auth.strip(), method="POST")
            assert posted.body == b"/shubniggurath/health"


async def test_host_override(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        services = service(up.port)
        services["s"]["host"] = "inner.example"
        live = await start(services)
        async with dial(live.port) as wire:
            await ask(wire, "/s/")
    assert up.requests[0].get("host") == "inner.example"
    assert up.requests[0].get("x-forwarded-host") == "h"
