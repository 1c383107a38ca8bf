from __future__ import annotations

import pytest

from tentaculo.config.services import BreakerSettings
from tentaculo.health.aggregation import NOT_PROBED
from tentaculo.health.passive import Finding, combine
from tentaculo.model.endpoint import BreakerState, BreakerView, Counts, TrafficView
from tentaculo.model.health import Health

RULES = BreakerSettings()
CLOSED = BreakerView(BreakerState.CLOSED, 0)
UP = Finding(Health.UP, "answered 200 in 4 ms")
WEAK = Finding(Health.DEGRADED, "calls itself degraded")
DOWN = Finding(Health.DOWN, "answered 500 at /health")
BY_TRAFFIC = Finding(Health.DEGRADED, "said before", True)


def weighed(
    probed: Finding, ok: int, failed: int, breaker: BreakerView = CLOSED, before: Finding = NOT_PROBED
) -> Finding:
    return combine(probed, TrafficView(recent=Counts(ok, failed)), breaker, RULES, before)


@pytest.mark.parametrize("probed", [UP, WEAK, DOWN, NOT_PROBED])
def test_without_traffic_probes_decide(probed: Finding) -> None:
    assert weighed(probed, 0, 0) == probed


@pytest.mark.parametrize(("ok", "failed"), [(1000, 0), (0, 4), (1000, 100), (46, 5)])
def test_few_failures_say_nothing(ok: int, failed: int) -> None:
    assert weighed(UP, ok, failed) == UP


@pytest.mark.parametrize(("ok", "failed"), [(0, 5), (45, 5), (10, 20)])
def test_a_health_path_that_says_well_while_requests_fail(ok: int, failed: int) -> None:
    health, reason, by_traffic = weighed(UP, ok, failed)
    assert (health, by_traffic) == (Health.DEGRADED, True)
    assert reason == (
        f"{failed} of {ok + failed} requests within 10 s failed, though its probes pass: answered 200 in 4 ms"
    )


@pytest.mark.parametrize("state", [BreakerState.OPEN, BreakerState.HALF_OPEN])
def test_a_breaker_that_is_not_closed_is_enough(state: BreakerState) -> None:
    breaker = BreakerView(state, 5, reason="5 failures in a row: answered 500")
    assert weighed(UP, 0, 0, breaker) == Finding(
        Health.DEGRADED,
        "requests failed (5 failures in a row: answered 500), though its probes pass: answered 200 in 4 ms",
        True,
    )
    assert weighed(DOWN, 100, 0, breaker) == DOWN, "both agree"


def test_a_weak_one_says_both() -> None:
    health, reason, _ = weighed(WEAK, 0, 9)
    assert health is Health.DEGRADED
    assert reason == "9 of 9 requests within 10 s failed, though its probes pass: calls itself degraded"


@pytest.mark.parametrize(("ok", "failed"), [(5, 0), (100, 0), (60, 40)])
def test_a_health_path_that_fails_while_requests_pass(ok: int, failed: int) -> None:
    health, reason, by_traffic = weighed(DOWN, ok, failed)
    assert (health, by_traffic) == (Health.DEGRADED, True)
    assert reason == (
        f"{ok} of {ok + failed} requests within 10 s passed, though its probes fail: answered 500 at /health"
    )


@pytest.mark.parametrize(("ok", "failed"), [(4, 0), (50, 50), (10, 90), (0, 0)])
def test_too_few_that_pass_leave_it_down(ok: int, failed: int) -> None:
    assert weighed(DOWN, ok, failed) == DOWN


def test_once_requests_have_shown_it_fewer_will_do() -> None:
    assert weighed(DOWN, 1, 0, before=BY_TRAFFIC).health is Health.DEGRADED
    assert weighed(DOWN, 0, 0, before=BY_TRAFFIC) == DOWN
    assert weighed(DOWN, 1, 0, before=WEAK) == DOWN
