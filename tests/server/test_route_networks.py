"""From which networks clients may use each route, where several routes lead to one endpoint."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tentaculo.config.schema import Config
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.history import RouteKey
from tentaculo.net.inbound_request import InboundRequest
from tentaculo.server.route_networks import RouteNetworks

INSIDE, OUTSIDE = "10.1.1.1", "192.0.2.1"
ONLY_INSIDE = {"allow": ["10.0.0.0/8"]}


def inbound(*, has_addresses: bool = False) -> InboundRequest:
    return cast(InboundRequest, SimpleNamespace(fields=SimpleNamespace(has_addresses=has_addresses)))


def networks(*routes: dict[str, Any], server: dict[str, Any] | None = None, **services: Any) -> RouteNetworks:
    found = {"s": {"url": "http://h", "routes": list(routes)}, **services}
    return RouteNetworks(Config.of({"services": found, "server": server or {}}))


def permits(rules: RouteNetworks, key: tuple[str, str] | None, address: str, target: str = "/", **how: bool) -> bool:
    try:
        rules.check(None if key is None else RouteKey(*key), inbound(**how), address, target)
    except Problem:
        return False
    return True


def test_nothing_is_judged_without_rules() -> None:
    assert not networks({"prefix": "/a"})
    assert networks({"prefix": "/a"}, server={"deny": ["10.0.0.0/8"]})
    assert networks({"prefix": "/a", "deny": ["10.0.0.0/8"]})


def test_the_own_paths_and_the_routes_are_apart() -> None:
    rules = networks({"prefix": "/a"}, server=ONLY_INSIDE)
    assert permits(rules, None, INSIDE)
    assert not permits(rules, None, OUTSIDE)
    assert permits(rules, ("s", "/a"), OUTSIDE)


@pytest.mark.parametrize("target", ["/admin", "/admin/x?y", "/%61dmin", "/ADMIN/", "//admin", "/x/%252e%252e/admin"])
def test_a_wide_route_does_not_lead_to_a_narrow_one(target: str) -> None:
    rules = networks({"prefix": "/"}, {"prefix": "/admin", **ONLY_INSIDE})
    assert not permits(rules, ("s", "/"), OUTSIDE, target)
    assert permits(rules, ("s", "/"), INSIDE, target)
    assert permits(rules, ("s", "/"), OUTSIDE, "/administration")
    assert not permits(rules, ("s", "/"), OUTSIDE, "/x", has_addresses=True)


def test_a_route_of_another_service_with_the_same_endpoint() -> None:
    other = {"url": "http://h", "routes": [{"prefix": "/t", "to": "/admin", **ONLY_INSIDE}]}
    rules = networks({"prefix": "/s", "strip": True}, t=other)
    assert not permits(rules, ("s", "/s"), OUTSIDE, "/admin/x")
    assert permits(rules, ("s", "/s"), OUTSIDE, "/x")
    apart = networks({"prefix": "/s", "strip": True}, t={**other, "url": "http://other"})
    assert permits(apart, ("s", "/s"), OUTSIDE, "/admin/x")


def test_two_routes_to_one_path_have_each_their_clients() -> None:
    rules = networks(
        {"prefix": "/a", "to": "/x", "allow": ["10.0.0.0/8"]}, {"prefix": "/b", "to": "/x", "allow": ["192.0.2.0/24"]}
    )
    assert permits(rules, ("s", "/a"), INSIDE, "/x/1")
    assert not permits(rules, ("s", "/a"), OUTSIDE, "/x/1")
    assert permits(rules, ("s", "/b"), OUTSIDE, "/x/1")
    assert not permits(rules, ("s", "/b"), INSIDE, "/x/1")


def test_a_route_of_which_the_service_sees_another_host_does_not_count() -> None:
    rules = networks({"prefix": "/", "host": "a.example"}, {"prefix": "/admin", "host": "b.example", **ONLY_INSIDE})
    assert permits(rules, ("s", "a.example/"), OUTSIDE, "/admin")
    assert not permits(rules, ("s", "b.example/admin"), OUTSIDE, "/admin")


def test_an_open_path_at_another_host_opens_nothing_at_this_one() -> None:
    rules = networks(
        {"prefix": "/", "host": "a.example"},
        {"prefix": "/admin", "host": "a.example", **ONLY_INSIDE},
        {"prefix": "/admin/x", "host": "b.example"},
    )
    assert not permits(rules, ("s", "a.example/"), OUTSIDE, "/%61dmin/x")


def test_health_is_for_those_who_may_use_a_route_of_the_service() -> None:
    rules = networks({"prefix": "/a", **ONLY_INSIDE}, {"prefix": "/b", "allow": ["192.0.2.0/24"]})
    health = ("s", "/s/health")
    assert permits(rules, health, INSIDE, "/health")
    assert permits(rules, health, OUTSIDE, "/health")
    assert not permits(rules, health, "198.51.100.1", "/health")


def test_refusals_are_counted_by_route() -> None:
    refused: list[RouteKey] = []
    rules = RouteNetworks(Config.of({"server": {"deny": ["10.0.0.0/8"]}}), refused.append)
    with pytest.raises(Problem) as raised:
        rules.check(None, inbound(), INSIDE, "/")
    assert refused == [("", "")]
    assert (raised.value.failure, raised.value.detail) == (Failure.NETWORK_DENIED, None)
