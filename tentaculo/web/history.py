"""The history of a service: as JSON at `/vx11/history/<service>`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from aiohttp import web

from tentaculo.model import access
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.history import DAY, HOUR, MINUTE, Period, RouteCount, Tally, uptime_share
from tentaculo.model.service_rates import RecentRates, UsualRates
from tentaculo.server.native_routes import NativeRoute, Slices, json_response, raw_json

_MOST = {"hours": 31 * 24, "days": 3660}
_MINUTES_UP_TO = 3
"""Hours that are shown minute by minute; more are shown hour by hour."""
_PARTS = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class ReadsHistory(Protocol):
    """The store's history. Raises `Problem` (STORE_UNAVAILABLE) when it cannot be read. Times are seconds since 1970."""

    def history(self, service: str, span: int, since: int, until: int) -> Awaitable[Sequence[Period]]:
        """Periods of `span` seconds that begin from `since` to before `until`, oldest first."""
        ...

    def routes(self, service: str, span: int, since: int, until: int) -> Awaitable[Mapping[str, RouteCount]]:
        """The requests in these periods, by the name of the route."""
        ...

    def recent(self, now: int, services: Sequence[str]) -> Awaitable[Mapping[str, RecentRates]]:
        """The recent rates of each of `services` at `now`."""
        ...


class UsualQuery(Protocol):
    """What is usual for the services at a time in seconds since 1970, by name. Raises `Problem` as `ReadsHistory` does."""

    def __call__(self, now: int, /) -> Awaitable[Mapping[str, UsualRates]]:
        """Of every service of which enough is known."""
        ...


def _encoded(periods: Iterable[Period], total: Period) -> Iterator[msgspec.Raw]:
    """Each of `periods` as JSON; adds it to `total`."""
    for period in periods:
        total.merge(period)
        yield raw_json({"start": _time(period.start), **_counts(period, [period])})


def routes(
    names: Mapping[str, str],
    source: ReadsHistory,
    usual: UsualQuery,
    now: Callable[[], datetime],
    slices: Slices,
) -> list[NativeRoute]:
    """`/vx11/history/<service>`: the sum, each period that has counts, the rates of the last minutes, and the routes.

    `names` maps each name and alias of a service to its name.
    """

    async def show(request: web.Request) -> web.Response:
        service = names.get(request.match_info["service"])
        if service is None:
            raise Problem(Failure.NOT_FOUND)
        span, count = _asked(request)
        moment = int(now().timestamp())
        since = moment - moment % span - (count - 1) * span
        periods = await source.history(service, span, since, moment + 1)
        routes = await source.routes(service, span, since, moment + 1)
        rates = (await source.recent(moment, [service]))[service]
        usual_now = (await usual(moment)).get(service)
        total = Period("", 0, 0)
        encoded = await slices.collect(_encoded(periods, total))
        return json_response(
            {
                "service": service,
                "span_seconds": span,
                "since": _time(since),
                "until": _time(moment),
                **_counts(total, periods),
                "recent": recent_shape(rates),
                "usual": None if usual_now is None else usual_shape(usual_now),
                "routes": _routes(routes, rates),
                "periods": encoded,
            }
        )

    return [NativeRoute("GET", "/vx11/history/{service}", show, access.STATUS, None)]


def _asked(request: web.Request) -> tuple[int, int]:
    """The span and the number of periods that the query asks for. Raises `Problem` (400)."""
    asked = request.query
    if not asked:
        return HOUR, 24
    unit, value = next(iter(asked.items()))
    most = _MOST.get(unit, 0)
    # Not isdigit() alone: it is true of ² and of digits of other scripts.
    if len(asked) > 1 or not (value.isascii() and value.isdigit() and len(value) <= 4 and 1 <= int(value) <= most):
        wanted = " or ".join(f"{name}=1 to {name}={limit}" for name, limit in _MOST.items())
        raise Problem(Failure.BAD_REQUEST, f"The query may be {wanted}.")
    count = int(value)
    if unit == "days":
        return DAY, count
    return (MINUTE, count * 60) if count <= _MINUTES_UP_TO else (HOUR, count)


def _counts(total: Period, periods: Sequence[Period]) -> dict[str, Any]:
    """The counts of `total`, which is the sum of `periods`, and their availability."""
    available, uptime = uptime_share(periods), total.uptime
    return {
        "probes": {
            **_tally(total.probes, available.share),
            "availability_by": "time" if available.by_time else "probes",
            "seconds_available": None if uptime is None else uptime.available / 1000,
            "seconds_unavailable": None if uptime is None else uptime.unavailable / 1000,
        },
        "requests": _tally(total.requests, total.requests.share_ok),
    }


def recent_shape(rates: RecentRates) -> dict[str, Any]:
    """The rates of the last minutes, and the worst minute of the last hour."""
    worst = rates.worst
    return {
        "since": _time(rates.since),
        "until": _time(rates.until),
        "minutes": rates.minutes,
        "failed_share": rates.failed_share,
        "probes": _rates(rates.probes, rates),
        "requests": _rates(rates.requests, rates),
        "worst_minute": None
        if worst is None
        else {
            "start": _time(worst.start),
            "failed_share": worst.failed_share,
            "failed": worst.failed,
            "counted": worst.counted,
        },
    }


def usual_shape(usual: UsualRates) -> dict[str, Any]:
    """What is usual at this hour."""
    return {
        "hour": _time(usual.hour),
        "days": usual.days,
        "probes": {"p95_ms": _milliseconds(usual.probes_p95)},
        "requests": {"per_minute": usual.requests_per_minute, "p95_ms": _milliseconds(usual.requests_p95)},
    }


def _routes(routes: Mapping[str, RouteCount], rates: RecentRates) -> list[dict[str, Any]]:
    """The routes that had requests, the busiest first."""
    shapes = []
    for name in sorted(routes, key=lambda name: (-routes[name].ok - routes[name].failed, name)):
        count, recent = routes[name], rates.routes.get(name, RouteCount())
        shapes.append(
            {
                "route": name,
                "ok": count.ok,
                "failed": count.failed,
                "recent": {
                    "per_minute": rates.per_minute(recent.ok + recent.failed),
                    "failed_per_minute": rates.per_minute(recent.failed),
                },
            }
        )
    return shapes


def _rates(tally: Tally, rates: RecentRates) -> dict[str, Any]:
    share_ok = tally.share_ok
    return {
        "per_minute": rates.per_minute(tally.ok + tally.failed),
        "failed_per_minute": rates.per_minute(tally.failed),
        "failed_share": None if share_ok is None else 1 - share_ok,
        "latency_ms": _percentiles(tally),
    }


def _tally(tally: Tally, share: float | None) -> dict[str, Any]:
    return {"ok": tally.ok, "failed": tally.failed, "availability": share, "latency_ms": _percentiles(tally)}


def _percentiles(tally: Tally) -> dict[str, float | None]:
    found = tally.latency.percentiles(*_PARTS.values())
    return {name: _milliseconds(seconds) for name, seconds in zip(_PARTS, found, strict=True)}


def _milliseconds(seconds: float | None) -> float | None:
    """Milliseconds, to three digits."""
    return None if seconds is None else float(f"{seconds * 1000:.3g}")


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
