from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tentaculo.model.health import Endpoint, Health, ProbeResult
from tentaculo.model.history import HOUR, MINUTE, Histogram, Period, RouteCount, RouteKey, Tally, Uptime
from tentaculo.telemetry.history import HistoryCollector

START = 1_800_000_000  # a whole minute, and a whole hour
AT = datetime(2027, 1, 15, 8, tzinfo=UTC)


class Clock:
    """A time of day that can be set, and a monotonic clock that cannot."""

    def __init__(self) -> None:
        self.now = float(START)
        self.monotonic = 50.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.monotonic += seconds


class Kept:
    """A history, what it handed on, and what it will be told of requests."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.periods: list[Period] = []
        self.tended: list[tuple[int, bool]] = []
        self.requests: dict[RouteKey, Tally] = {}
        self.history = HistoryCollector(
            record=self.periods.extend,
            roll_up=lambda now, may_delete: self.tended.append((now, may_delete)),
            pace=lambda service: 0.0 if service == "madre" else 8.0,
            now=lambda: self.clock.now,
            clock=lambda: self.clock.monotonic,
        )
        self.history.drain_from(self.drain)

    def drain(self) -> dict[RouteKey, Tally]:
        found, self.requests = self.requests, {}
        return found

    def pass_by(self, seconds: float) -> None:
        self.clock.pass_by(seconds)
        self.history.turn()

    def probe(
        self,
        found: Health = Health.UP,
        latency: int | None = 4,
        *,
        believed: Health = Health.UP,
        service: str = "madre",
        port: int = 1,
    ) -> None:
        upstream = Endpoint(service, "127.0.0.1", port)
        self.history.note_probe(ProbeResult(upstream, found, "", AT, latency_ms=latency), believed)


@pytest.fixture
def kept() -> Kept:
    return Kept()


def of(*seconds: float) -> Histogram:
    histogram = Histogram()
    for one in seconds:
        histogram.add(one)
    return histogram


def test_a_minute_is_handed_on_when_it_is_over(kept: Kept) -> None:
    kept.probe(latency=4)
    kept.pass_by(50)
    kept.probe(Health.DEGRADED, 9)
    kept.probe(Health.DOWN, 7)
    kept.probe(service="mcp", latency=None)
    kept.requests = {RouteKey("mcp", "/a"): Tally(2, 1, of(0.1)), RouteKey("mcp", "/b"): Tally(1, 0, of(0.2))}
    assert kept.periods == []
    kept.pass_by(10)
    assert kept.periods == [
        Period("madre", MINUTE, START, Tally(2, 1, of(0.004, 0.009))),
        Period(
            *("mcp", MINUTE, START, Tally(1, 0), Tally(3, 1, of(0.1, 0.2))),
            routes={"/a": RouteCount(2, 1), "/b": RouteCount(1, 0)},
        ),
    ]
    kept.pass_by(60)
    assert len(kept.periods) == 2, "a minute in which nothing was met is no period"


def test_a_probe_of_the_next_minute_hands_the_last_one_on_before_the_timer_does(kept: Kept) -> None:
    kept.probe()
    kept.clock.pass_by(MINUTE)
    kept.probe()
    assert [(period.start, period.probes.ok) for period in kept.periods] == [(START, 1)]


def test_what_is_left_at_the_end_is_handed_on_once(kept: Kept) -> None:
    kept.probe()
    kept.history.flush()
    kept.history.flush()
    assert [period.probes.ok for period in kept.periods] == [1]


def test_a_service_with_several_addresses_is_well_while_one_of_them_is(kept: Kept) -> None:
    kept.probe(port=1)
    for _ in range(3):
        kept.probe(Health.DOWN, port=2, believed=Health.DEGRADED)
        kept.probe(port=1)
    kept.probe(Health.DOWN, port=1, believed=Health.DOWN)
    kept.pass_by(MINUTE)
    (period,) = kept.periods
    assert (period.probes.ok, period.probes.failed) == (7, 1)


def test_an_address_that_is_gone_says_nothing_of_its_service(kept: Kept) -> None:
    kept.probe(port=1)
    kept.history.forget_endpoints(lambda endpoint: endpoint.port != 1)
    kept.probe(Health.DOWN, None, believed=Health.DOWN, port=2)
    kept.history.flush()
    assert [(one.probes.ok, one.probes.failed) for one in kept.periods] == [(1, 1)]


def test_a_probe_that_came_before_its_time_is_not_counted(kept: Kept) -> None:
    for found in (Health.UP, Health.DOWN, Health.DOWN):
        for port in (1, 2):
            kept.probe(found, service="mcp", port=port)
        kept.pass_by(4)
    kept.probe(Health.DOWN, service="mcp")
    kept.history.flush()
    # At 0 s both addresses are well, at 8 s neither is; what came at 4 s and at 12 s was not waited for.
    assert [(period.probes.ok, period.probes.failed) for period in kept.periods] == [(2, 2)]


def test_what_nobody_can_be_blamed_for_is_not_counted(kept: Kept) -> None:
    kept.probe(Health.UNKNOWN)
    kept.probe(Health.DOWN, believed=Health.MAINTENANCE)
    kept.probe(Health.DOWN, believed=Health.OFF)
    kept.pass_by(MINUTE)
    assert kept.periods == []


def test_a_clock_that_is_set_counts_nothing_twice_and_loses_nothing(kept: Kept) -> None:
    kept.probe()
    kept.clock.now += 10 * HOUR
    kept.probe()
    kept.clock.now -= 10 * HOUR
    kept.probe(Health.DOWN)
    kept.clock.now -= HOUR
    kept.probe(Health.DOWN)
    kept.history.flush()
    assert [(period.start - START, period.probes.ok, period.probes.failed) for period in kept.periods] == [
        (0, 1, 0),
        (10 * HOUR, 1, 0),
        (0, 0, 1),
        (-HOUR, 0, 1),
    ]


def test_the_store_is_tended_at_the_start_and_at_each_hour(kept: Kept) -> None:
    kept.history.turn()
    for _ in range(59):
        kept.pass_by(MINUTE)
    assert kept.tended == [(START, False)]
    kept.pass_by(MINUTE)
    assert kept.tended[1:] == [(START + HOUR, True)]


def test_nothing_may_be_deleted_within_an_hour_of_the_clock_being_set(kept: Kept) -> None:
    for _ in range(3):
        kept.pass_by(HOUR)
    assert [may_delete for _, may_delete in kept.tended] == [True, True, True]
    kept.clock.now += 3650 * 24 * HOUR
    kept.history.turn()
    kept.pass_by(HOUR - 1)
    kept.pass_by(1)
    assert [may_delete for _, may_delete in kept.tended[3:]] == [False, True]
    kept.clock.now -= 3650 * 24 * HOUR
    kept.history.turn()
    assert kept.tended[-1][1] is False


def test_it_says_how_much_it_holds(kept: Kept) -> None:
    kept.probe()
    assert repr(kept.history) == "<HistoryCollector: 1 services probed in this minute>"


def uptimes(kept: Kept) -> list[tuple[str, Uptime | None]]:
    kept.history.flush()
    found, kept.periods[:] = [(period.service, period.uptime) for period in kept.periods], []
    return found


def test_availability_goes_by_time_and_not_by_the_number_of_probes(kept: Kept) -> None:
    kept.history.note_health("madre", Health.UP)
    for _ in range(28):
        kept.clock.pass_by(1)
        kept.probe()
    kept.clock.pass_by(5)
    # The probe that found it down took five seconds: it has been down since that probe was sent.
    kept.history.note_health("madre", Health.DOWN, 5)
    kept.probe(Health.DOWN)
    for _ in range(5):
        kept.pass_by(4)
    kept.history.note_health("madre", Health.DEGRADED)
    kept.clock.pass_by(3)
    kept.history.flush()
    (period,) = kept.periods
    assert (period.probes.ok, period.probes.failed) == (28, 1)
    assert period.uptime == Uptime(31_000, 25_000)


def test_time_in_which_nothing_is_known_or_wanted_does_not_count(kept: Kept) -> None:
    kept.history.note_health("madre", Health.UNKNOWN)
    kept.clock.pass_by(4)
    kept.history.note_health("madre", Health.UP)
    kept.clock.pass_by(4)
    for state in (Health.MAINTENANCE, Health.OFF):
        kept.history.note_health("madre", state)
        kept.clock.pass_by(4)
    kept.history.note_health("madre", Health.DOWN)
    kept.clock.pass_by(3)
    assert uptimes(kept) == [("madre", Uptime(4_000, 3_000))]
    kept.history.note_health("madre", Health.MAINTENANCE)
    kept.clock.pass_by(4)
    assert uptimes(kept) == [], "a minute without time, probe or request is no period"


def test_a_pause_of_the_gateway_itself_does_not_count(kept: Kept) -> None:
    kept.history.note_health("madre", Health.DOWN)
    for _ in range(4):
        kept.pass_by(1)
    kept.pass_by(600)
    kept.pass_by(1)
    kept.history.flush()
    assert [(one.start - START, one.uptime) for one in kept.periods] == [
        (0, Uptime(0, 4_000)),
        (10 * MINUTE, Uptime(0, 1_000)),
    ]


def test_a_clock_that_is_set_neither_adds_time_nor_takes_any(kept: Kept) -> None:
    kept.history.note_health("madre", Health.UP)
    kept.pass_by(4)
    kept.clock.now += 10 * HOUR
    kept.pass_by(4)
    kept.clock.now -= 20 * HOUR
    kept.pass_by(4)
    kept.history.flush()
    times = [one.uptime for one in kept.periods if one.uptime is not None]
    assert (sum(one.available for one in times), sum(one.unavailable for one in times)) == (12_000, 0)


def test_a_minute_without_a_probe_has_time_all_the_same(kept: Kept) -> None:
    kept.history.note_health("madre", Health.DOWN)
    for _ in range(30):
        kept.pass_by(2)
    assert [(one.probes.ok, one.probes.failed, one.uptime) for one in kept.periods] == [(0, 0, Uptime(0, 60_000))]
