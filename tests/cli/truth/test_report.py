from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest

from tentaculo.cli.truth import report
from tentaculo.cli.truth.drift import Drift
from tentaculo.cli.truth.report import Comparison
from tentaculo.model.health import Health, ServiceView

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
