from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.config.routes import RouteSettings
from tentaculo.config.schema import Config
from tentaculo.model.failure import Failure, Problem
from tentaculo.server.route_table import Match, PathTable, ProxiedRoutes, fill


def table(**services: list[dict[str, Any]]) -> ProxiedRoutes:
    """Each service as the list of its routes, with an endpoint of its own."""
    data = {name: {"url": f"http://{name}:1", "routes": routes} for name, routes in services.items()}
    return ProxiedRoutes(Config.of({"services": data}))


def found(routes: ProxiedRoutes, path: str, host: str = "h") -> tuple[str, str] | None:
    """Service and upstream path."""
    match = routes.match(host, path)
    return None if match is None else (match.service, match.upstream_path(path))


def test_whole_paths_come_before_changing_ones_and_these_before_prefixes() -> None:
    table = PathTable[str]()
    table.add("/", "root", is_exact=False)
    table.add("/a/", "prefix", is_exact=False)
    table.add("/a/{name}", "changing", is_exact=True)
    table.add("/a/b", "whole", is_exact=True)
    table.add("/a/b", "later", is_exact=True)
    found = {path: table.find(path) for path in ("/a/b", "/a/c", "/a/c/d", "/a", "/ab", "/")}
    assert found == {
        "/a/b": "whole",
        "/a/c": "changing",
        "/a/c/d": "prefix",
        "/a": "prefix",
        "/ab": "root",
        "/": "root",
    }


def test_nothing_leads_nowhere() -> None:
    table = PathTable[str]()
    table.add("/a", "prefix", is_exact=False)
    assert table.find("/b") is None
    assert table.find("*") is None


def test_segments_are_filled_in() -> None:
    assert fill("/v2/{id}/{x}", "/v1/{id}", "/v1/7") == "/v2/7/{x}"


class TestPrefixes:
    ROUTES = table(
        switch=[{"prefix": "/switch"}, {"prefix": "/switch/shub/route", "timeout": 70}],
        hormiguero=[{"prefix": "/hormiguero", "strip": True}, {"prefix": "/hormiguero/colony"}],
        madre=[{"prefix": "/madre/tasks", "to": "/tasks"}],
    )

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/switch", ("switch", "/switch")),
            ("/switch/", ("switch", "/switch/")),
            ("/switch/a//b/", ("switch", "/switch/a//b/")),
            ("/switchboard", None),
            ("/switch;x", None),
            ("/switch%2fa", None),
            ("/swit", None),
            ("/Switch", None),
            ("/", None),
            ("//switch", None),
            ("*", None),
            ("/hormiguero", ("hormiguero", "/")),
            ("/hormiguero/", ("hormiguero", "/")),
            ("/hormiguero/scan", ("hormiguero", "/scan")),
            ("/hormiguero//scan", ("hormiguero", "//scan")),
            ("/hormiguero/colony", ("hormiguero", "/hormiguero/colony")),
            ("/hormiguero/colony/7", ("hormiguero", "/hormiguero/colony/7")),
            ("/hormiguero/colonyx", ("hormiguero", "/colonyx")),
            ("/madre", None),
            ("/madre/tasks", ("madre", "/tasks")),
            ("/madre/tasks/", ("madre", "/tasks/")),
            ("/madre/tasks/%C3%A9%2f", ("madre", "/tasks/%C3%A9%2f")),
            ("/madre/tasks2", None),
        ],
    )
    def test_the_longest_of_whole_segments_wins(self, path: str, expected: tuple[str, str] | None) -> None:
        assert found(self.ROUTES, path) == expected

    def test_the_match_says_which_route_it_was(self) -> None:
        match = self.ROUTES.match("h", "/switch/shub/route/x")
        assert match is not None
        assert match.route.timeout == 70
        assert self.ROUTES.routes[match.position][1] is match.route

    def test_a_very_long_path(self) -> None:
        assert found(self.ROUTES, "/switch" + "/a" * 16000) == ("switch", "/switch" + "/a" * 16000)
        assert found(self.ROUTES, "/" * 32000) is None


