from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tentaculo.config.routes import RouteSettings
from tentaculo.config.schema import Config
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.health import Endpoint
from tentaculo.proxy.address_mapping import (
    MOST_REFERENCES,
    RESPONSE_FIELDS,
    AddressMapping,
    is_same_for_all,
)
from tentaculo.proxy.client_view import ClientView
from tentaculo.proxy.route import CompiledRoute
from tentaculo.server.route_table import Match

UPSTREAM = Endpoint("s", "10.0.0.5", 8001)
GATE = ClientView("http", "gate.example:8000", "gate.example:8000")
TLS = ClientView("https", "public.example", "public.example")
OUTER = ClientView("https", "public.example", "gate.example:8000", "/outer")
STRIP: dict[str, Any] = {"prefix": "/s", "strip": True}
TO: dict[str, Any] = {"prefix": "/madre/tasks", "to": "/tasks"}
KEEP: dict[str, Any] = {"prefix": "/s"}
ROOT: dict[str, Any] = {"prefix": "/"}
EXACT: dict[str, Any] = {"prefix": "/one", "exact": True}
NESTED: dict[str, Any] = {"prefix": "/a", "to": "/a/b"}


def mapping(
    route: dict[str, Any], view: ClientView = GATE, upstream: Endpoint | None = UPSTREAM, **service: Any
) -> AddressMapping:
    config = Config.of({"services": {"s": {"url": "http://10.0.0.5:8001", "routes": [route], **service}}})
    made = config.services["s"]
    return AddressMapping(CompiledRoute(made, made.routes[0], config.limits, None), view, upstream)


def location(route: dict[str, Any], value: str, view: ClientView = GATE, **service: Any) -> str:
    return mapping(route, view, **service).to_client(b"location", value.encode()).decode()


class TestPaths:
    @pytest.mark.parametrize(
        ("route", "path", "expected"),
        [
            (STRIP, "/", "/s/"),
            (STRIP, "/login?next=/x#y", "/s/login?next=/x#y"),
            (STRIP, "/café/%ff", "/s/café/%ff"),
            (STRIP, "/?a", "/s/?a"),
            (TO, "/tasks", "/madre/tasks"),
            (TO, "/tasks/7?x", "/madre/tasks/7?x"),
            (TO, "/tasksx", "/tasksx"),
            (TO, "/login", "/login"),
            (NESTED, "/a/b/c", "/a/c"),
            ({"prefix": "/api/v2", "to": "/api"}, "/api/x", "/api/v2/x"),
            ({"prefix": "/api/v2", "to": "/api"}, "/api/v2/x", "/api/v2/x"),
            (KEEP, "/s/x", "/s/x"),
            (KEEP, "/else", "/else"),
            ({"prefix": "/", "to": "/app"}, "/app", "/"),
            ({"prefix": "/", "to": "/app"}, "/app/x", "/x"),
            ({"prefix": "/", "to": "/app"}, "/else", "/else"),
            # What is left must not become the name of another host.
            ({"prefix": "/", "to": "/app"}, "/app//evil.example/x", "/.//evil.example/x"),
            ({"prefix": "/", "to": "/app"}, "/app/\\evil.example/x", "/./\\evil.example/x"),
        ],
    )
    def test_comes_back_with_the_prefix(self, route: dict[str, Any], path: str, expected: str) -> None:
        assert location(route, path) == expected

    @pytest.mark.parametrize(
        ("route", "stated", "path"),
        [(STRIP, "/s", "/login"), (TO, "/madre/tasks", "/tasks/7"), (NESTED, "/a", "/a/b/c")],
    )
    @pytest.mark.parametrize("outer", ["", "/outer"])
    def test_an_application_that_honours_the_stated_prefix_gets_it_once(
        self, route: dict[str, Any], stated: str, path: str, outer: str
    ) -> None:
        """It writes what X-Forwarded-Prefix says before its own path."""
        view = GATE._replace(prefix=outer)
        plain = mapping({**route}, view).path_to_client(path)
        assert location(route, outer + stated + path, view) == plain
        assert location(route, f"http://gate.example:8000{outer}{stated}{path}", view).endswith(plain)

    @pytest.mark.parametrize(
        ("route", "path", "expected"),
        [
            (STRIP, "/next", "/outer/s/next"),
            (STRIP, "/outer/s/next", "/outer/s/next"),
            (STRIP, "/outer/x", "/outer/s/outer/x"),
            (KEEP, "/s/next", "/outer/s/next"),
            (KEEP, "/outer/s/next", "/outer/s/next"),
            (KEEP, "/login", "/outer/login"),
            (ROOT, "/next", "/outer/next"),
            (ROOT, "/outer/next", "/outer/next"),
            (TO, "/tasks/7", "/outer/madre/tasks/7"),
        ],
    )
    def test_a_prefix_that_a_trusted_proxy_removed(self, route: dict[str, Any], path: str, expected: str) -> None:
        assert location(route, path, OUTER) == expected


