"""`/vx11/history`, and the charts of the status page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.model.history import DAY, HOUR, MINUTE, Histogram, Period, RouteCount, Tally, bucket
from tentaculo.model.service_rates import RecentRates, UsualRates, WorstMinute
from tentaculo.web.history import HEIGHT, WIDTH, Chart, day_chart
from tests.support.native_gateway import NOW, TOKEN, Gateway

PRESENT = int(NOW.timestamp())


async def asked(gateway: Gateway, path: str, status: int = 200) -> Any:
    async with gateway.client.get(path, headers={"X-VX11-Token": TOKEN}) as answer:
        assert answer.status == status
        return await answer.json(content_type=None)


async def test_a_day_by_the_hour(gateway: Gateway) -> None:
    found = await asked(gateway, "/vx11/history/madre")
    periods = found.pop("periods")
    assert (found.pop("routes"), found.pop("usual")) == ([], None)
    assert set(found.pop("recent")) == {
        *("since", "until", "minutes", "failed_share", "probes", "requests", "worst_minute")
    }
    assert found == {
        "service": "madre",
        "span_seconds": 3600,
        "since": "2026-03-13T16:00:00Z",
        "until": "2026-03-14T15:09:26Z",
        "probes": {
            "ok": 24 * 360 - 90,
            "failed": 90,
            "availability": pytest.approx(1 - 90 / 8640),
            "latency_ms": {"p50": 4.03, "p95": 4.03, "p99": 4.03},
            "availability_by": "probes",
            "seconds_available": None,
            "seconds_unavailable": None,
        },
        "requests": {
            "ok": 1200,
            "failed": 0,
            "availability": 1.0,
            "latency_ms": {"p50": 142.0, "p95": 280.0, "p99": 291.0},
        },
    }
    assert [period["start"] for period in (periods[0], periods[-1])] == ["2026-03-13T16:00:00Z", "2026-03-14T15:00:00Z"]
    assert len(periods) == 24
    assert periods[18]["probes"]["availability"] == 0.75


async def test_the_last_minutes_stand_beside_the_worst_one(gateway: Gateway) -> None:
    until = PRESENT - PRESENT % MINUTE
    latency = Histogram({bucket(0.01): 225, bucket(0.2): 75})
    gateway.state.rates["madre"] = RecentRates(
        until, 5, Tally(30, 0), Tally(300, 20, latency), WorstMinute(until - 40 * MINUTE, 12, 16)
    )
    found = (await asked(gateway, "/vx11/history/madre"))["recent"]
    assert found == {
        "since": "2026-03-14T15:04:00Z",
        "until": "2026-03-14T15:09:00Z",
        "minutes": 5,
        "failed_share": pytest.approx(20 / 350),
        "probes": {
            "per_minute": 6.0,
            "failed_per_minute": 0.0,
            "failed_share": 0.0,
            "latency_ms": {"p50": None, "p95": None, "p99": None},
        },
        "requests": {
            "per_minute": 64.0,
            "failed_per_minute": 4.0,
            "failed_share": pytest.approx(20 / 320),
            "latency_ms": {"p50": pytest.approx(10, rel=0.02), "p95": pytest.approx(200, rel=0.02)}
            | {"p99": pytest.approx(200, rel=0.02)},
        },
        "worst_minute": {"start": "2026-03-14T14:29:00Z", "failed_share": 0.75, "failed": 12, "counted": 16},
    }


async def test_what_is_usual_at_this_hour(gateway: Gateway) -> None:
    gateway.state.usual_rates["madre"] = UsualRates(PRESENT // HOUR * HOUR, 6, 60.5, 0.0314159, None)
    assert (await asked(gateway, "/vx11/history/madre"))["usual"] == {
        "hour": "2026-03-14T15:00:00Z",
        "days": 6,
        "probes": {"p95_ms": None},
        "requests": {"per_minute": 60.5, "p95_ms": 31.4},
    }
    assert (await asked(gateway, "/vx11/history/switch"))["usual"] is None


async def test_the_routes_stand_with_what_they_had_in_this_time_and_lately(gateway: Gateway) -> None:
    gateway.state.route_counts["madre"] = {"/b": RouteCount(3), "/a": RouteCount(3, 2), "/madre/health": RouteCount(3)}
    gateway.state.rates["madre"] = RecentRates(PRESENT, 5, routes={"/a": RouteCount(10, 5), "/other": RouteCount(9)})
    found = (await asked(gateway, "/vx11/history/madre"))["routes"]
    none = {"per_minute": 0.0, "failed_per_minute": 0.0}
    assert found == [
        {"route": "/a", "ok": 3, "failed": 2, "recent": {"per_minute": 3.0, "failed_per_minute": 1.0}},
        {"route": "/b", "ok": 3, "failed": 0, "recent": none},
        {"route": "/madre/health", "ok": 3, "failed": 0, "recent": none},
    ]


async def test_minutes_without_any_record_have_no_rates(gateway: Gateway) -> None:
    found = (await asked(gateway, "/vx11/history/madre"))["recent"]
    assert (found["minutes"], found["failed_share"], found["worst_minute"]) == (0, None, None)
    assert found["requests"] == {
        **dict.fromkeys(("per_minute", "failed_per_minute", "failed_share")),
        "latency_ms": {"p50": None, "p95": None, "p99": None},
    }


@pytest.mark.parametrize(
    ("query", "span", "periods"),
    [
        ("", HOUR, 24),
        ("?hours=1", MINUTE, 60),
        ("?hours=3", MINUTE, 180),
        ("?hours=4", HOUR, 4),
        ("?hours=744", HOUR, 744),
        ("?days=1", DAY, 1),
        ("?days=90", DAY, 90),
    ],
)
async def test_what_is_asked_of_the_store(gateway: Gateway, query: str, span: int, periods: int) -> None:
    await asked(gateway, f"/vx11/history/madre{query}")
    ((service, asked_span, since, until),) = gateway.state.asked_for_history
    assert (service, asked_span, until) == ("madre", span, PRESENT + 1)
    # The period under way is one of them.
    assert since % span == 0
    assert since + periods * span == PRESENT - PRESENT % span + span


async def test_an_alias_leads_to_its_service(gateway: Gateway) -> None:
    found = await asked(gateway, "/vx11/history/operator-backend")
    assert (found["service"], found["periods"]) == ("operator", [])
    assert found["probes"] == {
        "ok": 0,
        "failed": 0,
        "availability": None,
        "latency_ms": {"p50": None, "p95": None, "p99": None},
        "availability_by": "time",
        "seconds_available": None,
        "seconds_unavailable": None,
    }


@pytest.mark.parametrize(
    "query",
    [
        *("hours=0", "hours=745", "days=3661", "hours=-1", "hours=1.5", "hours=", "hours=x", "weeks=1", "=1"),
        *("hours=1&days=1", "hours=1&hours=2", "hours=%C2%B2", "hours=%D9%A3", "hours=99999999999999999999"),
    ],
)
async def test_a_query_that_is_none_is_told_what_may_be_asked(gateway: Gateway, query: str) -> None:
    found = await asked(gateway, f"/vx11/history/madre?{query}", 400)
    assert (found["error"], found["detail"]) == (
        "bad_request",
        "The query may be hours=1 to hours=744 or days=1 to days=3660.",
    )
    assert gateway.state.asked_for_history == []


async def test_a_lost_database_is_said(gateway: Gateway) -> None:
    gateway.state.lost = "The database file fleet.db is damaged."
    found = await asked(gateway, "/vx11/history/madre", 503)
    assert (found["error"], found["detail"]) == ("store_unavailable", "The database file fleet.db is damaged.")


async def test_it_asks_for_the_token_and_knows_its_services(gateway: Gateway) -> None:
    async with gateway.client.get("/vx11/history/madre") as answer:
        assert answer.status == 401
    await asked(gateway, "/vx11/history/nobody", 404)
    assert gateway.state.asked_for_history == []


LAST = 20_000 * 86400 + 15 * HOUR
_BAR = re.compile(r"M(\d+) (\d+)v(-?\d+)h(\d+)v(-?\d+)z")


def hour(ago: int, *, seconds: float | None = 0.01, failed: int = 0) -> Period:
    ok = 0 if seconds is None else 10
    latency = Histogram() if seconds is None else Histogram({bucket(seconds): ok})
    return Period("madre", HOUR, LAST - ago * HOUR, Tally(ok, failed, latency))


def drawn(*hours: Period) -> Chart:
    return day_chart({one.start: one for one in hours}, LAST, lambda period: period.probes)


def bars(path: str) -> list[tuple[int, int, int]]:
    """Left, base and height of each bar; the whole path is made of them."""
    found = [tuple(map(int, groups)) for groups in _BAR.findall(path)]
    assert "".join(f"M{x} {y}v{up}h{width}v{down}z" for x, y, up, width, down in found) == path
    assert all(up == -down and width > 0 for _, _, up, width, down in found)
    return [(x, y, up) for x, y, up, _, _ in found]


def test_an_hour_has_its_place_and_its_height() -> None:
    chart = drawn(hour(0, seconds=0.01), hour(23, seconds=0.04))
    first, last = bars(chart.bars)
    assert first == (0, HEIGHT, -HEIGHT)
    assert last == (WIDTH - WIDTH // 24, HEIGHT, -round(HEIGHT / 4))
    assert chart.faults == ""
    assert chart.text == "Slowest at 16:00 UTC: 95 % within 39 ms. No failures."


def test_what_failed_hangs_from_above() -> None:
    chart = drawn(hour(1, failed=10), hour(2, seconds=None, failed=3), hour(3))
    assert [(y, up) for _, y, up in bars(chart.faults)] == [(0, HEIGHT), (0, HEIGHT // 2)]
    assert len(bars(chart.bars)) == 2
    assert chart.text.endswith("Failures in 2 hours, last in that from 14:00 UTC.")
    assert drawn(hour(2, seconds=None, failed=3)).text == "Failures in the hour from 13:00 UTC."


def test_the_worse_of_probes_and_requests_is_what_failed() -> None:
    one = hour(0)
    one.requests = Tally(1, 3)
    assert bars(drawn(one).faults) == [(WIDTH - WIDTH // 24, 0, round(HEIGHT * 0.75))]


def test_a_single_failure_of_many_is_seen() -> None:
    one = hour(0)
    one.probes.ok, one.probes.failed = 1_000_000, 1
    ((_, _, height),) = bars(drawn(one).faults)
    assert height >= 3


def test_a_day_without_anything_is_an_empty_canvas() -> None:
    assert drawn() == Chart("", "", "")
    assert drawn(hour(24), hour(-1)) == Chart("", "", ""), "hours outside the day are not drawn"


@given(
    st.dictionaries(
        st.integers(0, 23), st.tuples(st.none() | st.floats(1e-7, 1e5), st.integers(0, 1_000_000)), max_size=24
    )
)
def test_nothing_is_drawn_outside_the_canvas(day: dict[int, tuple[float | None, int]]) -> None:
    chart = drawn(*(hour(ago, seconds=seconds, failed=failed) for ago, (seconds, failed) in day.items()))
    for x, y, up in bars(chart.bars) + bars(chart.faults):
        assert 0 <= x < WIDTH
        assert 0 <= y + up <= HEIGHT
        assert abs(up) >= 3
    assert len(bars(chart.bars)) == sum(seconds is not None for seconds, _ in day.values())
    assert len(bars(chart.faults)) == sum(failed > 0 for _, failed in day.values())


@pytest.mark.parametrize("path", ["bars", "faults"])
def test_what_is_drawn_stays_small(path: str) -> None:
    chart = drawn(*(hour(ago, failed=1) for ago in range(24)))
    assert len(getattr(chart, path)) < 600
