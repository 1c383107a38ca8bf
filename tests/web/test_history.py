"""`/vx11/history`."""

from __future__ import annotations

from typing import Any

import pytest

from tentaculo.model.history import DAY, HOUR, MINUTE, Histogram, RouteCount, Tally, bucket
from tentaculo.model.service_rates import RecentRates, UsualRates, WorstMinute
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
