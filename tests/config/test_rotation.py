"""The table `rotation` of a route: what is read, and the faults that are found in it."""

from __future__ import annotations

from typing import Any

import pytest

from tentaculo.config.cross_checks import check
from tentaculo.config.errors import ConfigError, ConfigFaults
from tentaculo.config.rotation import RotationSettings
from tentaculo.config.schema import Config

TWO: list[dict[str, Any]] = [{"name": "A"}, {"name": "B", "value": "b-1"}]


def config(rotation: dict[str, Any], **route: Any) -> dict[str, Any]:
    routes = [{"prefix": "/s", "rotation": rotation, **route}]
    return {"services": {"s": {"url": "http://localhost:1", "routes": routes}, "t": {"url": "http://localhost:2"}}}


def faults_of(data: dict[str, Any]) -> list[str]:
    found = ConfigFaults({})
    check(data, found)
    try:
        Config.of(data)
    except ConfigError as error:
        return [*map(str, found), *map(str, error.faults)]
    return [*map(str, found)]


def test_what_is_read() -> None:
    rotation = Config.of(config({"set": "/a/b~1c", "targets": TWO})).services["s"].routes[0].rotation
    assert isinstance(rotation, RotationSettings)
    assert [target.text for target in rotation.targets] == ["A", "b-1"]
    assert (rotation.latency_weight, rotation.cost_weight) == (0.2, 0)
    assert faults_of(config({"set": "/a", "targets": TWO})) == []


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "one target": ({"targets": TWO[:1], "set": "/m"}, "needs from 2 to 16 targets"),
    "too many": ({"targets": [{"name": str(n)} for n in range(17)], "set": "/m"}, "needs from 2 to 16 targets"),
    "same name": ({"targets": [TWO[0], {"name": "A", "value": "x"}], "set": "/m"}, "two targets of the same name"),
    "same way": ({"targets": TWO}, "two targets that do not differ"),
    "same value": ({"targets": [TWO[0], {"name": "B", "value": "A"}], "set": "/m"}, "two targets that do not differ"),
    "weights": ({"targets": TWO, "set": "/m", "latency_weight": 0.7, "cost_weight": 0.4}, "weights of more than 1"),
    "cost": ({"targets": TWO, "set": "/m", "cost_weight": 0.4}, "cost_weight without cost_at"),
    "pointer": ({"targets": TWO, "set": "model"}, "must be a JSON pointer"),
    "whole document": ({"targets": TWO, "set": ""}, "must be a JSON pointer"),
    "bad escape": ({"targets": TWO, "set": "/a~2"}, "has a ~"),
    "deep": ({"targets": TWO, "set": "/a" * 9}, "more than 8 steps"),
    "no service": ({"targets": [TWO[0], {"name": "B", "service": "u"}]}, "is not the name of a service"),
    "limit": ({"targets": TWO, "set": "/m", "latency_limit": 0}, "more than 0"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str) -> None:
    rotation, fault = FAULTS[name]
    assert any(fault in one for one in faults_of(config(rotation)))


def test_an_open_route_leads_nowhere_else() -> None:
    """Another route may guard that service, or that path, by a token."""
    for target in ({"name": "B", "service": "t"}, {"name": "B", "path": "/admin"}):
        found = faults_of(config({"targets": [TWO[0], target]}, auth="none"))
        assert any('needs auth = "token"' in one for one in found)
    assert faults_of(config({"targets": TWO, "set": "/m"}, auth="none")) == []


def test_a_path_replaces_a_prefix() -> None:
    rotation = {"targets": [TWO[0], {"name": "B", "path": "/b"}]}
    found = faults_of(config(rotation, prefix="/s/{name}", exact=True))
    assert any("replaces a prefix" in one for one in found)
