"""The numbers of health responses, until their bin is complete."""

from __future__ import annotations

from datetime import UTC, datetime

from tentaculo.insight.detector import BIN
from tentaculo.insight.gauges import GaugeCollector
from tentaculo.insight.measures import KEPT
from tentaculo.model.early_warning import GaugeValue
from tentaculo.model.health import Endpoint, Health, ProbeResult

FIRST = 12 * 1000
A, B = Endpoint("madre", "127.0.0.1", 1), Endpoint("madre", "127.0.0.1", 2)


def probed(endpoint: Endpoint, number: float, **gauges: float) -> ProbeResult:
    at = datetime.fromtimestamp(number * BIN, UTC)
    return ProbeResult(
        endpoint, Health.UP, "", at, gauges=tuple((f"{name}:n", value) for name, value in gauges.items())
    )


def test_a_value_is_the_median_of_the_endpoint_that_is_nearest_to_its_limit() -> None:
    collector = GaugeCollector()
    for place, value in enumerate((4.0, 900.0, 6.0)):
        collector.add(probed(A, FIRST + place / 10, gauge=value, gauge_low=value))
    collector.add(probed(B, FIRST + 0.5, gauge=5.0, gauge_low=5.0))
    assert set(collector.complete(FIRST)) == {
        GaugeValue("madre", "gauge:n", FIRST * BIN, 6.0),
        GaugeValue("madre", "gauge_low:n", FIRST * BIN, 5.0),
    }


def test_values_stay_until_they_are_stored_and_a_bin_that_lasts_is_not_complete() -> None:
    collector = GaugeCollector()
    collector.add(probed(A, FIRST, gauge=1.0))
    collector.add(probed(A, FIRST + 1, gauge=2.0))
    found = collector.complete(FIRST)
    assert [one.value for one in found] == [1.0]
    assert collector.complete(FIRST) == found
    collector.forget(found)
    assert [one.value for one in collector.complete(FIRST + 1)] == [2.0]


def test_what_could_not_be_stored_for_hours_and_what_a_wrong_clock_dated_is_lost() -> None:
    collector = GaugeCollector()
    for number in (FIRST, FIRST + 10 * KEPT):
        collector.add(probed(A, number, gauge=1.0))
    assert collector.complete(FIRST + KEPT) == []
    assert repr(collector) == "<GaugeCollector: 0 values>"


def test_memory_is_bounded_however_often_a_service_is_probed() -> None:
    collector = GaugeCollector()
    for value in (*[1.0] * 300, *[9.0] * 5000):
        collector.add(probed(A, FIRST, gauge=value))
    assert [one.value for one in collector.complete(FIRST)] == [1.0]