class TestAuthorities:
    @pytest.mark.parametrize(
        ("reference", "expected"),
        [
            ("http://gate.example:8000/x?y#z", "http://gate.example:8000/s/x?y#z"),
            ("HTTP://GATE.example:8000/x", "HTTP://GATE.example:8000/s/x"),
            ("http://gate.example:8000", "http://gate.example:8000/s/"),
            ("http://gate.example:8000?q", "http://gate.example:8000/s/?q"),
            ("//gate.example:8000/x", "//gate.example:8000/s/x"),
            # The client's host on another scheme is the application's wish, as in a redirect to https.
            ("https://gate.example:8000/x", "https://gate.example:8000/s/x"),
            # The service by its address, with and without port and scheme, and the client's host with its port.
            ("http://10.0.0.5:8001/x?y", "http://gate.example:8000/s/x?y"),
            ("http://10.0.0.5:8001", "http://gate.example:8000/s/"),
            ("http://10.0.0.5:8001#f", "http://gate.example:8000/s/#f"),
            ("https://10.0.0.5:8001/x", "http://gate.example:8000/s/x"),
            ("http://10.0.0.5/x", "http://gate.example:8000/s/x"),
            ("//10.0.0.5:8001/x", "//gate.example:8000/s/x"),
            ("http://gate.example:8001/x/", "http://gate.example:8000/s/x/"),
            ("http://0.0.0.0:8001/x", "http://gate.example:8000/s/x"),
            ("http://[::]:8001/x", "http://gate.example:8000/s/x"),
            # With a name, and a password, for who asks.
            ("http://ana@gate.example:8000/x", "http://ana@gate.example:8000/s/x"),
            ("http://ana:a%40@10.0.0.5:8001", "http://ana:a%40@gate.example:8000/s/"),
            ("//a@b@10.0.0.5:8001/x@y", "//a@b@gate.example:8000/s/x@y"),
        ],
    )
    def test_what_names_the_gateway_or_the_service(self, reference: str, expected: str) -> None:
        assert location(STRIP, reference) == expected
        assert location(KEEP, reference) in (expected.replace("/s/", "/"), expected.replace("/s/", ""))

    @pytest.mark.parametrize(
        "reference",
        [
            *("", "x", "../x", "?q", "#f", "//else.example/x", "http://else.example/x", "http://gate.example/x"),
            *("http://gate.example:80001/x", "http://10.0.0.5:8002/x"),
            *("http://user@else.example:8000/x", "http://gate.example:8000@else.example/x", "//10.0.0.5:8001@/x"),
            *("http://gate.example:8000.else.example/x", "http://gate.example:8000\\@else.example/x", "http:/x"),
            *("http:///x", "///x", "http://[::1/x", "ftp://10.0.0.5:8001/x", "mailto:x@gate.example", "javascript:x"),
            *("http://localhost:8001/x", "http://:8001/x", "http://10.0.0.5:٨٠٠١/x"),
        ],
    )
    @pytest.mark.parametrize("route", [STRIP, TO, KEEP, ROOT])
    def test_what_names_neither_stays(self, reference: str, route: dict[str, Any]) -> None:
        assert location(route, reference) == reference

    def test_a_path_on_a_kept_prefix_stays_byte_for_byte(self) -> None:
        for reference in ("/x", "http://gate.example:8000", "HTTP://Gate.example:8000/x", "//gate.example:8000?x"):
            assert location(KEEP, reference) == reference

    @pytest.mark.parametrize(
        ("view", "reference", "expected"),
        [
            (ClientView("http", "gate.example", ""), "http://gate.example:80/x", "http://gate.example:80/s/x"),
            (ClientView("http", "gate.example:80", ""), "http://gate.example/x", "http://gate.example/s/x"),
            (ClientView("http", "[::1]:8000", ""), "http://[::1]:8000/x", "http://[::1]:8000/s/x"),
            (ClientView("http", "", ""), "http://10.0.0.5:8001/x", "/s/x"),
            (ClientView("http", "", ""), "//10.0.0.5:8001/x", "/s/x"),
        ],
    )
    def test_ports_and_missing_hosts(self, view: ClientView, reference: str, expected: str) -> None:
        assert location(STRIP, reference, view) == expected

    def test_an_address_without_a_host_never_becomes_another_host(self) -> None:
        assert location(ROOT, "http://10.0.0.5:8001//evil.example", ClientView("http", "", "")) == "/.//evil.example"

    @pytest.mark.parametrize(
        ("upstream", "reference"),
        [
            (Endpoint("s", "up.example", 80), "http://up.example/x"),
            (Endpoint("s", "up.example", 80), "http://UP.example:80/x"),
            (Endpoint("s", "up.example", 443, tls=True), "https://up.example/x"),
            (Endpoint("s", "::1", 8001), "http://[::1]:8001/x"),
            (Endpoint("s", "127.0.0.1", 8001), "http://localhost:8001/x"),
            (Endpoint("s", "localhost", 8001), "http://[::1]:8001/x"),
        ],
    )
    def test_the_service_by_its_address(self, upstream: Endpoint, reference: str) -> None:
        assert mapping(STRIP, upstream=upstream).reference_to_client(reference) == "http://gate.example:8000/s/x"

    @pytest.mark.parametrize(
        ("reference", "expected"),
        [
            # A follower names the leader, as Vault and Consul do.
            ("http://10.0.0.6:8001/x", "http://gate.example:8000/s/x"),
            ("//[FD00::7]:8001/x", "//gate.example:8000/s/x"),
            ("http://up.example/x", "http://gate.example:8000/s/x"),
            ("http://up.example:80/x", "http://gate.example:8000/s/x"),
            ("https://up.example/x", "https://up.example/x"),
            ("http://10.0.0.6/x", "http://10.0.0.6/x"),
            ("http://10.0.0.6:8002/x", "http://10.0.0.6:8002/x"),
        ],
    )
    def test_the_service_by_the_address_of_another_endpoint(self, reference: str, expected: str) -> None:
        urls = ["http://10.0.0.5:8001", "http://10.0.0.6:8001", "http://[fd00::7]:8001", "http://up.example"]
        assert location(STRIP, reference, url=None, urls=urls) == expected

    @pytest.mark.parametrize("reference", ["http://inner.example/x", "http://inner.example:8001/x"])
    def test_the_service_by_the_host_that_it_is_sent(self, reference: str) -> None:
        assert location(STRIP, reference, host="inner.example") == "http://gate.example:8000/s/x"


