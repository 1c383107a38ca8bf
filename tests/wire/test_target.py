"""Target and Host: one view of them for routing, for the token and for the upstream, byte for byte (RFC 9112 section 3.2)."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Start
from tests.support.wire import Request, answering, dial, ok, upstream
from tests.wire.asking import ask, problem
from tests.wire.conftest import Service


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
        "/s/a%2f./x",
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


@pytest.mark.parametrize("target", ["/./Release", "/dists/./InRelease", "/%2e/x", "/."])
async def test_a_single_dot_passes_as_it_came(start: Start, service: Service, target: str) -> None:
    """apt asks for `/./Packages` in a flat repository (`deb URL ./`)."""
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            assert (await ask(wire, f"/s{target}")).status == 200
    assert up.requests[0].target == target


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
                assert up.requests[-1].all("x-forwarded-prefix") == []
            posted = await ask(wire, "/shubniggurath/health", live.auth.strip(), method="POST")
            assert posted.body == b"/shubniggurath/health"


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"healthy"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nhea",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nhealthy\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhealthy",
    ],
)
async def test_head_of_the_health_path_where_the_service_knows_only_get(start: Start, answer: bytes) -> None:
    def only_get(request: Request) -> bytes:
        return answer if request.method == "GET" else ok(b"", status=b"405 Method Not Allowed")

    async with upstream(answering(only_get)) as up:
        service = {"url": f"http://127.0.0.1:{up.port}", "health": "/healthz", "routes": [{"prefix": "/madre"}]}
        live = await start({"madre": service})
        async with dial(live.port) as wire:
            for _ in range(2):
                head = await ask(wire, "/madre/health", live.auth.strip(), method="HEAD")
                assert (head.status, head.all("content-length")) == (200, ["7"] if b"Length" in answer else [])
                # What follows on this connection is the next response, and no body of the one before.
                assert (await ask(wire, "/madre/x", live.auth.strip(), method="PUT")).status == 405
            assert (await ask(wire, "/madre/x", live.auth.strip(), method="HEAD")).status == 405
    assert [(request.method, request.target) for request in up.requests if request.target != "/madre/x"] == [
        ("GET", "/healthz")
    ] * 2
    assert {record.sent for record in live.records if record.target == "/madre/health"} == {0}


async def test_host_override(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        services = service(up.port)
        services["s"]["host"] = "inner.example"
        live = await start(services)
        async with dial(live.port) as wire:
            await ask(wire, "/s/")
    assert up.requests[0].get("host") == "inner.example"
    assert up.requests[0].get("x-forwarded-host") == "h"


@pytest.mark.parametrize("method", ["FOO", "m-x", "GETX", "BREW!#$%&'*+.^_`|~", "PLAY", "QUERY"])
async def test_any_method_token_passes(start: Start, service: Service, method: str) -> None:
    async with upstream(answering(ok(b"fine"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for number in range(3):
                head = f"{method} /s/{number} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
                await wire.send(head.encode())
                assert (await wire.response()).body == b"fine"
                await wire.send(b"GET /s/after HTTP/1.1\r\nHost: h\r\n\r\n")
                assert (await wire.response()).body == b"fine"
            await wire.send(f"{method} /health HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            assert (await wire.response()).status == 405
    assert [(request.method, request.target) for request in up.requests[:2]] == [(method, "/0"), ("GET", "/after")]
    assert [request.body for request in up.requests[::2]] == [b"hi"] * 3


@pytest.mark.parametrize(
    "line", [b"get /s/", b"Post /s/", b"CONNECTED", b"G@T /s/", b"X" * 65 + b" /s/", b"FOO x", b"FOO *"]
)
async def test_what_is_no_method_or_looks_like_another_is_refused(start: Start, service: Service, line: bytes) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(line + b" HTTP/1.1\r\nHost: h\r\n\r\n")
            response = await wire.response()
            assert (response.status, response.get("connection")) == (400, "close")
    assert up.connections == 0


async def test_utf8_in_a_target_goes_through_byte_for_byte(start: Start, service: Service) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for target in ("/é?q=ñ&%C3%A9", "/日本/%2F?", "/a?é"):
                await wire.send(f"GET /s{target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
                assert (await wire.response()).status == 200
                await wire.send(b"POST /s/p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n\xff\xfe\r")
                assert (await wire.response()).status == 200
            await wire.send("GET /health?é HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            assert json.loads((await wire.response()).body)["module"] == "tentaculo_link"
    seen = [request.target.encode("latin-1").decode() for request in up.requests]
    assert seen == ["/é?q=ñ&%C3%A9", "/p", "/日本/%2F?", "/p", "/a?é", "/p"]


@pytest.mark.parametrize("target", [b"/s/\xff", b"/s/\xc0\xae\xc0\xae/x", b"/s/\xed\xa0\x80", b"/s/?\xe9"])
async def test_bytes_outside_utf8_in_a_target_are_refused(start: Start, service: Service, target: bytes) -> None:
    """A limit (docs/limits.md): llhttp takes ASCII only, and what is not UTF-8 could be read in two ways."""
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.response()).status == 400
    assert up.connections == 0


async def test_odd_request_lines_may_be_pipelined(start: Start, service: Service) -> None:
    odd = "FOO /s/é HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nGET /\r\n\r\n".encode()
    plain = b"GET /s/x HTTP/1.1\r\nHost: h\r\n\r\n"
    async with upstream(answering(lambda request: ok(request.method.encode() + request.body))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send((odd + plain + odd) * 5)
            assert [(await wire.response()).body for _ in range(15)] == [
                b"FOOGET /\r\n\r\n",
                b"GET",
                b"FOOGET /\r\n\r\n",
            ] * 5


async def test_what_follows_a_request_that_closes_is_left_unread(start: Start, service: Service) -> None:
    async with upstream(answering(ok(b"last"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            rest = b" HTTP/1.1\r\nHost: h\r\n"
            await wire.send(b"GET /s/1" + rest + b"Connection: close\r\n\r\nGET /s/2" + rest + b"\r\n")
            answers = await wire.rest()
    assert answers.count(b"HTTP/1.1 ") == 1
    assert answers.endswith(b"last")
    assert len(up.requests) == 1


async def test_an_odd_request_line_may_come_in_any_pieces(start: Start, service: Service) -> None:
    async with upstream(answering(lambda request: ok(request.method.encode() + request.body))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire, dial(live.port) as other:
            lead, line = b"\r\nGET /s/1 HTTP/1.1\r\nHost: h\r\n\r\n", "\r\nFOO /s/é HTTP/1.1\r\n".encode()
            whole = lead + line + b"Host: h\r\nContent-Length: 2\r\n\r\nhi"
            for cut in range(len(lead) + 1, len(lead) + len(line)):
                await wire.send(whole[:cut])
                assert (await wire.response()).body == b"GET"
                assert (await ask(other, "/s/")).status == 200  # the bytes above have been read by now
                await wire.send(whole[cut:])
                assert (await wire.response()).body == b"FOOhi"
    assert {request.target for request in up.requests if request.method == "FOO"} == {"/\u00c3\u00a9"}


async def test_an_odd_request_line_may_come_byte_by_byte(start: Start, service: Service) -> None:
    async with upstream(answering(ok(b"fine"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire, dial(live.port) as other:
            for byte in "FOO http://h/s/é HTTP/1.1\r\nHost: h\r\n\r\n".encode():
                await wire.send(bytes([byte]))
                assert (await ask(other, "/s/")).status == 200
            assert (await wire.response()).body == b"fine"
    assert [request.method for request in up.requests].count("FOO") == 1


async def test_a_line_that_cannot_become_a_request_is_refused_before_it_ends(start: Start, service: Service) -> None:
    live = await start(service(1))
    for beginning in (b"\x16\x03\x01\x02", b"G{T", b" GET", b"GET /s/" + b"a" * 40_000, b"FOO /s/" + b"a" * 40_000):
        async with dial(live.port) as wire:
            await wire.send(beginning)
            assert (await wire.response()).status == (414 if b"GET /s/" in beginning else 400)


@pytest.mark.parametrize("target", [b"*", b"http://h.example"])
async def test_options_of_the_server_is_answered_here_or_goes_on_as_a_star(
    start: Start, service: Service, target: bytes
) -> None:
    head = b"OPTIONS " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n"
    async with upstream(answering(ok(b"all"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(head)
            response = await wire.response()
            assert (response.status, response.body, up.requests) == (200, b"", [])
        live = await start(service(up.port, prefix="/", strip=False))
        async with dial(live.port) as wire:
            await wire.send(head)
            assert (await wire.response()).body == b"all"
        assert up.requests[0].target == "*"
        live = await start(service(up.port, prefix="/", strip=False, auth="token"))
        async with dial(live.port) as wire:
            await wire.send(head)
            assert (await wire.response()).status == 401


@pytest.mark.parametrize(
    "start_line",
    [
        b"GET * HTTP/1.1",
        b"GET s HTTP/1.1",
        b"GET ftp://h/s/ HTTP/1.1",
        b"GET http:///s/ HTTP/1.1",
        b"GET http://h:x/s/ HTTP/1.1",
        b"GET http://a,b/s/ HTTP/1.1",
        b"CONNECT h:443 HTTP/1.1",
        b"CONNECT /s/ HTTP/1.1",
        b"GET /s/",
        b"GET  /s/ HTTP/1.1",
        b"GET /s/  HTTP/1.1",
        b"GET\t/s/\tHTTP/1.1",
        b"GET /s/ HTTP/1.1 ",
    ],
)
async def test_other_forms_of_a_target_are_refused(start: Start, service: Service, start_line: bytes) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(start_line + b"\r\nHost: h\r\n\r\n")
            assert (await wire.response()).status in (400, 501)
    assert up.connections == 0


@pytest.mark.parametrize(
    "start_line",
    [b"GET /s/ HTTP/0.9", b"GET /s/ HTTP/1.2", b"GET /s/ HTTP/2.0", b"BREW /s/ HTTP/3.0", b"PRI * HTTP/2.0"],
)
async def test_another_version_is_a_505(start: Start, service: Service, start_line: bytes) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(start_line + b"\r\nHost: h\r\n\r\n")
            response = await wire.response()
            assert (response.status, problem(response)["error"]) == (505, "http_version_not_supported")
            assert response.version == "HTTP/1.1"
            assert await wire.rest() == b""
    assert up.connections == 0


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"Host: h\r\nHost: h\r\n",
        b"Host: h\r\nhost: other\r\n",
        b"Host: u:p@h\r\n",
        b"Host: h/x\r\n",
        b"Host: h?x\r\n",
        b"Host: h#x\r\n",
        b"Host: h\\x\r\n",
        b"Host: a,b\r\n",
        b"Host: a b\r\n",
        b"Host: h\tx\r\n",
        b"Host: h:8x\r\n",
        b"Host: h:65536\r\n",
        b"Host: [::1\r\n",
        b"Host: http://h\r\n",
        b"Host : h\r\n",
        b" Host: h\r\n",
    ],
)
async def test_a_host_that_is_missing_repeated_or_malformed_is_refused(
    start: Start, service: Service, lines: bytes
) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port))
        for target in (b"/s/", b"http://h/s/", b"/health"):
            async with dial(live.port) as wire:
                await wire.send(b"GET " + target + b" HTTP/1.1\r\n" + lines + b"\r\n")
                assert (await wire.response()).status == 400
    assert up.connections == 0


async def test_an_absolute_target_decides_route_and_host(start: Start, service: Service) -> None:
    async with upstream(answering(ok(b"one"))) as one, upstream(answering(ok(b"two"))) as two:
        services = service(one.port)
        services["t"] = {
            "url": f"http://127.0.0.1:{two.port}",
            "routes": [{"prefix": "/s", "host": "two.example", "auth": "none"}],
        }
        live = await start(services)
        async with dial(live.port) as wire:
            for target, host, body in [
                ("HTTP://Two.example:80/s/x?a", "h", b"two"),
                ("/s/x", "two.example", b"two"),
                ("http://h/s/x", "two.example", b"one"),
                ("https://u.example?s", "two.example", None),
            ]:
                await wire.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                response = await wire.response()
                # The last one asks for `/`, which is the gateway's own where no route takes it.
                assert (response.status, response.body) == (200, body) if body else response.status == 302
    assert (two.requests[0].target, two.requests[0].get("host")) == ("/s/x?a", "Two.example:80")
    assert one.requests[0].get("host") == "h"


@pytest.mark.parametrize("size", [1, 8 * 1024, 8 * 1024 + 1, 12 * 1024, 40_000])
async def test_a_request_behind_a_body_that_came_at_once_is_judged_as_any_other(
    start: Start, service: Service, size: int
) -> None:
    """A body that is larger than the parser's buffer ends without a word of the parser."""
    before = b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    async with upstream(answering(lambda request: ok(request.method.encode()))) as up:
        live = await start(service(up.port))
        for pipelined in (False, True):
            async with dial(live.port) as wire:
                odd = "FOO /s/é HTTP/1.1\r\nHost: h\r\n\r\n".encode()
                await wire.send(before + (odd if pipelined else b""))
                assert (await wire.response()).status == 200
                await wire.send(b"" if pipelined else odd)
                assert (await wire.response()).body == b"FOO"
                await wire.send(before)
                assert (await wire.response()).status == 200
                await wire.send(b"GET  /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
                assert (await wire.response()).status == 400
    assert [request.method for request in up.requests] == ["POST", "FOO", "POST"] * 2