class TestRoot:
    ROUTES = table(web=[{"prefix": "/"}], madre=[{"prefix": "/madre"}])

    @pytest.mark.parametrize("path", ["/", "/x", "//", "//madre", "/madrex", "/x/madre", "*"])
    def test_it_takes_what_no_other_route_takes(self, path: str) -> None:
        assert found(self.ROUTES, path) == ("web", path)

    def test_a_longer_one_goes_before_it(self) -> None:
        assert found(self.ROUTES, "/madre") == ("madre", "/madre")

    def test_onto_a_path(self) -> None:
        routes = table(web=[{"prefix": "/", "to": "/app"}])
        assert [found(routes, path) for path in ("/", "/x")] == [("web", "/app/"), ("web", "/app/x")]

    def test_a_prefix_onto_the_root(self) -> None:
        routes = table(web=[{"prefix": "/app", "to": "/"}])
        assert [found(routes, path) for path in ("/app", "/app/", "/app/x")] == [
            ("web", "/"),
            ("web", "/"),
            ("web", "/x"),
        ]


class TestHosts:
    ROUTES = table(
        web=[{"prefix": "/", "host": "Web.example"}],
        six=[{"prefix": "/", "host": "::1"}],
        madre=[{"prefix": "/madre"}, {"prefix": "/api", "host": "madre.example"}],
    )

    @pytest.mark.parametrize(
        ("host", "path", "service"),
        [
            ("web.example", "/x", "web"),
            ("WEB.EXAMPLE", "/x", "web"),
            ("web.example.", "/x", "web"),
            ("web.example", "/madre", "web"),  # before any route without a host, however long
            ("[::1]", "/x", "six"),
            ("madre.example", "/api", "madre"),
            ("madre.example", "/madre/x", None),  # the name belongs to the routes that claim it
            ("else.example", "/madre", "madre"),
            ("else.example", "/api", None),
            ("xweb.example", "/x", None),
            ("", "/madre", "madre"),
        ],
    )
    def test_a_host_of_its_own(self, host: str, path: str, service: str | None) -> None:
        match = self.ROUTES.match(host, path)
        assert (match.service if match else None) == service


def test_ten_thousand_routes() -> None:
    routes = table(many=[{"prefix": f"/a{n % 100}/b{n}", "timeout": n + 1} for n in range(10_000)])
    for n in (0, 1, 99, 5000, 9999):
        match = routes.match("h", f"/a{n % 100}/b{n}/rest")
        assert match is not None
        assert match.route.timeout == n + 1
        assert match.position == n
    assert routes.match("h", "/a1/b2") is None


class TestDisguise:
    """An open route beside one that needs the token: no other spelling of a path may lead round the token."""

    ROUTES = table(
        app=[{"prefix": "/", "auth": "none"}, {"prefix": "/admin"}, {"prefix": "/admin/help", "auth": "none"}],
        madre=[{"prefix": "/madre"}],
    )

    @pytest.mark.parametrize(
        "path",
        [
            "/%61dmin",
            "/admi%6E/x",
            "//admin",
            "/admin;x",
            "/;x/admin/y",
            "/admin%2fx",
            "/ADMIN",
            "/%5cadmin",
            "///%41dmin;a/x",
            "/./admin",
            "/././/%2e/admin/",
            "/.//admin/.",
            "/%2561dmin",
            "/x/%252e%252e/admin",
            "/x/%25252e./y",
        ],
    )
    def test_refused(self, path: str) -> None:
        with pytest.raises(Problem) as caught:
            self.ROUTES.match("h", path)
        assert caught.value.failure is Failure.BAD_TARGET

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/x%2fadmin",
            "/administrator",
            "/a;admin",
            "/x//y",
            "/x/./admin",
            "/.admin",
            "/%C3%A9",
            "/\udcff",
            "/admin/help/%41",
            "/MADRE",
            "/%6dadre",
        ],
    )
    def test_what_is_open_either_way_stays_open(self, path: str) -> None:
        match = self.ROUTES.match("h", path)
        assert match is not None
        assert match.route.auth == "none"

    def test_the_guarded_path_itself(self) -> None:
        match = self.ROUTES.match("h", "/admin//x;y")
        assert match is not None
        assert match.route.auth == "token"

    def test_with_a_host(self) -> None:
        on_a = [{"prefix": "/", "auth": "none", "host": "a.example"}, {"prefix": "/admin", "host": "a.example"}]
        routes = table(app=[*on_a, {"prefix": "/", "auth": "none"}])
        with pytest.raises(Problem):
            routes.match("A.example", "/%61dmin")
        assert found(routes, "/%61dmin", "b.example") == ("app", "/%61dmin")