class TestBehindTls:
    @pytest.mark.parametrize(
        "reference",
        [
            *("http://10.0.0.5:8001/next", "https://10.0.0.5:8001/next", "http://public.example/next"),
            *("http://public.example:8001/next", "https://public.example/next", "http://public.example:443/next"),
            *("https://public.example:80/next", "HTTP://public.example:80/next"),
        ],
    )
    @pytest.mark.parametrize(("route", "prefix"), [(STRIP, "/s"), (KEEP, ""), (ROOT, "")])
    def test_the_client_gets_its_own_scheme_and_host(self, reference: str, route: dict[str, Any], prefix: str) -> None:
        assert location(route, reference, TLS) == f"https://public.example{prefix}/next"

    @pytest.mark.parametrize("reference", ["http://gate.example:8000/next", "http://gate.example:8001/next"])
    def test_a_host_that_the_terminator_wrote_does_not_show(self, reference: str) -> None:
        assert location(STRIP, reference, OUTER) == "https://public.example/outer/s/next"


class TestCookies:
    @pytest.mark.parametrize(
        ("route", "cookie", "expected"),
        [
            (STRIP, "a=b; Path=/", "a=b; Path=/s"),
            (STRIP, "a=b; HttpOnly; path = / ; Secure", "a=b; HttpOnly; path = /s ; Secure"),
            (STRIP, "a=b;PATH=/x/", "a=b;PATH=/s/x/"),
            (STRIP, "a=b; Path=/x; Path=/y", "a=b; Path=/s/x; Path=/s/y"),
            (STRIP, "a=b", "a=b"),
            (STRIP, "a=b; Path", "a=b; Path"),
            (STRIP, "a=b; Path=", "a=b; Path="),
            (STRIP, "a=b; Path=x", "a=b; Path=x"),
            (STRIP, 'a=b; Path="/x"', 'a=b; Path="/x"'),
            (STRIP, "path=/x; Secure", "path=/x; Secure"),
            (STRIP, "a=b; XPath=/x", "a=b; XPath=/x"),
            (STRIP, "a=bé; Path=/é", "a=bé; Path=/s/é"),
            (STRIP, "a=b; Path=/s", "a=b; Path=/s"),
            (STRIP, "a=b; Path=/s/", "a=b; Path=/s/"),
            (STRIP, "a=b; Path=/s/x", "a=b; Path=/s/x"),
            (STRIP, "__Host-a=b; Secure; Path=/", "__Host-a=b; Secure; Path=/"),
            (STRIP, "__HOST-a=b; Secure; Path=/", "__HOST-a=b; Secure; Path=/"),
            (STRIP, "__Host-Http-a=b; Secure; Path=/", "__Host-Http-a=b; Secure; Path=/"),
            (STRIP, "__Secure-a=b; Secure; Path=/", "__Secure-a=b; Secure; Path=/s"),
            (TO, "a=b; Path=/tasks", "a=b; Path=/madre/tasks"),
            (TO, "a=b; Path=/tasks/", "a=b; Path=/madre/tasks"),
            (TO, "a=b; Path=/tasks/7", "a=b; Path=/madre/tasks/7"),
            (TO, "a=b; Path=/madre/tasks", "a=b; Path=/madre/tasks"),
            (TO, "a=b; Path=/", "a=b; Path=/"),
            (TO, "a=b; Path=/else", "a=b; Path=/else"),
            ({"prefix": "/s", "to": "/api/v1"}, "a=b; Path=/api", "a=b; Path=/s"),
            ({"prefix": "/", "to": "/app"}, "a=b; Path=/app", "a=b; Path=/"),
            ({"prefix": "/", "to": "/app"}, "a=b; Path=/app/x", "a=b; Path=/x"),
            (KEEP, "a=b; Path=/", "a=b; Path=/"),
            (KEEP, "a=b; Path=/s/x", "a=b; Path=/s/x"),
            (STRIP, "a=b; Domain=gate.example; Path=/", "a=b; Domain=gate.example; Path=/s"),
            (STRIP, "a=b; Domain=.example", "a=b; Domain=.example"),
            (STRIP, "a=b; Domain=else.example", "a=b; Domain=else.example"),
            (STRIP, "a=b; Domain=10.0.0.5; Path=/; Secure", "a=b; Path=/s; Secure"),
            (KEEP, "a=b; domain = 10.0.0.5", "a=b"),
        ],
    )
    def test_paths_and_domains(self, route: dict[str, Any], cookie: str, expected: str) -> None:
        assert mapping(route).to_client(b"set-cookie", cookie.encode()).decode() == expected

    @pytest.mark.parametrize("domain", ["app.inner.test", ".inner.test", "INNER.test"])
    def test_a_domain_of_the_service_is_left_to_the_clients_host(self, domain: str) -> None:
        made = mapping(KEEP, host="app.inner.test:8001")
        assert made.to_client(b"set-cookie", f"a=b; Domain={domain}; Path=/".encode()) == b"a=b; Path=/"

    @pytest.mark.parametrize(
        ("route", "path", "expected"),
        [
            (STRIP, "/", "/outer/s"),
            (STRIP, "/outer/s", "/outer/s"),
            (STRIP, "/outer/s/x", "/outer/s/x"),
            (KEEP, "/s/x", "/outer/s/x"),
            (KEEP, "/", "/"),
        ],
    )
    def test_behind_an_outer_prefix(self, route: dict[str, Any], path: str, expected: str) -> None:
        cookie = mapping(route, OUTER).to_client(b"set-cookie", f"a=b; Path={path}".encode())
        assert cookie.decode() == f"a=b; Path={expected}"


