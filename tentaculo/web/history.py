"""The past of a service: as JSON at `/vx11/history/<service>`, and as a row of the status page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from aiohttp import web

from tentaculo.model.failure import Failure, Problem
from tentaculo.model.history import DAY, HOUR, MINUTE, HistorySummary, Period, Tally, availability
from tentaculo.model.text import format_time

_MOST = {"hours": 31 * 24, "days": 3660}
_MINUTES_UP_TO = 3
"""Hours that are shown minute by minute; more are shown hour by hour."""
_PARTS = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class HistoryQuery(Protocol):
    """The store's history of one service. Raises `Problem` (STORE_UNAVAILABLE) when it cannot be read."""

    def __call__(self, service: str, span: int, since: int, until: int, /) -> Awaitable[Sequence[Period]]:
        """Periods of `span` seconds that begin from `since` to before `until`, seconds since 1970, oldest first."""
        ...


def history_shape(service: str, span: int, since: int, now: int, periods: Sequence[Period]) -> dict[str, Any]:
    """`/vx11/history/<service>`: the whole, and each period in which anything was met."""
    return {
        "service": service,
        "span_seconds": span,
        "since": _time(since),
        "until": _time(now),
        **_met(total_of(periods), periods),
        "periods": [{"start": _time(period.start), **_met(period, [period])} for period in periods],
    }


def routes(names: Mapping[str, str], query: HistoryQuery, now: Callable[[], datetime]) -> list[web.RouteDef]:
    """A route for each of `names`: a service's own and its aliases, to its own."""

    def handler(service: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def show(request: web.Request) -> web.Response:
            span, count = _asked(request)
            moment = int(now().timestamp())
            since = moment - moment % span - (count - 1) * span
            periods = await query(service, span, since, moment + 1)
            shape = history_shape(service, span, since, moment, periods)
            return web.Response(body=msgspec.json.encode(shape), content_type="application/json")

        return show

    return [web.get(f"/vx11/history/{name}", handler(service)) for name, service in names.items()]


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


def _met(total: Period, periods: Sequence[Period]) -> dict[str, Any]:
    """The counts of `total`, which is the sum of `periods`, and their availability."""
    available, uptime = availability(periods), total.uptime
    return {
        "probes": {
            **_tally(total.probes, available.share),
            "availability_by": "time" if available.by_time else "probes",
            "seconds_available": None if uptime is None else uptime.available / 1000,
            "seconds_unavailable": None if uptime is None else uptime.unavailable / 1000,
        },
        "requests": _tally(total.requests, total.requests.share_ok),
    }


def _tally(tally: Tally, share: float | None) -> dict[str, Any]:
    found = tally.latency.percentiles(*_PARTS.values())
    return {
        "ok": tally.ok,
        "failed": tally.failed,
        "availability": share,
        "latency_ms": {
            name: None if seconds is None else float(f"{seconds * 1000:.3g}")
            for name, seconds in zip(_PARTS, found, strict=True)
        },
    }


def known_since(past: HistorySummary, now: datetime) -> str:
    """The date since which history is known, empty where that is the whole quarter."""
    if past.since is None or now.timestamp() - past.since >= 89 * DAY:
        return ""
    return f"since {format_time(_time(past.since), now)}"


def total_of(periods: Sequence[Period]) -> Period:
    """The sum of all periods."""
    total = Period("", 0, 0)
    for period in periods:
        total.merge(period)
    return total


def probe_tally(period: Period) -> Tally:
    """What probes found in a period."""
    return period.probes


def request_tally(period: Period) -> Tally:
    """What requests found in a period."""
    return period.requests


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
