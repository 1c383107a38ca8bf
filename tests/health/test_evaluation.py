from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.config.probes import ProbeSettings
from tentaculo.config.reader import read
from tentaculo.health.evaluation import SNIPPET, complaints, evaluate, snippet, stated_health
from tentaculo.health.probe_attempt import ProbeAttempt
from tentaculo.health.probe_body import read_body
from tentaculo.model.endpoint import Endpoint
from tentaculo.model.health import DegradedKind, Health, ProbeResult

MADRE = Endpoint("madre", "127.0.0.1", 8001)
NOW = datetime(2025, 12, 16, 9, 45, tzinfo=UTC)


def verdict(*attempts: ProbeAttempt) -> ProbeResult:
    return evaluate(MADRE, attempts, NOW)


@pytest.mark.parametrize(
    ("body", "health"),
    [
        (b'{"status":"ok"}', Health.UP),
        (b'{"status":"healthy","service":"manifestator"}', Health.UP),
        (b'{"status":"PASS"}', Health.UP),
        (b'{"status":" Up "}', Health.UP),
        (b'{"status":"starting"}', Health.UP),
        (b'{"status":"degraded"}', Health.DEGRADED),
        (b'{"status":"warn"}', Health.DEGRADED),
        (b'{"status":"Warning"}', Health.DEGRADED),
        (b'{"status":"error"}', Health.DOWN),
        (b'{"status":"DOWN"}', Health.DOWN),
        (b'{"status":"fail"}', Health.DOWN),
        (b'{"status":"unhealthy"}', Health.DOWN),
        (b'{"status":"critical"}', Health.DOWN),
        (b'{"status":{"code":"down"}}', Health.UP),
        (b'{"status":0}', Health.UP),
        (b'{"status":null}', Health.UP),
        (b"[]", Health.UP),
        (b'[{"status":"down"}]', Health.UP),
        (b'"down"', Health.UP),
        (b"", Health.UP),
        (b"OK", Health.UP),
        (b"<html><script>alert(1)</script>", Health.UP),
        (b"\xff\xfe{\x00", Health.UP),
        (b'{"status":"\xff\xfe"}', Health.UP),
        (b'{"status":"ok', Health.UP),
        (b"[" * 60_000, Health.UP),
        (b'{"a":' * 10_000, Health.UP),
        (b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}", Health.UP),
        (b'{"status":' + b"9" * 5_000 + b"}", Health.UP),
    ],
)
def test_what_a_body_states(body: bytes, health: Health) -> None:
    assert stated_health(read_body(body))[0] is health


@given(st.binary())
def test_no_body_breaks_anything(body: bytes) -> None:
    assert stated_health(read_body(body))[0] in (Health.UP, Health.DEGRADED, Health.DOWN)
    text = snippet(read_body(body).text)
    assert text is None or (0 < len(text) <= SNIPPET and text.isprintable())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"status":"ok"}', '{"status":"ok"}'),
        (b"  two\r\n\tlines\n", "two lines"),
        (b"bell\x07 esc\x1b[31m nul\x00", "bell esc[31m nul"),
        ("right-to-left \u202e override".encode(), "right-to-left override"),
        ("línea\u2028next".encode(), "línea next"),
        (b"bad \xff utf-8", "bad \ufffd utf-8"),
        (b"x" * 1000, "x" * SNIPPET),
        (b"", None),
        (b" \n\x00", None),
    ],
)
def test_snippet(body: bytes, expected: str | None) -> None:
    assert snippet(read_body(body).text) == expected


def test_a_snippet_never_holds_the_token() -> None:
    assert snippet('{"X-VX11-Token":"s3cret"}', {"s3cret": "token"}) == '{"X-VX11-Token":"[token]"}'


def test_a_plain_200() -> None:
    result = verdict(ProbeAttempt("/health", True, 200, 4, b'{"status":"ok"}'))
    assert result == ProbeResult(MADRE, Health.UP, "answered 200 in 4 ms", NOW, "/health", 200, 4, '{"status":"ok"}')


def test_a_200_that_says_otherwise() -> None:
    weak = verdict(ProbeAttempt("/health", True, 200, 4, b'{"status":"degraded"}'))
    assert (weak.health, weak.reason) == (Health.DEGRADED, "answered 200 in 4 ms, but calls itself degraded")
    down = verdict(ProbeAttempt("/health", True, 200, 4, b'{"status":"unhealthy"}'))
    assert (down.health, down.reason, down.code) == (
        Health.DOWN,
        "answered 200 in 4 ms, but calls itself unhealthy",
        200,
    )


def test_a_later_path_that_answers_counts() -> None:
    result = verdict(
        ProbeAttempt("/health", True, 503, 2, b'{"status":"degraded"}'), ProbeAttempt("/healthz", True, 200, 3, b"ok")
    )
    assert (result.health, result.endpoint, result.latency_ms) == (Health.UP, "/healthz", 3)