class TestOtherFields:
    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("content-location", "/x", "/s/x"),
            ("service-worker-allowed", "/", "/s/"),
            ("sourcemap", "/x.map", "/s/x.map"),
            ("refresh", "0; url=/next", "0; url=/s/next"),
            ("refresh", "0;URL=/next", "0;URL=/s/next"),
            ("refresh", "5, /next ", "5, /s/next "),
            ("refresh", '1.5; url = "/next"', '1.5; url = "/s/next"'),
            ("refresh", "0; url='http://10.0.0.5:8001/x' y", "0; url='http://gate.example:8000/s/x' y"),
            ("refresh", "5", "5"),
            ("refresh", "5; url=next", "5; url=next"),
            ("refresh", "0; url='/x", "0; url='/s/x"),
            ("x-sourcemap", "/x.map", "/s/x.map"),
            ("operation-location", "http://10.0.0.5:8001/jobs/1", "http://gate.example:8000/s/jobs/1"),
            ("azure-asyncoperation", "/jobs/1", "/s/jobs/1"),
            ("x-pingback", "http://10.0.0.5:8001/xmlrpc", "http://gate.example:8000/s/xmlrpc"),
            ("speculation-rules", '"/a.json", "https://else.example/b"', '"/s/a.json", "https://else.example/b"'),
            ("reporting-endpoints", 'a="/r", b="//10.0.0.5:8001/r"', 'a="/s/r", b="//gate.example:8000/s/r"'),
            ("reporting-endpoints", 'a="/r', 'a="/r'),
            ("reporting-endpoints", r'a="/r\"", b="/x"', r'a="/r\"", b="/x"'),
            (
                "www-authenticate",
                'Bearer realm="/a", Resource_Metadata = "http://10.0.0.5:8001/.well-known/x", scope="/b"',
                'Bearer realm="/a", Resource_Metadata = "http://gate.example:8000/s/.well-known/x", scope="/b"',
            ),
            ("www-authenticate", 'Basic realm="resource_metadata=/a"', 'Basic realm="resource_metadata=/a"'),
            ("www-authenticate", "Bearer resource_metadata=/x", "Bearer resource_metadata=/x"),
            # Container registries say there where their clients get a token.
            (
                "www-authenticate",
                'Bearer realm="http://10.0.0.5:8001/v2/token",service="http://10.0.0.5:8001/x"',
                'Bearer realm="http://gate.example:8000/s/v2/token",service="http://10.0.0.5:8001/x"',
            ),
            ("www-authenticate", 'bearer Realm = "https://else.example/t"', 'bearer Realm = "https://else.example/t"'),
            # The client computes with the realm of a Digest.
            ("www-authenticate", 'Digest realm="http://10.0.0.5:8001/"', 'Digest realm="http://10.0.0.5:8001/"'),
            (
                "www-authenticate",
                'Digest realm="/r", Domain = "/a http://10.0.0.5:8001/b https://else.example/c", nonce="/n"',
                'Digest realm="/r", Domain = "/s/a http://gate.example:8000/s/b https://else.example/c", nonce="/n"',
            ),
            ("www-authenticate", 'Basic realm="domain=/a", x-domain="/b"', 'Basic realm="domain=/a", x-domain="/b"'),
            ("www-authenticate", "Negotiate", "Negotiate"),
            (
                "report-to",
                '{"group": "a", "endpoints": [{"url": "http://10.0.0.5:8001/r"}, {"url": "https://else.example/r"}]}',
                '{"group": "a", "endpoints": [{"url": "http://gate.example:8000/s/r"}, {"url": "https://else.example/r"}]}',
            ),
            ("x-pjax-url", "/x", "/s/x"),
            ("x-up-location", "/x", "/s/x"),
            ("hx-redirect", "/login", "/s/login"),
            ("hx-redirect", "http://10.0.0.5:8001/login", "http://gate.example:8000/s/login"),
            ("hx-location", "/x", "/s/x"),
            ("hx-location", '{"path": "/x"}', '{"path": "/s/x"}'),
            (
                "hx-location",
                r'{"values": {"path": "/v"}, "push":"http:\/\/10.0.0.5:8001\/p", "path" : "\/x","replace": "false"}',
                '{"values": {"path": "/v"}, "push":"http://gate.example:8000/s/p", "path" : "/s/x","replace": "false"}',
            ),
            ("hx-location", '{"path": "https://else.example/x"}', '{"path": "https://else.example/x"}'),
            ("hx-location", '{"path": 1, "push": "/s/x", "é": "/x"}', '{"path": 1, "push": "/s/x", "é": "/x"}'),
            ("hx-location", '{"path": "/x", "path": "/y"}', '{"path": "/x", "path": "/y"}'),
            ("hx-location", '{"path": "/x"', '{"path": "/x"'),
            ("hx-push-url", "false", "false"),
            ("hx-push-url", "/s/x?y", "/s/x?y"),
            ("hx-replace-url", "/x", "/s/x"),
            ("x-inertia-location", "//10.0.0.5:8001/x", "//gate.example:8000/s/x"),
            ("turbolinks-location", "/x", "/s/x"),
            ("upload-concat", "partial", "partial"),
            ("upload-concat", "final;/f/a http://10.0.0.5:8001/f/b", "final;/s/f/a http://gate.example:8000/s/f/b"),
            ("link", "</a.css>; rel=preload", "</s/a.css>; rel=preload"),
            (
                "link",
                '</a>; title="</b>", <b>, <http://10.0.0.5/c>',
                '</s/a>; title="</b>", <b>, <http://gate.example:8000/s/c>',
            ),
            ("link", '</a>; anchor="/b"; title="\\"</c>"', '</s/a>; anchor="/s/b"; title="\\"</c>"'),
            ("link", '</a>; title="</b>', '</s/a>; title="</b>'),
            ("link", "<https://else.example/a>; rel=next", "<https://else.example/a>; rel=next"),
        ],
    )
    def test_each_by_its_syntax(self, name: str, value: str, expected: str) -> None:
        assert mapping(STRIP).to_client(name.encode(), value.encode()).decode() == expected


