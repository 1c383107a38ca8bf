from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.config.forms import read
from tentaculo.config.probes import Probe
from tentaculo.health.expectations import complaints
from tentaculo.health.probes.question import Attempt
from tentaculo.health.verdict import judge
from tentaculo.model import Health, Upstream

NOW = datetime(2025, 12, 16, 9, 45, tzinfo=UTC)


def missing(probe: dict[str, Any], **answer: Any) -> list[tuple[Health, str]]:
    attempt = Attempt("/health", connected=True, code=200, latency_ms=4, **answer)
    return list(complaints(attempt, read(Probe, probe), NOW))


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
    attempt = Attempt("/health", connected=True, code=200, latency_ms=4, body=b'{"a": 1}')
    result = judge(Upstream("madre", "h", 1), [attempt], NOW, "", read(Probe, probe))
    assert result.health is Health.DOWN


@given(st.binary(), st.booleans())
def test_no_body_breaks_anything(body: bytes, is_cut: bool) -> None:
    probe = {"contains": "x", "matches": "[a-z]+", "require": ["a.b == 1"], "prefer": ["[0] != null"]}
    for health, words in missing(probe, body=body, is_cut=is_cut):
        assert health in (Health.DOWN, Health.DEGRADED)
        assert words.isprintable()