def test_failing_paths_are_listed_and_the_telling_one_is_shown() -> None:
    missing = verdict(ProbeAttempt("/health", True, 404, 2), ProbeAttempt("/healthz", True, 404, 3))
    assert (missing.reason, missing.endpoint) == ("answered 404 at /health and /healthz", "/health")
    mixed = verdict(
        ProbeAttempt("/health", True, 404, 1),
        ProbeAttempt("/healthz", True, 503, 2, b'{"status":"degraded"}'),
        ProbeAttempt("/a", True, 404, 3),
    )
    assert mixed.health is Health.DOWN
    assert mixed.reason == "answered 404 at /health and /a; answered 503 at /healthz"
    assert (mixed.code, mixed.endpoint, mixed.snippet) == (503, "/healthz", '{"status":"degraded"}')


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_token_says_what_to_do(code: int) -> None:
    result = verdict(ProbeAttempt("/health", True, code, 2), ProbeAttempt("/healthz", True, 404, 2))
    assert result.reason == f"answered {code} at /health; answered 404 at /healthz; check the service's token"


def test_an_address_that_fails_needs_no_path() -> None:
    result = verdict(ProbeAttempt("/health", problem="connection refused", is_final=True))
    assert (result.health, result.reason, result.code) == (Health.DOWN, "connection refused", None)
    assert (result.endpoint, result.latency_ms, result.snippet) == ("/health", None, None)


def test_the_gateways_own_trouble_is_not_the_services() -> None:
    result = verdict(
        ProbeAttempt("/health", problem="the gateway is out of file descriptors", is_final=True, is_gateway_fault=True)
    )
    assert result.health is Health.UNKNOWN


NOW = datetime(2025, 12, 16, 9, 45, tzinfo=UTC)


def missing(probe: dict[str, Any], **answer: Any) -> list[tuple[Health, str]]:
    attempt = ProbeAttempt("/health", connected=True, code=200, latency_ms=4, **answer)
    return list(complaints(attempt, read_body(attempt.body, is_cut=attempt.is_cut), read(ProbeSettings, probe), NOW))


def test_nothing_is_missing_where_nothing_is_expected() -> None:
    assert missing({}, body=b"\xff\xfe", is_cut=True) == []


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (timedelta(days=14), []),
        (timedelta(days=13, hours=23), [(Health.DEGRADED, "its certificate is valid for 13 days only")]),
        (timedelta(days=1, hours=3), [(Health.DEGRADED, "its certificate is valid for 1 day only")]),
        (timedelta(minutes=3), [(Health.DEGRADED, "its certificate is valid for less than a day only")]),
        (timedelta(0), [(Health.DOWN, "its certificate expired on 2025-12-16")]),
        (timedelta(days=-400), [(Health.DOWN, "its certificate expired on 2024-11-11")]),
    ],
)
def test_certificates(left: timedelta, told: list[tuple[Health, str]]) -> None:
    assert missing({}, certificate_ends=NOW + left) == told


def test_no_days_at_all_are_asked_for() -> None:
    assert missing({"certificate_days": 0}, certificate_ends=NOW + timedelta(minutes=3)) == []


def test_every_complaint_is_listed_and_the_worst_counts() -> None:
    probe = {"contains": "ready", "prefer": ["a > 1"], "slow": 0.001}
    assert missing(probe, body=b'{"a": 1}') == [
        (Health.DOWN, "without the text ready"),
        (Health.DEGRADED, "a is 1, not > 1"),
    ]
    attempt = ProbeAttempt("/health", connected=True, code=200, latency_ms=4, body=b'{"a": 1}')
    result = evaluate(Endpoint("madre", "h", 1), [attempt], NOW, {}, read(ProbeSettings, probe))
    assert result.health is Health.DOWN
    assert result.reason.endswith(", but without the text ready; a is 1, not > 1; slower than 0.001 s")


@pytest.mark.parametrize(
    ("body", "probe", "kind"),
    [
        (b"", {"slow": 0.001}, DegradedKind.SLOW),
        (b"", {"slow": 1}, None),
        (b'{"a": 1}', {"slow": 0.001, "prefer": ["a > 1"]}, None),
        (b'{"status": "degraded"}', {"slow": 0.001}, None),
        (b'{"status": "degraded"}', {}, None),
    ],
)
def test_slow_is_its_own_kind_where_nothing_else_is_wrong(
    body: bytes, probe: dict[str, Any], kind: DegradedKind | None
) -> None:
    attempt = ProbeAttempt("/health", connected=True, code=200, latency_ms=4, body=body)
    assert evaluate(Endpoint("madre", "h", 1), [attempt], NOW, {}, read(ProbeSettings, probe)).kind is kind


@given(st.binary(), st.booleans())
def test_no_body_breaks_an_expectation(body: bytes, is_cut: bool) -> None:
    probe = {"contains": "x", "matches": "[a-z]+", "require": ["a.b == 1"], "prefer": ["[0] != null"]}
    for health, words in missing(probe, body=body, is_cut=is_cut):
        assert health in (Health.DOWN, Health.DEGRADED)
        assert words.isprintable()