class TestPolicies:
    """Content-Security-Policy (CSP Level 3): a browser compares its sources with addresses in the client's view."""

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("default-src 'self'; report-uri /csp", "default-src 'self'; report-uri /s/csp"),
            ("Report-URI  http://10.0.0.5:8001/a\t/b;", "Report-URI  http://gate.example:8000/s/a\t/s/b;"),
            ("connect-src 'self' ws://10.0.0.5:8001", "connect-src 'self' ws://gate.example:8000"),
            ("connect-src ws://10.0.0.5:8001/live/", "connect-src ws://gate.example:8000/s/live/"),
            (
                "script-src http://10.0.0.5:8001 https://cdn.example",
                "script-src http://gate.example:8000 https://cdn.example",
            ),
            ("script-src-elem 10.0.0.5:8001/js/", "script-src-elem gate.example:8000/s/js/"),
            ("img-src http://10.0.0.5:8001/a.png,img-src *", "img-src http://gate.example:8000/s/a.png,img-src *"),
            ("frame-ancestors http://10.0.0.5:8001/", "frame-ancestors http://gate.example:8000/s/"),
            ("img-src data: blob: *.example https: http://* 'sha256-a/b='", None),
            ("trusted-types 10.0.0.5:8001; report-to /a; sandbox", None),
            ("connect-src HTTP://gate.example:8000 //10.0.0.5:8001 ws://else.example/x", None),
            (";,; ,", None),
        ],
    )
    def test_sources_and_reports(self, value: str, expected: str | None) -> None:
        for name in (b"content-security-policy", b"content-security-policy-report-only"):
            assert mapping(STRIP).to_client(name, value.encode()).decode() == (expected or value)

    def test_sockets_behind_tls(self) -> None:
        value = mapping(STRIP, OUTER).to_client(b"content-security-policy", b"connect-src ws://10.0.0.5:8001/x")
        assert value == b"connect-src wss://public.example/outer/s/x"

    def test_a_host_of_one_word_is_no_keyword(self) -> None:
        made = mapping(STRIP, upstream=Endpoint("s", "app", 8001))
        value = made.to_client(b"content-security-policy", b"img-src app app:8001 http://app")
        assert value == b"img-src app gate.example:8000 http://gate.example:8000"

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (b"default-src 'self' data: blob:", True),
            (b"default-src 'none'; img-src data:; sandbox", True),
            (b"img-src 10.0.0.5:8001", False),
            (b"img-src https://a", False),
            (b"Report-Uri /", False),
        ],
    )
    def test_only_one_without_addresses_is_the_same_for_all(self, value: bytes, expected: bool) -> None:
        plan = mapping(KEEP)._plan
        assert is_same_for_all(plan, b"content-security-policy", value) is expected


