from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import yaml

from tentaculo.cli.truth import command, compose_file, report
from tentaculo.cli.truth.report import Comparison, Drift
from tentaculo.config.loader import load
from tentaculo.model.health import GATEWAY_NAME, Health, ServiceView
from tests.support.gateway_process import ROOT
from tests.support.health import fleet

AT = datetime(2025, 12, 16, 9, 45, 7, tzinfo=UTC)
AGAINST = Comparison(
    "docker/compose|1.yaml",
    [
        Drift("madre", (8001,), ("8001",), ("/health", "/healthz"), ":8001/healthz", ()),
        Drift("hermes", (8003,), ("18003→8003", "9"), ("/health",), "?", ("is asked on `8003`", "another")),
        Drift("redis", (), (), (), "", ("is only in the compose file",)),
    ],
)


def view(name: str, health: Health, **fields: object) -> ServiceView:
    defaults: dict[str, object] = {"port": 8001, "reason": "answered 200 in 4 ms", "since": AT, "upstreams": ()}
    return ServiceView(name=name, health=health, **{**defaults, **fields})  # type: ignore[arg-type]


def test_lines() -> None:
    well = view("madre", Health.UP, endpoint="/health")
    assert report.line(well) == "✓ madre (8001)             OK       answered 200 in 4 ms at /health"
    assert report.line(view("hermes", Health.DOWN, reason="connection refused", endpoint="/health")) == (
        "✗ hermes (8001)            BROKEN   connection refused"
    )
    assert report.line(view("shub", Health.OFF, reason="off on purpose")) == (
        "- shub (8001)              UNKNOWN  off on purpose"
    )
    assert report.line(view("mcp", Health.UNKNOWN, reason="not asked"))[0] == "?"


def test_report() -> None:
    results = [
        view("tentaculo_link", Health.UP, port=8000, code=200, latency_ms=1, endpoint="/health", snippet="{}"),
        view("madre", Health.DEGRADED, code=200, latency_ms=9, endpoint="/healthz", reason="calls itself degraded"),
        view("hermes", Health.DOWN, port=8003, reason="connection refused", endpoint="/health"),
        view("shubniggurath", Health.OFF, port=8007, reason="off on purpose"),
    ]
    assert report.report(results, AT) == (
        "# VX11 runtime truth\n"
        "\n"
        "**Date:** 2025-12-16 09:45:07 UTC\n"
        "\n"
        "| Service | Port | Status | HTTP Code | Latency (ms) | Endpoint | Snippet |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| tentaculo_link | 8000 | OK | 200 | 1 | /health | {} |\n"
        "| madre | 8001 | OK (degraded) | 200 | 9 | /healthz | — |\n"
        "| hermes | 8003 | BROKEN | — | — | /health | — |\n"
        "| shubniggurath | 8007 | UNKNOWN (off on purpose) | — | — | — | — |\n"
        "\n"
        "## Summary\n"
        "\n"
        "- **OK:** 2 of 4\n"
        "- **BROKEN:** 1 of 4\n"
        "- **UNKNOWN:** 1 of 4 (off on purpose: shubniggurath)\n"
        "\n"
        "## What is wrong\n"
        "\n"
        "- **madre** (8001): calls itself degraded\n"
        "- **hermes** (8003): connection refused\n"
    )


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a | b", r"a \| b"),
        ("two\nlines\r\n| more", r"two lines \| more"),
        ("`code`", r"\`code\`"),
        ("<script>alert(1)</script> & so", "&lt;script&gt;alert(1)&lt;/script&gt; &amp; so"),
        ("[link](http://x)", r"\[link\](http://x)"),
        ("**bold** ~~gone~~", r"\*\*bold\*\* \~\~gone\~\~"),
        ("_it_ snake_case", r"\_it\_ snake_case"),
        ("back\\slash\\| pipe", r"back\\slash\\\| pipe"),
        ("x" * 200, "x" * 79 + "…"),
    ],
)
def test_what_a_service_says_is_text_in_the_report(text: str, cell: str) -> None:
    lines = report.report([view("madre", Health.UP, snippet=text)], AT).splitlines()
    assert lines[6] == f"| madre | 8001 | OK | — | — | — | {cell} |"


def test_an_empty_fleet_has_a_report() -> None:
    assert "- **OK:** 0 of 0" in report.report([], AT)


def test_the_drift_stands_at_the_end() -> None:
    lines = report.report([view("madre", Health.UP)], AT, AGAINST).splitlines()
    assert lines[lines.index("## Drift") :] == [
        "## Drift",
        "",
        r"2 of 3 services differ from docker/compose\|1.yaml.",
        "",
        "| Service | Port | Port in compose | Health | Health check in compose | Difference |",
        "| --- | --- | --- | --- | --- | --- |",
        "| madre | 8001 | 8001 | /health, /healthz | :8001/healthz | — |",
        r"| hermes | 8003 | 18003→8003, 9 | /health | ? | is asked on \`8003\`; another |",
        "| redis | — | — | — | — | is only in the compose file |",
    ]


@pytest.mark.parametrize(
    ("differing", "said"),
    [
        (0, "None of 2 services differ from a.yaml."),
        (1, "1 of 2 services differs from a.yaml."),
        (2, "2 of 2 services differ from a.yaml."),
    ],
)
def test_how_many_differ(differing: int, said: str) -> None:
    drifts = [Drift(str(n), (), (), (), "", ("differs",) if n < differing else ()) for n in range(2)]
    assert report.drift_summary(Comparison("a.yaml", drifts)) == said


def test_the_same_for_programs() -> None:
    results = [
        view("madre", Health.UP, code=200, latency_ms=4, endpoint="/health", snippet='{"a": "<b>"}'),
        view("hermes", Health.DOWN, reason="connection refused", root="madre"),
    ]
    found = json.loads(msgspec.json.encode(report.data(results, AT, AGAINST)))
    assert found["timestamp"] == "2025-12-16T09:45:07Z"
    assert found["services"][0] == {
        "service": "madre",
        "port": 8001,
        "status": "OK",
        "health": "up",
        "reason": "answered 200 in 4 ms",
        "http_code": 200,
        "latency_ms": 4,
        "endpoint": "/health",
        "snippet": '{"a": "<b>"}',
    }
    assert found["services"][1]["reason"] == results[1].full_reason
    assert found["summary"] == {"OK": 1, "BROKEN": 1, "UNKNOWN": 0, "total": 2}
    assert found["drift"]["file"] == "docker/compose|1.yaml"
    assert found["drift"]["services"][1]["differences"] == ["is asked on `8003`", "another"]
    assert "drift" not in report.data(results, AT)


def found(compose_text: str, **services: dict[str, Any]) -> dict[str, Drift]:
    declared = compose_file.read({"services": yaml.safe_load(compose_text) or {}})
    drifts = report.compare(fleet(**services), declared, own=GATEWAY_NAME)
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
    drifts = report.compare(command.with_gateway(config), declared, own=GATEWAY_NAME)
    assert [one.service for one in drifts] == [GATEWAY_NAME, *config.services]
    assert {one.service: one.differences for one in drifts if one.differences} == {}
    assert all(one.compose_check == f":{one.ports[0]}/health" for one in drifts[1:])
