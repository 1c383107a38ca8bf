from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.config.probes import ProbeSettings
from tentaculo.config.reader import read
from tentaculo.health.evaluation import evaluate
from tentaculo.health.expectations import complaints
from tentaculo.health.probes.attempt import ProbeAttempt
from tentaculo.model.endpoint import Endpoint
from tentaculo.model.health import Health

NOW = datetime(2025, 12, 16, 9, 45, tzinfo=UTC)


def missing(probe: dict[str, Any], **answer: Any) -> list[tuple[Health, str]]:
    attempt = ProbeAttempt("/health", connected=True, code=200, latency_ms=4, **answer)
    return list(complaints(attempt, read(ProbeSettings, probe), NOW))


def test_nothing_is_missing_where_nothing_is_expected() -> None:
    assert missing({}, body=b"\xff\xfe", is_cut=True) == []


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (timedelta(days=14), []),
        (timedelta(days=13, hours=23), [(Health.DEGRADED, "its certificate holds for 13 days only")]),
        (timedelta(days=1, hours=3), [(Health.DEGRADED, "its certificate holds for 1 day only")]),
        (timedelta(minutes=3), [(Health.DEGRADED, "its certificate holds for less than a day only")]),
        (timedelta(0), [(Health.DOWN, "its certificate has expired on 2025-12-16")]),
        (timedelta(days=-400), [(Health.DOWN, "its certificate has expired on 2024-11-11")]),
    ],
)
def test_certificates(left: timedelta, told: list[tuple[Health, str]]) -> None:
    assert missing({}, certificate_ends=NOW + left) == told


def test_no_days_at_all_are_asked_for() -> None:
    assert missing({"certificate_days": 0}, certificate_ends=NOW + timedelta(minutes=3)) == []


def test_everything_that_is_missing_is_told_and_the_gravest_counts() -> None:
    probe = {"contains": "ready", "prefer": ["a > 1"], "slow": 0.001}
    assert missing(probe, body=b'{"a": 1}') == [
        (Health.DOWN, "without the text ready"),
        (Health.DEGRADED, "a is 1, not > 1"),
        (Health.DEGRADED, "slower than 0.001 s"),
    ]
    attempt = ProbeAttempt("/health", connected=True, code=200, latency_ms=4, body=b'{"a": 1}')
    result = evaluate(Endpoint("madre", "h", 1), [attempt], NOW, "", read(ProbeSettings, probe))
    assert result.health is Health.DOWN


@given(st.binary(), st.booleans())
def test_no_body_breaks_anything(body: bytes, is_cut: bool) -> None:
    probe = {"contains": "x", "matches": "[a-z]+", "require": ["a.b == 1"], "prefer": ["[0] != null"]}
    for health, words in missing(probe, body=body, is_cut=is_cut):
        assert health in (Health.DOWN, Health.DEGRADED)
        assert words.isprintable()
