from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tentaculo.incidents.availability import SPAN, STEP, ErrorRates
from tentaculo.model.health import NOTHING, Counts, Health, ServiceView
from tests.incidents.test_tracker import view

START = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)


def met(ok: int, failed: int, probes: Counts = NOTHING) -> ServiceView:
    known = view("hermes", Health.UP)
    return replace(known, upstreams=(replace(known.upstreams[0], traffic=Counts(ok, failed), probes=probes),))


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_it_looks_back_a_minute() -> None:
    rates = ErrorRates()
    assert rates.update(met(1000, 500), at(0)) is None, "what was met before nobody knows when"
    assert rates.update(met(1003, 501), at(5)) == 0.25
    assert rates.update(met(1003, 501), at(40)) == 0.25
    assert rates.update(met(1003, 505), at(61)) == 0.625
    assert rates.update(met(1003, 505), at(101)) == 1.0, "since the second 40"
    assert rates.update(met(1003, 505), at(300)) is None


def test_counters_that_fall_begin_the_minute_again() -> None:
    rates = ErrorRates()
    rates.update(met(40, 2), at(0))
    assert rates.update(met(40, 6), at(10)) == 1.0
    assert rates.update(met(39, 7), at(15)) is None, "one of two addresses was removed with its counts"
    assert rates.update(met(39, 9), at(20)) == 1.0


def test_probes_and_requests_count_alike() -> None:
    rates = ErrorRates()
    rates.update(met(0, 0), at(0))
    assert rates.update(met(1, 1, Counts(0, 2)), at(5)) == 0.75


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.floats(0, 90)), max_size=60))
def test_a_failure_within_the_last_minute_always_shows_and_memory_is_bounded(
    steps: list[tuple[int, int, float]],
) -> None:
    rates, now, ok, failed = ErrorRates(), 0.0, 0, 0
    failures: list[float] = []
    for number, (good, bad, pause) in enumerate(steps):
        now, ok, failed = now + pause, ok + good, failed + bad
        found = rates.update(met(ok, failed), at(now))
        if bad and number:
            failures.append(now)
        if any(now - moment < SPAN.total_seconds() - 1 for moment in failures):
            assert found is not None
            assert 0.0 < found <= 1.0
        assert found is None or 0.0 <= found <= 1.0
        assert len(rates._kept["hermes"]) <= SPAN / STEP + 2
