"""The addresses in headers, between a client and a service on real sockets."""

from __future__ import annotations

from typing import Any

import pytest

from tentaculo.proxy.address_mapping import MOST_MAPPED
from tests.conftest import Live, Start
from tests.support.wire import Request, Response, Wire, answering, dial, ok, upstream
from tests.wire.asking import problem

pytestmark = pytest.mark.usefixtures("both_ways")

TRUSTED = {"port": 0, "trusted_proxies": ["127.0.0.0/8"]}
TLS = ("X-Forwarded-Proto: https", "X-Forwarded-Host: public.test")


async def asked(wire: Wire, line: str = "GET /p/x", *lines: str, host: str = "proxy.test") -> Response:
    head = "".join(f"{text}\r\n" for text in (f"{line} HTTP/1.1", f"Host: {host}", *lines))
    await wire.send(head.encode() + b"\r\n")
    return await wire.response()


async def gateway(start: Start, port: int, *, server: dict[str, Any] | None = None, **route: Any) -> Live:
    route = {"prefix": "/p", "strip": True, "auth": "none", **route}
    table = {"s": {"url": f"http://127.0.0.1:{port}", "routes": [route]}}
    return await start(table, server=server or {"port": 0})


def prefix_aware(request: Request) -> bytes:
    """An application that writes X-Forwarded-Prefix before its own paths."""
    prefix = (request.get("x-forwarded-prefix") or "").encode()
    lines = (b"Location: %b/login" % prefix, b"Set-Cookie: session=1; Path=%b" % (prefix or b"/"))
    return ok(b"", *lines, status=b"302 Found")


@pytest.mark.parametrize(
    ("outer", "public"),
    [((), "/p"), (("X-Forwarded-Prefix: /outer",), "/outer/p"), (("X-Forwarded-Prefix: //e",), "/p")],
)
async def test_an_application_that_honours_the_prefix(start: Start, outer: tuple[str, ...], public: str) -> None:
    async with upstream(answering(prefix_aware)) as up:
        live = await gateway(start, up.port, server=TRUSTED)
        async with dial(live.port) as wire:
            for _ in range(2):
                response = await asked(wire, "GET /p/private", *outer)
                assert response.get("location") == f"{public}/login"
                assert response.get("set-cookie") == f"session=1; Path={public}"
        assert up.requests[0].get("x-forwarded-prefix") == public


async def test_what_each_client_gets_is_its_own(start: Start) -> None:
    """The same response for clients with other names, schemes and outer prefixes: nothing cached is mixed up."""

    def answer(_: Request) -> bytes:
        return ok(b"", b"Location: http://127.0.0.1:%d/next" % up.port, b"Set-Cookie: a=b; Path=/", status=b"302 Found")

    async with upstream(answering(answer)) as up:
        live = await gateway(start, up.port, server=TRUSTED)
        async with dial(live.port) as wire:
            for _ in range(2):
                response = await asked(wire)
                assert response.get("location") == "http://proxy.test/p/next"
                response = await asked(wire, host="other.test")
                assert response.get("location") == "http://other.test/p/next"
                response = await asked(wire, "GET /p/x", *TLS)
                assert response.get("location") == "https://public.test/p/next"
                response = await asked(wire, "GET /p/x", *TLS, "X-Forwarded-Prefix: /outer")
                assert response.get("location") == "https://public.test/outer/p/next"
                assert response.get("set-cookie") == "a=b; Path=/outer/p"


@pytest.mark.parametrize("route", [{"prefix": "/keep", "strip": False}, {"prefix": "/", "strip": False}])
async def test_a_kept_prefix_does_not_show_the_services_address(start: Start, route: dict[str, Any]) -> None:
    def answer(_: Request) -> bytes:
        lines = (b"Location: http://proxy.test:%d/keep/dir/" % up.port, b"Link: <http://127.0.0.1:%d/keep/a>" % up.port)
        return ok(b"", *lines, status=b"301 Moved Permanently")

    async with upstream(answering(answer)) as up:
        live = await gateway(start, up.port, **route)
        async with dial(live.port) as wire:
            for _ in range(2):
                response = await asked(wire, "GET /keep/dir")
                assert response.get("location") == "http://proxy.test/keep/dir/"
                assert response.get("link") == "<http://proxy.test/keep/a>"


