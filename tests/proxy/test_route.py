from __future__ import annotations

from typing import Any

import pytest

from tentaculo.config.schema import Config
from tentaculo.proxy.route import CompiledRoute


def plan(route: dict[str, Any] | None = None, limits: dict[str, Any] | None = None, **service: Any) -> CompiledRoute:
    table = {"url": "http://127.0.0.1:1", "routes": [{"prefix": "/s", **(route or {})}], **service}
    config = Config.of({"services": {"s": table}, "limits": limits or {}})
    made = config.services["s"]
    return CompiledRoute(made, made.routes[0], config.limits, None)


class TestLimits:
    def test_the_gateways(self) -> None:
        made = plan(limits={"connect": 1, "first_byte": 2, "idle": 3, "body": 4})
        assert (made.connect, made.first_byte, made.idle, made.max_body) == (1, 2, 3, 4)

    def test_the_routes(self) -> None:
        made = plan({"timeout": 300, "connect_timeout": 7, "max_body": 9}, {"body": 4})
        assert (made.connect, made.first_byte, made.idle, made.max_body) == (7, 300, 300, 9)

    def test_a_route_may_lift_the_limit_of_the_body(self) -> None:
        assert plan({"max_body": 0}, {"body": 4}).max_body == 0


@pytest.mark.parametrize(
    ("route", "rewrites", "public_prefix"),
    [
        ({}, False, ""),
        ({"strip": True}, True, "/s"),
        ({"to": "/x"}, True, "/s"),
        ({"to": "/"}, True, "/s"),
        ({"to": "/s"}, False, ""),
        ({"prefix": "/"}, False, ""),
        ({"prefix": "/", "strip": True}, False, ""),
        ({"prefix": "/", "to": "/app"}, True, ""),
    ],
)
def test_whether_the_upstream_sees_other_paths(route: dict[str, Any], rewrites: bool, public_prefix: str) -> None:
    made = plan(route)
    assert (made.rewrites, made.public_prefix) == (rewrites, public_prefix)


@pytest.mark.parametrize(
    "route",
    [
        {"prefix": "/s/x", "exact": True},
        {"prefix": "/s/x", "to": "/x", "exact": True},
        {"prefix": "/s/x/", "exact": True},
        {"prefix": "/s/{id}", "to": "/{id}", "exact": True},
    ],
)
def test_a_whole_path_is_no_prefix_for_the_service(route: dict[str, Any]) -> None:
    made = plan(route)
    assert (made.rewrites, made.public_prefix) == (False, "")


def test_what_the_upstream_is_told() -> None:
    made = plan({"set_headers": {"X-A": "b"}, "remove_response_headers": ["Server"]}, host="in.example", token="t")
    assert made.host == b"in.example"
    assert made.token_line == b"X-VX11-Token: t\r\n"
    assert made.request_rules.block == b"X-A: b\r\n"
    assert made.response_rules.removes(b"server")
    assert "t\r\n" not in repr(made)


def test_nothing_special() -> None:
    made = plan()
    assert (made.host, made.token_line, made.needs_token) == (None, b"", True)
    assert not made.request_rules
    assert not made.response_rules
    assert not plan({"auth": "none"}).needs_token


def test_the_health_of_a_service() -> None:
    config = Config.of(
        {"services": {"s": {"url": "http://127.0.0.1:1", "health": ["/ok", "/h"], "probe": {"timeout": 2}}}}
    )
    made = CompiledRoute.for_health(config.services["s"], config.limits, None)
    assert (made.route.prefix, made.route.replacement) == ("/s/health", "/ok")
    assert (made.first_byte, made.needs_token) == (2, True)
