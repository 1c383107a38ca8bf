"""The past of a service: as JSON at `/vx11/history/<service>`, and as a row of the status page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from aiohttp import web

from tentaculo.errors import Failure, Problem
from tentaculo.model import DAY, HOUR, MINUTE, Past, Period, Tally
from tentaculo.web import charts, words

_MOST = {"hours": 31 * 24, "days": 3660}
_MINUTES_UP_TO = 3
"""Hours that are shown minute by minute; more are shown hour by hour."""
_PARTS = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Query(Protocol):
    """The store's history of one service. Raises `Problem` (STORE_UNAVAILABLE) when it cannot be read."""

    def __call__(self, service: str, span: int, since: int, until: int, /) -> Awaitable[Sequence[Period]]:
        """Periods of `span` seconds that begin from `since` to before `until`, seconds since 1970, oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class PastRow:
    """The past of one service, ready to be shown."""

    name: str
    day: str
    quarter: str
    since: str
    """Where less than the 90 days is known: since when it is."""
    p50: str
    p95: str
    of: str
    """Whose latencies they are."""
    chart: charts.Chart


def past_row(name: str, past: Past, now: datetime) -> PastRow:
    """`past` in words: the latencies are those of requests, and of probes where there were none."""
    total = _sum(past.hours)
    of, latency = ("requests", _requests) if total.requests.ok else ("probes", _probes)
    p50, p95 = latency(total).latency.percentiles(0.5, 0.95)
    last = int(now.timestamp()) // HOUR * HOUR
    return PastRow(
        name=words.cut(name, 80),
        day=words.share(total.probes.share_ok),
        quarter=words.share(past.quarter.share_ok),
        since=_since(past, now),
        p50=words.latency(p50),
        p95=words.latency(p95),
        of=of,
        chart=charts.day({hour.start: hour for hour in past.hours}, last, latency),
    )


def history_shape(service: str, span: int, since: int, now: int, periods: Sequence[Period]) -> dict[str, Any]:
    """`/vx11/history/<service>`: the whole, and each period in which anything was met."""
    return {
        "service": service,
        "span_seconds": span,
        "since": _time(since),
        "until": _time(now),
        **_met(_sum(periods)),
        "periods": [{"start": _time(period.start), **_met(period)} for period in periods],
    }


def routes(names: Mapping[str, str], query: Query, now: Callable[[], datetime]) -> list[web.RouteDef]:
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


def _met(period: Period) -> dict[str, Any]:
    return {"probes": _tally(period.probes), "requests": _tally(period.requests)}


def _tally(tally: Tally) -> dict[str, Any]:
    found = tally.latency.percentiles(*_PARTS.values())
    return {
        "ok": tally.ok,
        "failed": tally.failed,
        "availability": tally.share_ok,
        "latency_ms": {
            name: None if seconds is None else float(f"{seconds * 1000:.3g}")
            for name, seconds in zip(_PARTS, found, strict=True)
        },
    }


def _since(past: Past, now: datetime) -> str:
    if past.since is None or now.timestamp() - past.since >= 89 * DAY:
        return ""
    return f"since {words.at(_time(past.since), now)}"


def _sum(periods: Sequence[Period]) -> Period:
    total = Period("", 0, 0)
    for period in periods:
        total.merge(period)
    return total


def _probes(period: Period) -> Tally:
    return period.probes


def _requests(period: Period) -> Tally:
    return period.requests


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