class TestToTheService:
    @pytest.mark.parametrize(
        ("route", "value", "expected"),
        [
            (STRIP, "http://gate.example:8000/s/b.txt", "http://gate.example:8000/b.txt"),
            (STRIP, "/s/b%20c.txt", "/b%20c.txt"),
            (STRIP, "//gate.example:8000/s/b", "//gate.example:8000/b"),
            (STRIP, "http://gate.example:8000/s", "http://gate.example:8000/"),
            # As file managers send it whose address has the user's name.
            (STRIP, "http://ana@gate.example:8000/s/b", "http://ana@gate.example:8000/b"),
            (TO, "//ana:@gate.example:8000/madre/tasks/b", "//ana:@gate.example:8000/tasks/b"),
            (STRIP, "http://gate.example:8000@else.example/s/b", "http://gate.example:8000@else.example/s/b"),
            (STRIP, "http://else.example/s/b", "http://else.example/s/b"),
            (STRIP, "b.txt", "b.txt"),
            (STRIP, "s3://bucket/b", "s3://bucket/b"),
            (KEEP, "urn:uuid:1", "urn:uuid:1"),
            (KEEP, "http://else.example/s/b", "http://else.example/s/b"),
            (EXACT, "b", "b"),
            # A client that goes by the paths in a multistatus body, which is not changed.
            (STRIP, "http://gate.example:8000/b.txt", "http://gate.example:8000/b.txt"),
            (TO, "/madre/tasks/b", "/tasks/b"),
            (TO, "/tasks/b", "/tasks/b"),
            (KEEP, "http://gate.example:8000/s/b", "http://gate.example:8000/s/b"),
            (ROOT, "http://gate.example:8000/b", "http://gate.example:8000/b"),
        ],
    )
    def test_the_destination_of_a_move(self, route: dict[str, Any], value: str, expected: str) -> None:
        assert mapping(route).to_service(b"destination", value.encode()).decode() == expected

    @pytest.mark.parametrize(
        ("view", "value", "expected"),
        [
            (TLS, "https://public.example/s/b", "http://public.example/b"),
            (TLS, "http://public.example/s/b", "http://public.example/b"),
            (OUTER, "https://public.example/outer/s/b", "http://gate.example:8000/b"),
            (OUTER, "https://public.example/s/b", "http://gate.example:8000/b"),
            (OUTER, "/outer/s/b", "/b"),
        ],
    )
    def test_the_service_gets_its_own_view(self, view: ClientView, value: str, expected: str) -> None:
        assert mapping(STRIP, view).to_service(b"destination", value.encode()).decode() == expected

    def test_with_the_host_and_the_scheme_that_the_service_gets(self) -> None:
        made = mapping(STRIP, host="inner.example", url="https://10.0.0.5:8001")
        assert made.to_service(b"destination", b"http://gate.example:8000/s/b") == b"https://inner.example/b"

    @pytest.mark.parametrize(
        ("route", "value"),
        [
            (TO, "/other/b"),
            (TO, "http://gate.example:8000/private"),
            (KEEP, "/other/b"),
            (KEEP, "/sx"),
            (STRIP, "/s/../b"),
            (STRIP, "http://gate.example:8000/s/%2e%2e/b"),
            (ROOT, "/a\\b"),
            (ROOT, "/a/..;x/b"),
            # A service may know itself by any of these, or look at the path alone.
            (KEEP, "http://10.0.0.5:8001/other/b"),
            (KEEP, "http://else.example/other/b"),
            (KEEP, "http://user@gate.example:8000/other/b"),
            (KEEP, "http://gate.example.:8000/other/b"),
            (KEEP, "https://else.example"),
            (KEEP, "dav://else.example/other/b"),
            (KEEP, "http:/other/b"),
            (KEEP, "http:///other/b"),
            (KEEP, "../other/b"),
            (KEEP, "%2e%2e/other/b"),
            (KEEP, "http:\\\\else.example\\other"),
            (STRIP, "http://else.example/a/../b"),
            (EXACT, "/other/b"),
            (EXACT, "http://gate.example:8000/one"),
        ],
    )
    def test_a_destination_outside_the_route_is_refused(self, route: dict[str, Any], value: str) -> None:
        with pytest.raises(Problem) as caught:
            mapping(route).to_service(b"destination", value.encode())
        assert caught.value.failure is Failure.BAD_TARGET

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("partial", "partial"),
            ("final;/s/f/a http://gate.example:8000/s/f/b", "final;/f/a http://gate.example:8000/f/b"),
            ("final;/s/f/a  f/b ", "final;/f/a  f/b "),
        ],
    )
    def test_the_parts_of_an_upload(self, value: str, expected: str) -> None:
        assert mapping(STRIP).to_service(b"upload-concat", value.encode()).decode() == expected

    @pytest.mark.parametrize(("name", "value"), [("if", "</s/a> "), ("upload-concat", "/s/a ")])
    def test_the_addresses_of_a_field_are_counted(self, name: str, value: str) -> None:
        for count, is_refused in ((MOST_REFERENCES, False), (MOST_REFERENCES + 1, True)):
            try:
                mapping(STRIP).to_service(name.encode(), b"final;" * (name != "if") + value.encode() * count)
                failure = None
            except Problem as problem:
                failure = problem.failure
            assert failure is (Failure.HEADERS_TOO_LARGE if is_refused else None)

    @pytest.mark.parametrize("value", ["final;/s/a /s/../b", "final;/other/a", "final;s/a http://else.example/b"])
    def test_no_part_of_an_upload_is_outside_the_route(self, value: str) -> None:
        with pytest.raises(Problem):
            mapping(KEEP).to_service(b"upload-concat", value.encode())

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("</s/b> (<urn:uuid:1>)", "</b> (<urn:uuid:1>)"),
            (
                "<http://gate.example:8000/s/b> (<http://gate.example:8000/s/token>) </s/c> (Not <DAV:no-lock>)",
                "<http://gate.example:8000/b> (<http://gate.example:8000/s/token>) </c> (Not <DAV:no-lock>)",
            ),
            ('(["a)</s/x>(b"] <t>) </s/d>', '(["a)</s/x>(b"] <t>) </d>'),
            ("(<urn:uuid:1>", "(<urn:uuid:1>"),
            ("<http://else.example/s/b> (<t>)", "<http://else.example/s/b> (<t>)"),
        ],
    )
    def test_the_resources_of_a_condition(self, value: str, expected: str) -> None:
        assert mapping(STRIP).to_service(b"if", value.encode()).decode() == expected