def test_the_asterisk_has_no_prefix() -> None:
    assert Match.of("s", RouteSettings(prefix="/", to="/app")).upstream_path("*") == "*"


class TestExact:
    ROUTES = table(
        madre=[
            {"prefix": "/madre"},
            {"prefix": "/madre/task", "to": "/task"},
            {"prefix": "/madre/task/{id}", "exact": True},
            {"prefix": "/madre/task/{id}/cancel", "to": "/tasks/{id}/stop", "exact": True},
            {"prefix": "/old", "to": "/new", "exact": True},
            {"prefix": "/dash/", "exact": True},
            {"prefix": "/page", "to": "/page/", "exact": True},
            {"prefix": "/top", "strip": True, "exact": True},
            {"prefix": "/swap/{a}/{b}", "to": "/{b}/{a}/{b}", "exact": True},
        ]
    )

    @pytest.mark.parametrize(
        ("path", "upstream"),
        [
            ("/madre/task", "/task"),
            ("/madre/task/7", "/madre/task/7"),
            ("/madre/task/a%2Fb", "/madre/task/a%2Fb"),
            ("/madre/task/7/cancel", "/tasks/7/stop"),
            ("/madre/task/7/log", "/task/7/log"),
            ("/madre/task/", "/task/"),
            ("/madre/task//cancel", "/task//cancel"),
            ("/old", "/new"),
            ("/old/", None),
            ("/old/x", None),
            ("/dash/", "/dash/"),
            ("/dash", None),
            ("/page", "/page/"),
            ("/top", "/"),
            ("/top/", None),
            ("/swap/1/%7Bx%7D", "/%7Bx%7D/1/%7Bx%7D"),
            ("/swap/{b}/1", "/1/{b}/1"),
        ],
    )
    def test_only_the_whole_path(self, path: str, upstream: str | None) -> None:
        assert found(self.ROUTES, path) == (None if upstream is None else ("madre", upstream))


def _spell(letter: str, way: int) -> str:
    """A letter in one of the spellings that some server reads as it."""
    return (letter, letter.upper(), f"%{ord(letter):02x}", f"%{ord(letter.upper()):02X}", f"%25{ord(letter):02x}")[way]


