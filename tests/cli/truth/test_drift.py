from __future__ import annotations

from typing import Any

import pytest
import yaml

from tentaculo.cli.truth import compose_file, drift, probe_all
from tentaculo.cli.truth.drift import Drift
from tentaculo.config.loader import load
from tentaculo.model.health import GATEWAY_NAME
from tests.support.gateway_process import ROOT
from tests.support.health import fleet


def found(compose_text: str, **services: dict[str, Any]) -> dict[str, Drift]:
    declared = compose_file.read({"services": yaml.safe_load(compose_text) or {}})
    drifts = drift.compare(fleet(**services), declared, own=GATEWAY_NAME)
    return {one.service: one for one in drifts}


def differences(compose_text: str, **madre: Any) -> tuple[str, ...]:
    keys = {"url": "http://madre:8001", **madre}
    return found(f"madre: {compose_text}", madre=keys)["madre"].differences


LOCAL = {"url": "http://127.0.0.1:8001"}


@pytest.mark.parametrize(
    ("compose_text", "madre", "said"),
    [
        # As containers reach each other.
        ("{}", {}, ()),
        ("{expose: [8001]}", {}, ()),
        ("{expose: [8009, 8002]}", {}, ("is asked on port 8001, and declares 8002, 8009",)),
        ("{ports: ['18001:8001']}", {}, ()),
        ("{ports: ['8001:9001']}", {}, ("is asked on port 8001, and declares 9001",)),
        ("{expose: [8002], hostname: mother}", {"url": "http://mother:8001"}, ("is asked on port 8001, and declares 8002",)),
        ("{expose: [8002]}", {"url": "http://madre.internal:8001"}, ("is asked on port 8001, and declares 8002",)),
        # On the host.
        ("{ports: ['8001:80']}", LOCAL, ()),
        ("{ports: ['127.0.0.1:8001:8001']}", {"url": "http://localhost:8001"}, ()),
        ("{ports: ['9001:8001']}", LOCAL, ("is asked on port 8001 of the host, and publishes 9001",)),
        ("{expose: [8001]}", LOCAL, ("is asked on port 8001 of the host, and publishes none",)),
        ("{}", {**LOCAL, "enabled": False}, ()),
        # Health checks.
        ("{healthcheck: {test: curl http://localhost:8001/health}}", {}, ()),
        ("{healthcheck: {test: curl http://localhost:8001/healthz}}", {}, ("is asked at /health, and its health check at /healthz",)),
        ("{healthcheck: {test: curl http://localhost:8001/healthz}}", {"health": ["/health", "/healthz"]}, ()),
        ("{healthcheck: {test: curl http://localhost:9001/health}}", {}, ("is asked on port 8001, and its health check on 9001",)),
        ("{healthcheck: {test: curl http://localhost/health}}", {}, ()),
        ("{healthcheck: {test: pg_isready}}", {}, ()),
        ("{healthcheck: {test: curl http://localhost:8001/x}}", {"probe": {"kind": "tcp"}}, ()),
        (
            "{ports: ['8001:80'], healthcheck: {test: curl http://localhost:8001/health}}",
            LOCAL,
            ("is asked on its port 80, and its health check on 8001",),
        ),
    ],
)  # fmt: skip
def test_what_is_told_of_one_service(compose_text: str, madre: dict[str, Any], said: tuple[str, ...]) -> None:
    assert differences(compose_text, **madre) == said


def test_each_of_several_addresses_is_compared_and_the_same_is_said_once() -> None:
    keys = {"urls": ["http://madre:8001", "http://madre:8002"]}
    (madre,) = found("madre: {expose: [8001], healthcheck: {test: curl http://x:8001/z}}", madre=keys).values()
    assert madre.ports == (8001, 8002)
    assert madre.differences == (
        "is asked on port 8002, and declares 8001",
        "is asked at /health, and its health check at /z",
    )


def test_a_service_is_found_by_its_name_an_alias_or_its_host() -> None:
    one = found(
        "operator_backend: {expose: [1]}\nmother: {expose: [2]}\nSwitch: {expose: [3]}",
        operator={"url": "http://10.0.0.1:1", "aliases": ["operator-backend"]},
        madre={"url": "http://mother:2"},
        switch={"url": "http://switch:3"},
    )
    assert {name: drifts.compose_ports for name, drifts in one.items()} == {
        "operator": ("1",),
        "madre": ("2",),
        "switch": ("3",),
    }


def test_a_name_that_is_equal_wins_over_one_that_is_similar() -> None:
    one = found(
        "operator_backend: {expose: [1]}\noperator-backend: {expose: [2]}",
        operator={"url": "http://10.0.0.1:2", "aliases": ["operator-backend"]},
    )
    assert one["operator"].compose_ports == ("2",)


def test_what_only_one_of_the_two_has() -> None:
    one = found(
        "redis: {ports: ['6379:6379'], healthcheck: {test: redis-cli ping}}",
        madre={"url": "http://madre:8001", "health": ["/a", "/b"]},
        shub={"url": "http://shub:8007", "enabled": False},
    )
    assert one == {
        "madre": Drift("madre", (8001,), (), ("/a", "/b"), "", ("is not in the compose file",)),
        "shub": Drift("shub", (8007,), (), ("/health",), "", ()),
        "redis": Drift("redis", (), ("6379",), (), "?", ("is only in the compose file",)),
    }


def test_ports_are_shown_as_the_host_has_them_and_then_what_it_has_not() -> None:
    one = found("madre: {ports: ['18001:8001', '9:9'], expose: [7, 8001]}", madre={"url": "http://madre:8001"})
    assert one["madre"].compose_ports == ("9", "18001→8001", "7")


def test_the_projects_own_files_agree() -> None:
    config = load(ROOT / "docker" / "vx11.toml", {}).config
    declared = compose_file.read(yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text()))
    drifts = drift.compare(probe_all.with_gateway(config), declared, own=GATEWAY_NAME)
    assert [one.service for one in drifts] == [GATEWAY_NAME, *config.services]
    assert {one.service: one.differences for one in drifts if one.differences} == {}
    assert all(one.compose_check == f":{one.ports[0]}/health" for one in drifts[1:])
