"""The recent and the usual rates of services, on a database of each kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from tentaculo.model.history import DAY, HOUR, MINUTE, Histogram, Period, RouteCount, Tally
from tentaculo.model.service_rates import RecentRates, WorstMinute
from tentaculo.store.history import add_history, history_row
from tentaculo.store.rates import read_recent, read_usual
from tentaculo.store.route_history import add_routes, route_rows
from tests.support.runtime_tables import opened

TODAY = 20_000 * DAY
UNTIL = TODAY + 12 * HOUR
NOW = UNTIL + 20


def minute(
    ago: int, service: str = "madre", *, probes: tuple[int, int] = (6, 0), requests: tuple[int, int] = (0, 0)
) -> Period:
    """The counts, ok and failed, of the minute that ended `ago` minutes before `UNTIL`."""
    ok, failed = requests
    latency = Histogram({200: ok}) if ok else Histogram()
    return Period(service, MINUTE, UNTIL - (ago + 1) * MINUTE, Tally(*probes), Tally(ok, failed, latency))


def store(url: str, periods: Iterable[Period]) -> None:
    with opened(url) as connection:
        add_history(connection, [history_row(one) for one in periods])


def recent(url: str, *services: str, now: int = NOW) -> dict[str, RecentRates]:
    with opened(url) as connection:
        return read_recent(connection, now, services)


def test_five_complete_minutes_count_and_nothing_before_or_after_them(url: str) -> None:
    store(url, [minute(ago, requests=(10 * 2**ago, ago)) for ago in range(7)])
    store(url, [minute(-1, requests=(1000, 0))])
    store(url, [minute(0, "mcp", requests=(1, 1))])
    found = recent(url, "madre", "mcp", "hermes")
    ok = 10 * (1 + 2 + 4 + 8 + 16)
    assert found["madre"] == RecentRates(
        UNTIL, 5, Tally(30), Tally(ok, 10, Histogram({200: ok})), WorstMinute(UNTIL - 3 * MINUTE, 2, 48)
    )
    assert found["madre"].per_minute(ok + 10) == 64.0
    assert found["madre"].failed_share == 10 / (ok + 10 + 30)
    assert found["mcp"].requests == Tally(1, 1, Histogram({200: 1}))
    # Nothing was recorded of it in minutes in which the gateway ran.
    assert (found["hermes"].minutes, found["hermes"].per_minute(0), found["hermes"].failed_share) == (5, 0.0, None)


@pytest.mark.parametrize(("now", "last"), [(UNTIL + 4, 1), (UNTIL + 5, 0), (UNTIL + 64, 0)])
def test_a_minute_counts_once_the_counts_of_all_workers_are_there(url: str, now: int, last: int) -> None:
    store(url, [minute(ago, requests=(ago + 1, 0)) for ago in range(2)])
    found = recent(url, "madre", now=now)["madre"]
    assert (found.until, found.minutes) == (UNTIL - last * MINUTE, 2 - last)


def test_the_worst_minute_is_that_of_the_last_hour_by_share_and_then_by_number(url: str) -> None:
    store(url, [minute(60, probes=(0, 6)), minute(59, requests=(5, 5)), minute(30, probes=(0, 0), requests=(8, 8))])
    store(url, [minute(20, requests=(2, 7)), minute(10, requests=(90, 40)), minute(-1, probes=(0, 6))])
    assert recent(url, "madre")["madre"].worst == WorstMinute(UNTIL - 31 * MINUTE, 8, 16)
    store(url, [minute(31, probes=(0, 0), requests=(9, 9))])
    assert recent(url, "madre")["madre"].worst == WorstMinute(UNTIL - 32 * MINUTE, 9, 18)


def test_after_a_start_the_rate_is_that_of_the_minutes_that_are_known(url: str) -> None:
    store(url, [minute(0, requests=(30, 0)), minute(1, "mcp")])
    found = recent(url, "madre")["madre"]
    assert (found.minutes, found.per_minute(found.requests.ok)) == (2, 15.0)
    assert recent(url, "madre", now=NOW + 600)["madre"].per_minute(0) is None


def test_the_requests_of_each_route_in_these_minutes(url: str) -> None:
    with opened(url) as connection:
        for ago, service, route in ((0, "madre", "/a"), (4, "madre", "/a"), (5, "madre", "/a"), (1, "mcp", "/b")):
            period = minute(ago, service)
            period.routes = {route: RouteCount(2, 1)}
            add_routes(connection, route_rows(period))
    found = recent(url, "madre", "hermes")
    assert found["madre"].routes == {"/a": RouteCount(4, 2)}
    assert found["hermes"].routes == {}


def test_a_clock_that_was_set_back_sees_no_minute_of_the_future(url: str) -> None:
    store(url, [minute(ago, requests=(10, 0)) for ago in range(10)])
    found = recent(url, "madre", now=NOW - 8 * MINUTE)["madre"]
    assert (found.minutes, found.requests.ok) == (2, 20)


def hour(days_ago: int, service: str = "madre", at: int = UNTIL) -> Period:
    ok = 600 * days_ago
    latency = Histogram({150 + days_ago: ok}) if ok else Histogram()
    return Period(service, HOUR, at - days_ago * DAY, Tally(360, 0, Histogram({90: 360})), Tally(ok, 0, latency))


def test_the_same_hour_of_seven_days_is_usual_and_no_other(url: str) -> None:
    store(url, [hour(day) for day in range(9)])
    store(url, [hour(day, at=at) for day in range(1, 8) for at in (UNTIL - HOUR, UNTIL + HOUR)])
    store(url, [replace(hour(day), span=DAY, start=TODAY - day * DAY) for day in range(1, 8)])
    store(url, [hour(day, "mcp") for day in (1, 3, 5, 7)] + [hour(day, "hermes") for day in (1, 3, 5, 8)])
    with opened(url) as connection:
        found = read_usual(connection, UNTIL, ["madre", "mcp", "hermes", "spawner"])
        assert read_usual(connection, UNTIL, []) == {}
    (p95,) = hour(4).requests.latency.percentiles(0.95)
    assert (found["madre"].days, found["madre"].requests_per_minute, found["madre"].requests_p95) == (7, 40.0, p95)
    assert (found["mcp"].days, found["mcp"].requests_per_minute) == (4, 40.0)
    assert set(found) == {"madre", "mcp"}, "three days are too few"