class TestUpstreamView:
    """What counts is the path that goes upstream: an open route must not lead around a guarded one."""

    @staticmethod
    def needs_token(routes: ProxiedRoutes, path: str, host: str = "h") -> bool:
        match = routes.match(host, path)
        assert match is not None
        return routes.needs_token(match, match.upstream_path(path))

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/str/x", False),
            ("/str/admin", True),
            ("/str/admin/x", True),
            ("/str/%61dmin/x", True),
            ("/str//admin", True),
            ("/str/ADMIN/x", True),
            ("/str/administration", False),
            ("/admin/x", True),
        ],
    )
    def test_a_stripped_open_route(self, path: str, *, expected: bool) -> None:
        routes = table(app=[{"prefix": "/str", "strip": True, "auth": "none"}, {"prefix": "/admin"}])
        assert self.needs_token(routes, path) is expected

    def test_a_replaced_prefix_and_a_host(self) -> None:
        routes = table(
            app=[
                {"prefix": "/public", "to": "/v1", "auth": "none", "host": "a.example"},
                {"prefix": "/private", "to": "/v1/secret"},
                {"prefix": "/one/{n}", "to": "/v1/{n}/key", "exact": True},
            ]
        )
        assert not self.needs_token(routes, "/public/x", "a.example")
        assert self.needs_token(routes, "/public/secret/x", "a.example")
        assert self.needs_token(routes, "/public/7/key", "a.example")

    DISGUISED = st.tuples(
        st.lists(st.integers(0, 4), min_size=5, max_size=5),
        st.sampled_from(["", "/", ";x", "/x", "//", "/.", "%2f", "%252fx", "/;y/z"]),
        st.sampled_from(["/", "//", "/./", "%2f", "/;a/", "%5c", "/%2e/", "%252F", "/x/%252e%252e/"]),
    )

    @given(DISGUISED)
    def test_no_spelling_of_a_guarded_path_is_open(self, parts: tuple[list[int], str, str]) -> None:
        ways, behind, before = parts
        spelt = "".join(_spell(letter, way) for letter, way in zip("admin", ways, strict=True))
        for open_route in ({"prefix": "/"}, {"prefix": "/str", "strip": True}, {"prefix": "/v", "to": "/w"}):
            guarded = {"prefix": "/w/admin" if "to" in open_route else "/admin"}
            routes = table(app=[{**open_route, "auth": "none"}, guarded])
            path = str(open_route["prefix"]).rstrip("/") + before + spelt + behind
            try:
                match = routes.match("h", path)
            except Problem:
                continue
            # `/str%2fadmin` is no path below `/str`.
            assert match is None or routes.needs_token(match, match.upstream_path(path))

    OPEN, GUARDED = {"prefix": "/pub", "strip": True, "auth": "none"}, {"prefix": "/adm", "strip": True}

    @pytest.mark.parametrize("order", [1, -1])
    def test_where_both_reach_the_same_paths_the_guarded_one_decides(self, order: int) -> None:
        routes = table(app=[self.OPEN, self.GUARDED][::order])
        assert self.needs_token(routes, "/pub/x")

    @pytest.mark.parametrize("order", [1, -1])
    def test_a_service_that_sees_another_host_may_tell_them_apart(self, order: int) -> None:
        listed = [{**self.OPEN, "host": "a.example"}, {**self.GUARDED, "host": "b.example"}][::order]
        assert not self.needs_token(table(app=listed), "/pub/x", "a.example")
        config = Config.of({"services": {"app": {"url": "http://127.0.0.1:1", "host": "in.example", "routes": listed}}})
        assert self.needs_token(ProxiedRoutes(config), "/pub/x", "a.example")

    def test_a_guarded_whole_path_is_guarded_with_a_slash_behind_it_too(self) -> None:
        routes = table(
            app=[
                {"prefix": "/str", "strip": True, "auth": "none"},
                {"prefix": "/admin", "exact": True},
                {"prefix": "/users/{id}", "exact": True},
            ]
        )
        for path in ("/str/admin", "/str/admin/", "/str/users/7", "/str/users/7/", "/str/USERS//7"):
            assert self.needs_token(routes, path)
        assert not self.needs_token(routes, "/str/users/7/x")

    def test_an_open_part_of_a_guarded_whole_stays_open(self) -> None:
        routes = table(
            app=[{"prefix": "/"}, {"prefix": "/public", "auth": "none"}, {"prefix": "/hook", "auth": "none"}]
        )
        assert not self.needs_token(routes, "/public/x")
        assert self.needs_token(routes, "/x")


