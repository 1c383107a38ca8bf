"""The signals of a service: the p95 of its latency where there are enough requests, its median, and its gauges."""

from __future__ import annotations

import pytest

from tentaculo.insight.detector import Outcome
from tentaculo.insight.watches import ENOUGH, GaugeWatch, LatencyWatch
from tentaculo.model.early_warning import BinLatency
from tests.insight.test_detector import FIRST, LIMIT, USUAL, ramp


def run(watch: LatencyWatch, latencies: list[BinLatency | None], start: int = FIRST) -> list[tuple[str, Outcome]]:
    found: list[tuple[str, Outcome]] = []
    for place, latency in enumerate(latencies):
        watch.add(start + place, latency)
        found += watch.evaluate()
    return found


def warm() -> LatencyWatch:
    watch = LatencyWatch(LIMIT)
    for hour in range(FIRST // 12 - 100, FIRST // 12):
        watch.warm_up(hour, BinLatency(1000, USUAL / 2, USUAL))
    return watch


def test_a_service_that_never_has_many_requests_is_warned_of_by_their_median() -> None:
    watch = LatencyWatch(LIMIT)
    for hour in range(FIRST // 12 - 100, FIRST // 12):
        watch.warm_up(hour, BinLatency(ENOUGH, USUAL / 2, USUAL))
    rising = [BinLatency(ENOUGH - 1, value, value * 2) for value in [USUAL / 2] * 48 + ramp(36, USUAL / 2)]
    # Some busy minutes are no reason to watch its p95.
    rising[20] = BinLatency(ENOUGH * 3, USUAL / 2, USUAL)
    assert {statistic for statistic, _ in run(watch, [*rising])} == {"median"}


def test_in_a_quiet_night_the_p95_is_as_far_above_the_median_as_usual() -> None:
    """The limit is that of the p95, which the median, at half of it, does not reach."""
    quiet = [BinLatency(5, value / 2, value / 2) for value in [USUAL] * 48 + ramp(36) + [LIMIT * 1.2] * 8]
    assert run(warm(), [*quiet])[:2] == [("p95", Outcome.OPEN), ("p95", Outcome.REACHED)]


def test_how_far_the_p95_is_above_the_median_is_learned_by_the_hour() -> None:
    watch = LatencyWatch(LIMIT)
    days: list[BinLatency | None] = [BinLatency(5000, USUAL / 4, USUAL)] * 288
    assert run(watch, days) == []
    watch.add(FIRST + 288, BinLatency(3, USUAL / 4, USUAL / 4))
    assert watch.detectors["p95"].level == pytest.approx(USUAL)
    # A clock that was set back.
    assert run(watch, days[:60], FIRST + 100) == []
    for place in range(6):
        watch.add(FIRST + 160 + place, BinLatency(3, USUAL / 2, USUAL / 2))
    assert watch.detectors["p95"].level == pytest.approx(USUAL * 2)


def test_many_requests_are_warned_of_once_by_their_p95() -> None:
    rising = [BinLatency(ENOUGH, value / 2, value) for value in [USUAL] * 48 + ramp(36) + [LIMIT * 1.2] * 8]
    assert run(warm(), [*rising])[:2] == [("p95", Outcome.OPEN), ("p95", Outcome.REACHED)]


def test_traffic_that_comes_and_goes_is_no_change_of_the_signal() -> None:
    busy, calm = BinLatency(5000, USUAL / 2, USUAL), BinLatency(5, USUAL / 2, USUAL / 2)
    days: list[BinLatency | None] = [busy if place % 288 < 144 else calm for place in range(900)]
    days[40:60] = [None] * 20
    assert run(warm(), days) == []


def test_each_gauge_has_its_own_warning_and_a_lower_limit_is_reached_from_above() -> None:
    watch = GaugeWatch({"gauge:queue": 100.0, "gauge_low:free": 10.0})
    for hour in range(FIRST // 12 - 100, FIRST // 12):
        watch.warm_up(hour, "gauge:queue", 5.0)
        watch.warm_up(hour, "gauge_low:free", 100.0)
    found = []
    for place in range(110):
        part = max(0, place - 48) / 48
        watch.add(FIRST + place, {"gauge_low:free": 100 - 92 * part} | ({"gauge:queue": 5.0} if place % 2 else {}))
        found += watch.evaluate()
    assert found == [("gauge_low:free", Outcome.OPEN), ("gauge_low:free", Outcome.REACHED)]