async def test_a_move_reaches_the_service_in_its_own_view(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await gateway(start, up.port, server=TRUSTED)
        async with dial(live.port) as wire:
            for lines in (
                ("Destination: http://proxy.test/p/b.txt", "If: </p/b.txt> (<urn:uuid:1>)"),
                ("Destination: /p/b.txt", "If: <http://proxy.test/p/b.txt> (<urn:uuid:1>)"),
                (*TLS, "Destination: https://public.test/p/b.txt"),
                ("Destination: http://ana@proxy.test/p/b.txt",),
            ):
                assert (await asked(wire, "MOVE /p/a.txt", *lines)).status == 200
            response = await asked(wire, "MOVE /p/a.txt", "Destination: http://proxy.test/p/%2e%2e/b.txt")
            assert (response.status, len(up.requests)) == (400, 4)
        assert [request.get("destination") for request in up.requests] == [
            "http://proxy.test/b.txt",
            "/b.txt",
            "http://proxy.test/b.txt",
            "http://ana@proxy.test/b.txt",
        ]
        assert [request.get("if") for request in up.requests[:2]] == [
            "</b.txt> (<urn:uuid:1>)",
            "<http://proxy.test/b.txt> (<urn:uuid:1>)",
        ]


async def test_the_service_learns_the_clients_port_behind_tls(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await gateway(start, up.port, server=TRUSTED)
        async with dial(live.port) as wire:
            await asked(wire, "GET /p/x", *TLS)
            await asked(wire, "GET /p/x", "X-Forwarded-Proto: https", "X-Forwarded-Host: public.test:8443")
            await asked(wire, "GET /p/x", "X-Forwarded-Proto: https", "X-Forwarded-Port: 7")
            # The terminator passes the client's Host on, or names the gateway there.
            for host in ("public.test:8443", "[::1]:8443", "public.test", f"proxy.test:{live.port}", "public.test:"):
                await asked(wire, "GET /p/x", "X-Forwarded-Proto: https", host=host)
            await asked(wire)
            await asked(wire, host="public.test:8443")
        ports = [request.get("x-forwarded-port") for request in up.requests]
        assert ports[:3] == ["443", "8443", "7"]
        assert ports[3:8] == ["8443", "8443", "443", "443", "443"]
        assert ports[8:] == [str(live.port), str(live.port)]


@pytest.mark.parametrize("is_upgrade", [False, True], ids=["final", "101"])
async def test_a_head_with_too_many_addresses_is_a_502(start: Start, is_upgrade: bool) -> None:
    """Nothing of it has been sent to the client then, so the gateway's own response can follow."""
    links = b"Link: " + b",".join([b"</a>"] * (MOST_MAPPED + 1))
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n%b\r\n\r\n" % links
    async with upstream(answering(switch if is_upgrade else ok(b"", links))) as up:
        live = await gateway(start, up.port)
        async with dial(live.port) as wire:
            lines = ("Connection: Upgrade", "Upgrade: websocket") if is_upgrade else ()
            response = await asked(wire, "GET /p/x", *lines)
            assert (response.status, problem(response)["error"]) == (502, "response_head_too_large")
            assert (await asked(wire, "OPTIONS /nowhere")).status == 404, "the client's connection stays"


async def test_early_hints_name_what_the_client_can_fetch(start: Start) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
    async with upstream(answering(hints + ok())) as up:
        live = await gateway(start, up.port)
        async with dial(live.port) as wire:
            await wire.send(b"GET /p/x HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.head()).get("link") == "</p/style.css>; rel=preload"
            assert (await wire.response()).status == 200


@pytest.mark.parametrize("line", ["Destination: /open/admin/x", 'If: </open/admin/x> (["etag"])'])
async def test_an_open_route_does_not_lead_to_a_guarded_one_by_a_header(start: Start, line: str) -> None:
    open_route = {"prefix": "/open", "strip": True, "auth": "none"}
    async with upstream(answering(ok())) as up:
        table = {"url": f"http://127.0.0.1:{up.port}", "routes": [open_route, {"prefix": "/admin"}]}
        live = await start({"s": table})
        async with dial(live.port) as wire:
            assert (await asked(wire, "MOVE /open/a")).status == 200
            assert (await asked(wire, "MOVE /open/a", line)).status == 401
            assert (await asked(wire, "MOVE /open/a", line, live.auth.decode().strip())).status == 200
    assert len(up.requests) == 2
