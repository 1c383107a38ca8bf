"""The declarations of limits of requests, and of networks of clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tentaculo.config.errors import ConfigError
from tentaculo.config.loader import load_tables
from tentaculo.config.request_limits import Rate, parse_rate
from tentaculo.config.schema import Config


def config(limits: list[dict[str, Any]] | None = None, **route: Any) -> Config:
    table = {"prefix": "/a", **({} if limits is None else {"limits": limits}), **route}
    return Config.of({"services": {"a": {"url": "http://h", "routes": [table]}}})


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/s", Rate(100, 1)),
        ("10/min", Rate(10, 60)),
        ("5/10s", Rate(5, 10)),
        ("1000/h", Rate(1000, 3600)),
        ("1/d", Rate(1, 86_400)),
        ("1000000/s", Rate(1_000_000, 1)),
    ],
)
def test_rates(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate
    assert config([{"rate": text}]).services["a"].routes[0].limits[0].rate == text  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("100", '"100/s"'),
        ("100/m", '"10/min"'),
        ("1.5/s", '"5/10s"'),
        ("100 / s", '"100/s"'),
        ("-1/s", '"100/s"'),
        ("0/s", "from 1 to 1000000 requests"),
        ("1000001/s", "from 1 to 1000000 requests"),
        ("1/0s", "a time from 1s to 1d"),
        ("1/2d", "a time from 1s to 1d"),
        ("٣/s", '"100/s"'),
    ],
)
def test_a_bad_rate_is_a_fault_that_says_what_is_right(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config([{"rate": text}])
    assert "services.a.routes[0].limits[0].rate" in str(raised.value)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ([{}], "has neither rate nor in_flight"),
        ([{"in_flight": 1, "burst": 2}], "has a burst and no rate"),
        ([{"rate": "1/s", "burst": 0}], "must be at least 1"),
        ([{"in_flight": 0}], "must be at least 1"),
        ([{"rate": "1/s", "per": "everyone"}], "must be one of 'caller', 'address' or 'route'"),
        ([{"rate": "60/min"}, {"rate": "60/min", "burst": 5}], "the same rate twice"),
        ([{"in_flight": 1}, {"in_flight": 2}], "in_flight twice"),
        ([{"rate": 5}], "must be text"),
    ],
)
def test_faults_of_a_limit(limits: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(limits)


def test_an_empty_list_is_not_the_default() -> None:
    assert config().services["a"].routes[0].limits is None
    assert config([]).services["a"].routes[0].limits == ()


def test_networks() -> None:
    route = config(allow=["10.0.0.0/8", "fd00::/8", "192.0.2.7"], deny=["::ffff:10.9.0.0/112"]).services["a"].routes[0]
    assert [str(one) for one in route.allow or ()] == ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"]
    assert [str(one) for one in route.deny] == ["10.9.0.0/16"]


@pytest.mark.parametrize("network", ["10.0.0.1/8", "10.0.0.0/33", "example.org", "", 10, "fe80::1%eth0"])
def test_a_bad_network_is_a_fault(network: object) -> None:
    with pytest.raises(ConfigError, match=r"services\.a\.routes\[0\]\.allow\[0\]"):
        config(allow=[network])


def test_an_empty_list_of_allowed_networks_is_a_fault() -> None:
    """It may mean nobody, and everybody was let through."""
    words = r"allow: is empty: leave it out for all networks, or list all of them in `deny` to refuse everybody"
    with pytest.raises(ConfigError, match=rf"services\.a\.routes\[0\]\.{words}"):
        config(allow=[])
    with pytest.raises(ConfigError, match=rf"server\.{words}"):
        Config.of({"server": {"allow": []}})
    with pytest.raises(ConfigError, match=rf"server\.{words}"):
        load_tables({}, {"TENTACULO_SERVER_ALLOW": "[]"}, folder=Path())
    assert config(deny=[]).services["a"].routes[0].allow is None


def test_defaults_for_all_routes_and_the_own_paths() -> None:
    tables = {
        "limits": {"instances": 2, "routes": [{"rate": "5/s"}], "own_paths": [{"per": "address", "rate": "9/s"}]},
        "server": {"allow": ["127.0.0.0/8"], "deny": ["127.9.0.0/16"]},
    }
    found = Config.of(tables)
    assert (found.limits.instances, found.limits.routes[0].per) == (2, "caller")
    assert found.limits.own_paths[0].per == "address"
    assert [str(one) for one in (*(found.server.allow or ()), *found.server.deny)] == ["127.0.0.0/8", "127.9.0.0/16"]
