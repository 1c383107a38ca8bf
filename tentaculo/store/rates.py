"""Queries of the recent and the usual rates of services."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from tentaculo.model.history import DAY, HOUR, MINUTE, Period, RouteCount
from tentaculo.model.service_rates import (
    RECENT,
    USUAL_DAYS,
    WORST_OF,
    RecentRates,
    UsualRates,
    WorstMinute,
    recent_end,
    usual_rates,
    worst_of,
)
from tentaculo.store.history import period_of, rows_of
from tentaculo.store.tables import history, route_history


def read_recent(connection: Connection, now: int, services: Sequence[str]) -> dict[str, RecentRates]:
    """The recent rates of each of `services` at `now`, seconds since 1970."""
    until = recent_end(now)
    minutes = _known_minutes(connection, until - RECENT, until)
    sums = {name: Period(name, RECENT, until - RECENT) for name in services}
    for period in rows_of(connection, MINUTE, until - RECENT, until, services):
        sums[period.service].merge(period)
    worst, routes = _worst_minutes(connection, until, services), _routes(connection, until, services)
    return {
        name: RecentRates(until, minutes, one.probes, one.requests, worst_of(worst.get(name, ())), routes.get(name, {}))
        for name, one in sums.items()
    }


def read_usual(connection: Connection, hour: int, services: Sequence[str]) -> dict[str, UsualRates]:
    """What is usual for each of `services` in the hour that begins at `hour`; those of which too little is known are left out."""
    c = history.c
    starts = [hour - day * DAY for day in range(1, USUAL_DAYS + 1)]
    query = select(history).where(c.span == HOUR, c.start.in_(starts), c.service.in_(services))
    hours: dict[str, list[Period]] = {}
    for row in connection.execute(query).mappings():
        hours.setdefault(row["service"], []).append(period_of(row))
    return {name: usual for name, found in hours.items() if (usual := usual_rates(hour, found)) is not None}


def _known_minutes(connection: Connection, since: int, until: int) -> int:
    """In how many minutes anything was recorded of any service: a service without requests has no row."""
    c = history.c
    query = select(func.count(c.start.distinct())).where(c.span == MINUTE, c.start >= since, c.start < until)
    return int(connection.scalar(query) or 0)


def _worst_minutes(connection: Connection, until: int, services: Sequence[str]) -> dict[str, list[WorstMinute]]:
    """The minutes of the last hour with failures, by service."""
    c = history.c
    failed = c.probes_failed + c.requests_failed
    query = select(c.service, c.start, failed, failed + c.probes_ok + c.requests_ok).where(
        c.span == MINUTE, c.start >= until - WORST_OF, c.start < until, c.service.in_(services), failed > 0
    )
    found: dict[str, list[WorstMinute]] = {}
    for service, start, bad, counted in connection.execute(query):
        found.setdefault(service, []).append(WorstMinute(start, bad, counted))
    return found


def _routes(connection: Connection, until: int, services: Sequence[str]) -> dict[str, dict[str, RouteCount]]:
    """The requests of the recent minutes, by service and route."""
    c = route_history.c
    query = (
        select(c.service, c.route, func.sum(c.requests_ok), func.sum(c.requests_failed))
        .where(c.span == MINUTE, c.start >= until - RECENT, c.start < until, c.service.in_(services))
        .group_by(c.service, c.route)
    )
    found: dict[str, dict[str, RouteCount]] = {}
    for service, route, ok, failed in connection.execute(query):
        found.setdefault(service, {})[route] = RouteCount(int(ok), int(failed))
    return found