SEGMENTS = st.lists(st.sampled_from(["a", "b", "api", "é", "%2F", "", "x;y"]), max_size=4)
PREFIXES = st.lists(st.sampled_from(["a", "b", "api"]), max_size=2).map(lambda parts: "/" + "/".join(parts))
ROUTES = st.one_of(
    PREFIXES.map(lambda prefix: {"prefix": prefix}),
    PREFIXES.map(lambda prefix: {"prefix": prefix, "strip": True}),
    st.tuples(PREFIXES, PREFIXES).map(lambda pair: {"prefix": pair[0], "to": pair[1]}),
)
VIEWS = st.sampled_from([GATE, TLS, OUTER, ClientView("http", "", "")])


@given(ROUTES, SEGMENTS, VIEWS)
@example({"prefix": "/a", "to": "/a/a"}, ["a"], GATE)
def test_there_and_back(route: dict[str, Any], rest: list[str], view: ClientView) -> None:
    settings, made = RouteSettings(**route), mapping(route, view)
    public = "/".join([settings.prefix.rstrip("/"), *rest]) or "/"
    there = Match.of("s", settings).upstream_path(public)
    assert there.startswith("/")
    back = made.path_to_client(there)
    stated = view.prefix + (settings.prefix.rstrip("/") if settings.replacement != settings.prefix.rstrip("/") else "")
    inside = settings.replacement
    written = stated if len(stated) >= len(inside) else stated + inside
    if stated and (there + "/").startswith(written + "/"):
        return  # the path of an application that honours the stated prefix looks the same
    # A prefix with and without a slash behind it is one path to an upstream that sees none of it.
    expected = view.prefix + public
    assert back == expected or (there == "/" and back == expected + "/") or (public == "/" and back == view.prefix)


