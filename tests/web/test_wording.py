"""The page's words."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tentaculo.model.health import BreakerState, BreakerView, Counts, Health, ServiceView
from tentaculo.web import wording
from tests.support.native_gateway import NOW, OPEN, fleet, view


def test_ago() -> None:
    assert wording.ago(None, NOW) == "never"
    assert wording.ago(NOW, NOW) == "just now"
    assert wording.ago(NOW - timedelta(seconds=8), NOW) == "8 s ago"


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (Counts(), ""),
        (Counts(1, 0), "1 probe"),
        (Counts(0, 1), "1 probe, 1 failed"),
        (Counts(811, 1), "812 probes, 1 failed"),
        (Counts(1_234_567, 1_000), "1,235,567 probes, 1,000 failed"),
    ],
)
def test_counted(counts: Counts, said: str) -> None:
    assert wording.counted(counts, "probe") == said


@pytest.mark.parametrize(
    ("breaker", "said"),
    [
        (BreakerView(BreakerState.CLOSED, 0), "Closed"),
        (BreakerView(BreakerState.CLOSED, 3), "Closed, 3 failed in a row"),
        (BreakerView(BreakerState.OPEN, 5, retry_after=6.3), "Open, next try in 7 s"),
        (BreakerView(BreakerState.OPEN, 5), "Open, next try is due"),
        (BreakerView(BreakerState.HALF_OPEN, 5), "Half open, tries one request"),
    ],
)
def test_breaker(breaker: BreakerView, said: str) -> None:
    assert wording.breaker(breaker) == said


@pytest.mark.parametrize(
    ("services", "said"),
    [
        ((), "No services are configured yet."),
        ((view("a", health=Health.OFF),), "Every service is off on purpose."),
        ((view("a"),), "a is healthy."),
        ((view("a"), view("b"), view("c", health=Health.OFF)), "All 2 services are healthy."),
        ((view("a"), view("b", health=Health.DEGRADED)), "All 2 services are healthy."),
        ((view("a"), view("b", health=Health.DOWN)), "1 of 2 services is healthy."),
        ((view("a"), view("b"), view("c", breaker=OPEN)), "2 of 3 services are healthy."),
        ((view("a", health=Health.DOWN),), "a is down."),
        ((view("a", health=Health.DOWN), view("b", breaker=OPEN)), "None of 2 services is healthy."),
        ((view("a", health=Health.UNKNOWN),), "Waiting for the first check of 1 service."),
        (
            (view("a", health=Health.UNKNOWN), view("b", health=Health.UNKNOWN)),
            "Waiting for the first check of 2 services.",
        ),
    ],
)
def test_headline(services: tuple[ServiceView, ...], said: str) -> None:
    assert wording.headline(services) == said


def test_the_gravest_comes_first() -> None:
    assert [view.name for view in wording.troubled(fleet())] == ["hermes", "mcp", "switch", "spawner"]
    assert wording.mood(fleet()).key == "down"
    assert wording.mood([view("a"), view("b", health=Health.DEGRADED)]).key == "degraded"
    assert wording.mood([view("a"), view("b", health=Health.OFF)]) == wording.state(view("a"))
    assert wording.mood([]).key == "unknown"


def test_a_service_that_is_down_is_down_first_of_all() -> None:
    assert wording.state(view("a", health=Health.DOWN, breaker=OPEN)).key == "down"
    assert not wording.is_cut_off(view("a", health=Health.DOWN, breaker=OPEN))
    assert wording.phrase(view("a", health=Health.UP, breaker=OPEN)) == "up with an open circuit breaker"


@pytest.mark.parametrize("health", Health)
def test_an_open_breaker_is_no_state_of_its_own(health: Health) -> None:
    assert wording.state(view("a", health=health, breaker=OPEN)).key == health.value


def test_every_health_has_its_word() -> None:
    said = {wording.state(view("a", health=health)).word for health in Health}
    assert len(said) == len(Health)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (None, "\N{EN DASH}"),
        (1.0, "100 %"),
        (0.999999, "99.99 %"),
        (0.99, "99 %"),
        (0.29, "29 %"),
        (0.5, "50 %"),
        (0.0005, "0.05 %"),
        (0.000001, "0 %"),
        (0.0, "0 %"),
    ],
)
def test_a_share_is_never_rounded_up(part: float | None, said: str) -> None:
    assert wording.share(part) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "\N{EN DASH}"),
        (0.000_05, "0.05 ms"),
        (0.000_996, "1.0 ms"),
        (0.0042, "4.2 ms"),
        (0.00996, "10 ms"),
        (0.1234, "123 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (1.84, "1.8 s"),
        (31.2, "31 s"),
    ],
)
def test_a_latency_has_the_digits_that_mean_something(seconds: float | None, said: str) -> None:
    assert wording.latency(seconds) == said