class TestServicesAtOneEndpoint:
    """An open route of one service must not lead to what another service at the same endpoint guards."""

    OPEN = {"prefix": "/pub", "strip": True, "auth": "none"}

    @staticmethod
    def needs_token(path: str, **services: Any) -> bool:
        routes = ProxiedRoutes(Config.of({"services": services}))
        match = routes.match("h", path)
        assert match is not None
        return routes.needs_token(match, match.upstream_path(path))

    @pytest.mark.parametrize(
        ("opened", "guarded", "expected"),
        [
            ({"url": "http://127.0.0.1:1"}, {"url": "http://127.0.0.1:1"}, True),
            ({"url": "http://localhost:1"}, {"url": "http://127.0.0.1:1"}, True),
            ({"url": "http://[::1]:1"}, {"url": "https://LOCALHOST:1"}, True),
            ({"url": "http://App.example."}, {"url": "http://app.example:80"}, True),
            ({"urls": ["http://a:1", "http://b:1"]}, {"urls": ["http://b:1", "http://c:1"]}, True),
            ({"url": "http://a:1", "host": "v.example"}, {"url": "http://a:1"}, True),
            ({"url": "http://a:1"}, {"url": "http://a:1", "host": "v.example"}, True),
            ({"url": "http://a:1", "host": "V.example"}, {"url": "http://a:1", "host": "v.example:80"}, True),
            ({"url": "http://a:1", "host": "v.example"}, {"url": "http://a:1", "host": "w.example"}, False),
            ({"url": "http://a:1"}, {"url": "http://a:2"}, False),
            ({"url": "http://a:1"}, {"url": "http://b:1"}, False),
        ],
    )
    def test_services_that_see_the_same_paths_guard_each_other(
        self, opened: dict[str, Any], guarded: dict[str, Any], *, expected: bool
    ) -> None:
        services = {
            "one": {**opened, "routes": [self.OPEN]},
            "two": {**guarded, "routes": [{"prefix": "/admin"}]},
        }
        for listed in (services, dict(reversed(services.items()))):
            assert self.needs_token("/pub/admin/x", **listed) is expected
            assert not self.needs_token("/pub/x", **listed)

    def test_that_two_services_share_an_endpoint_with_a_third_does_not_join_them(self) -> None:
        services = {
            "one": {"url": "http://a:1", "routes": [self.OPEN]},
            "both": {"urls": ["http://a:1", "http://b:1"]},
            "two": {"url": "http://b:1", "routes": [{"prefix": "/admin"}]},
        }
        assert not self.needs_token("/pub/admin", **services)

    def test_where_both_reach_the_same_paths_the_guarded_one_decides(self) -> None:
        url = {"url": "http://a:1"}
        guarded = {"prefix": "/adm", "strip": True}
        assert self.needs_token("/pub/x", one={**url, "routes": [self.OPEN]}, two={**url, "routes": [guarded]})
        elsewhere = {"prefix": "/adm", "strip": True, "host": "b.example"}
        assert not self.needs_token("/pub/x", one={**url, "routes": [self.OPEN]}, two={**url, "routes": [elsewhere]})

    @pytest.mark.parametrize("path", ["/%61dmin", "//admin", "/admin;x", "/ADMIN", "/x/%2e%2e/admin"])
    def test_no_spelling_of_a_guarded_path_is_open(self, path: str) -> None:
        services = {
            "one": {"url": "http://a:1", "routes": [{"prefix": "/", "auth": "none"}]},
            "two": {"url": "http://a:1", "routes": [{"prefix": "/admin"}]},
        }
        with pytest.raises(Problem) as caught:
            self.needs_token(path, **services)
        assert caught.value.failure is Failure.BAD_TARGET

    def test_a_thousand_services_at_one_endpoint_share_their_view(self) -> None:
        services = {
            f"s{number}": {
                "url": "http://a:1",
                "routes": [{"prefix": f"/{number}", "auth": "none"}, {"prefix": f"/{number}/admin"}],
            }
            for number in range(1000)
        }
        routes = ProxiedRoutes(Config.of({"services": services}))
        assert len({id(view) for view in routes._views.values()}) == 1