FRAGMENTS = st.sampled_from(
    [
        *"/?#;,<>()[]\"'\\: \t=",
        *("//", "..", "http://", "https:", "gate.example:8000", "10.0.0.5:8001", "else.example", "url", "path"),
        *("domain", "anchor", "__Host-", "/s", "/outer", "é", "%2e", "a"),
    ]
)


def as_browsers_read(value: str) -> str:
    return value.translate({ord(character): None for character in "\t\r\n"})


VALUES = st.lists(FRAGMENTS, max_size=12).map("".join)


@given(st.sampled_from(sorted(RESPONSE_FIELDS)), VALUES, st.sampled_from([STRIP, TO, KEEP, ROOT]), VIEWS)
@example(b"location", "http://10.0.0.5:8001//evil", ROOT, ClientView("http", "", ""))
@example(b"location", "/tasks/\t/evil", {"prefix": "/", "to": "/tasks"}, GATE)
def test_no_value_breaks_the_mapping(name: bytes, value: str, route: dict[str, Any], view: ClientView) -> None:
    made = mapping(route, view)
    mapped = made.to_client(name, value.encode()).decode()
    assert len(mapped) <= len(value) * 12 + 100
    assert not set("\r\n\0") & set(mapped)
    if name == b"location" and value.startswith("/") and not as_browsers_read(value).startswith(("//", "/\\")):
        assert not as_browsers_read(mapped).startswith(("//", "/\\")), "a path never becomes the name of a host"
    if name == b"location" and "else.example" not in value:
        assert "10.0.0.5:8001/" not in mapped or not value.startswith("http://10.0.0.5:8001/")
    for field in (b"destination", b"if", b"upload-concat"):
        with suppress(Problem):
            assert len(made.to_service(field, value.encode())) <= len(value.encode()) * 12 + 100


@pytest.mark.thorough
@pytest.mark.parametrize(
    "unit", ['"\\', "<", ";anchor", '"', " ", "(", '("', ";path=/", "</a>,", "/a", ";", "\\", "<a"]
)
def test_the_cost_grows_with_the_length_only(unit: str) -> None:
    """A value that a pattern would read again from each of its bytes takes more than a minute here."""
    made, value = mapping(STRIP), (unit * (200_000 // len(unit))).encode()
    began = time.process_time()
    for name in RESPONSE_FIELDS:
        made.to_client(name, value)
    with suppress(Problem):
        made.to_service(b"if", value)
    assert time.process_time() - began < 10
