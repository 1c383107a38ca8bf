"""Where the time of requests goes: phases of one request, of a route, and its usual first byte."""

from __future__ import annotations

from typing import Any

import pytest

from tentaculo.model.failure import Failure
from tentaculo.model.history import RouteKey
from tentaculo.model.request_phases import Phases
from tentaculo.telemetry.request_log import RequestRecord
from tentaculo.telemetry.request_stats import MOST_ROUTES, OTHERS, RequestStats, phases_of

ROUTE = RouteKey("madre", "/a")


def record(seconds: float = 0.5, status: int = 200, route: RouteKey = ROUTE, **parts: Any) -> RequestRecord:
    return RequestRecord("GET", "/", status, seconds, "127.0.0.1", "id", route.service, route=route, **parts)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({}, Phases(0, 0, 8, 0)),
        ({"head_seconds": 5.0}, Phases(0, 0, 5, 3)),
        ({"queue_seconds": 1.0, "connect_seconds": 2.0}, Phases(1, 2, 5, 0)),
        ({"connect_seconds": 1.0, "upload_seconds": 4.0, "head_seconds": 7.0}, Phases(0, 1, 2, 5)),
        # The service answered while the body still arrived.
        ({"upload_seconds": 6.0, "head_seconds": 4.0}, Phases(0, 0, 0, 8)),
    ],
    ids=["the response alone", "a long body", "queue and connect", "an upload", "an early response"],
)
def test_the_phases_add_up_to_the_time_of_the_request(parts: dict[str, Any], expected: Phases) -> None:
    found = phases_of(record(8.0, **parts))
    assert found == expected
    assert sum(found) == 8.0


def counted(*done: RequestRecord) -> RequestStats:
    stats = RequestStats()
    for one in done:
        stats.end(one)
    return stats


def test_a_minute_that_is_taken_stays_in_the_totals() -> None:
    stats = counted(record(0.5), record(0.25, 404), record(2.0, head_seconds=1.0, connect_seconds=0.25))
    for _ in range(2):
        ((route, phases),) = stats.phases()
        assert route == ROUTE
        assert [sum(one.buckets) for one in phases] == [3, 3, 3, 3]
        assert [one.seconds for one in phases] == pytest.approx([0, 0.25, 1.5, 1.0], rel=0.02)
        stats.drain()


def test_what_was_taken_has_the_sums_of_its_minute() -> None:
    stats = counted(record(0.5), record(2.0, head_seconds=1.0), record(1.0, 500))
    taken = stats.times(ROUTE).take()
    assert (taken.requests, taken.latency.count) == (3, 2)
    assert taken.phases == pytest.approx(Phases(0, 0, 2.5, 1.0), rel=0.02)
    assert stats.times(ROUTE).take().requests == 0


def test_the_phases_of_five_minutes_are_those_of_a_service() -> None:
    stats = counted(record(0.5), record(2.0, head_seconds=1.0), record(3.0, route=RouteKey("other", "/")))
    for _ in range(5):
        found = stats.recent_phases("madre")
        assert found.keys() == {"/a"}
        assert found["/a"][0] == 2
        assert found["/a"][1] == pytest.approx(Phases(0, 0, 1.5, 1.0), rel=0.02)
        stats.drain()
    assert stats.recent_phases("madre") == {}


@pytest.mark.parametrize(
    ("done", "requests"),
    [
        (record(9.0, 503, error=Failure.OVERLOADED.error, queue_seconds=9.0), [1, 1, 0, 0]),
        (record(9.0, 504, error=Failure.CONNECT_TIMEOUT.error, connect_seconds=9.0), [1, 1, 0, 0]),
        (record(9.0, 504, error=Failure.FIRST_BYTE_TIMEOUT.error), [1, 1, 1, 1]),
        (record(9.0, 502), [1, 1, 1, 1]),
        (record(9.0, head_seconds=0.1, is_event_stream=True), [1, 1, 1, 0]),
        (record(99.0, head_seconds=0.1), [1, 1, 1, 1]),
        (record(9.0, 499, error=Failure.CLIENT_LEFT.error), [0, 0, 0, 0]),
        (record(9.0, 101), [0, 0, 0, 0]),
        (record(9.0, 204, is_own=True), [0, 0, 0, 0]),
    ],
    ids=["no room", "no connection", "no response", "a 502", "event stream", "download", "client", "tunnel", "own"],
)
def test_which_phases_a_request_has(done: RequestRecord, requests: list[int]) -> None:
    found = dict(counted(done).phases()).get(ROUTE)
    assert ([sum(one.buckets) for one in found] if found else [0] * 4) == requests


def test_the_usual_first_byte_is_that_of_five_minutes() -> None:
    stats = counted(*[record(0.1) for _ in range(94)], *[record(5.0, head_seconds=0.1)] * 1)
    times = stats.times(ROUTE)
    assert times.first_byte_p95(10.0) == pytest.approx(0.1, rel=0.02)
    for _ in range(10):
        stats.end(record(3.0))
    assert times.first_byte_p95(11.0) == pytest.approx(0.1, rel=0.02), "it is computed every five seconds"
    assert times.first_byte_p95(15.0) == pytest.approx(3.0, rel=0.02)
    for _ in range(5):
        assert times.first_byte_p95(times._fresh_until) is not None
        stats.drain()
    assert times.first_byte_p95(times._fresh_until) is None


def test_few_requests_say_nothing() -> None:
    assert counted(*[record()] * 19).times(ROUTE).first_byte_p95(1.0) is None
    assert counted(*[record()] * 20).times(ROUTE).first_byte_p95(1.0) is not None
    stats = counted(*[record()] * 19)
    assert stats.times(ROUTE).first_byte_p95(1.0) is None
    stats.end(record())
    assert stats.times(ROUTE).first_byte_p95(1.5) is not None, "it is asked again soon"


def test_many_routes_take_a_bounded_number_of_series() -> None:
    routes = [RouteKey("s", f"/{number}") for number in range(MOST_ROUTES + 3)]
    found = counted(*[record(route=route) for route in routes]).phases()
    assert len(found) == MOST_ROUTES + 1
    assert found[-1][0] == OTHERS
    assert sum(found[-1][1][2].buckets) == 3
