"""Queries of early warnings, and of the latencies and gauges that they are made of, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from tentaculo.model.early_warning import BinLatency, EarlyWarning, GaugeValue
from tentaculo.model.history import HOUR, MINUTE, Histogram, Period
from tentaculo.store.history import merged, rows_of
from tentaculo.store.tables import aware_utc, dialect_module, early_warnings, gauges, naive_utc

_C = early_warnings.c
_TIMES = ("opened_at", "since", "expected_at", "earliest_at", "latest_at", "ended_at")
_WATCHED = 0.5
"""Part of a period in which a service must have been watched: neither off nor in maintenance."""
_ROWS = 100
"""Values that one statement stores."""

Latencies = dict[int, tuple[BinLatency | None, BinLatency | None]]
"""By the start of a period in seconds since 1970: the latencies of requests and of probes, None where there are none."""
Gauges = dict[str, dict[int, float]]
"""The values of the gauges of a service, by signal and by the start of the bin in seconds since 1970."""


def save_gauges(connection: Connection, values: Sequence[GaugeValue], forget_before: int) -> None:
    """Store values, in place of those of the same bin, and remove those of bins before a time in seconds since 1970."""
    for place in range(0, len(values), _ROWS):
        rows = [one._asdict() for one in sorted(values[place : place + _ROWS])]
        statement = dialect_module(connection).insert(gauges).values(rows)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=list(gauges.primary_key.columns), set_={"value": statement.excluded.value}
            )
        )
    connection.execute(delete(gauges).where(gauges.c.start < forget_before))


def read_gauges(connection: Connection, services: Sequence[str], *, since: int, until: int) -> dict[str, Gauges]:
    """The values from `since` to before `until`, by service, signal and start of the bin."""
    c = gauges.c
    query = select(gauges).where(c.service.in_(services), c.start >= since, c.start < until)
    found: dict[str, Gauges] = {name: {} for name in services}
    for row in connection.execute(query.order_by(c.start)).mappings():
        found[row["service"]].setdefault(row["signal"], {})[row["start"]] = row["value"]
    return found


def save(connection: Connection, changed: Sequence[EarlyWarning]) -> None:
    """Bring the rows of `changed` up to date."""
    for warning in sorted(changed, key=lambda one: (one.service, one.signal, one.opened_at)):
        values = _row(warning)
        is_it = (
            (_C.service == warning.service)
            & (_C.signal == warning.signal)
            & (_C.opened_at == naive_utc(warning.opened_at))
        )
        if not connection.execute(update(early_warnings).where(is_it).values(values)).rowcount:
            connection.execute(insert(early_warnings).values(values))


def read(
    connection: Connection, *, since: datetime, services: Sequence[str] | None = None, limit: int
) -> list[EarlyWarning]:
    """The newest `limit` warnings that opened after `since`, and all that are open, the newest first."""
    query = select(early_warnings).where((_C.opened_at > naive_utc(since)) | (_C.outcome == "open"))
    if services is not None:
        query = query.where(_C.service.in_(services))
    return _found(connection, query.order_by(_C.opened_at.desc(), _C.service, _C.signal).limit(limit))


def read_open(connection: Connection, *, limit: int) -> list[EarlyWarning]:
    """The newest `limit` open warnings, the newest first."""
    query = select(early_warnings).where(_C.outcome == "open")
    return _found(connection, query.order_by(_C.opened_at.desc(), _C.service, _C.signal).limit(limit))


def forget(connection: Connection, before: datetime) -> None:
    """Remove the warnings that ended before a time."""
    connection.execute(delete(early_warnings).where(_C.ended_at < naive_utc(before)))


def read_latencies(
    connection: Connection, services: Sequence[str], *, span: int, since: int, until: int
) -> dict[str, Latencies]:
    """The latencies of `services` in periods of `span` seconds from `since` to before `until`, by service.

    `span` divides an hour, or is one: then the rows of hours are read, else those of minutes.
    """
    below = HOUR if span == HOUR else MINUTE
    rows: dict[tuple[str, int], list[Period]] = {}
    for row in rows_of(connection, below, since, until, services):
        rows.setdefault((row.service, row.start - row.start % span), []).append(row)
    found: dict[str, Latencies] = {name: {} for name in services}
    for (name, start), parts in rows.items():
        whole = merged(name, span, start, parts)
        if whole.uptime is None or whole.uptime.available + whole.uptime.unavailable >= _WATCHED * span * 1000:
            found[name][start] = (_latency(whole.requests.latency), _latency(whole.probes.latency))
    return found


def _latency(histogram: Histogram) -> BinLatency | None:
    median, p95 = histogram.percentiles(0.5, 0.95)
    return None if median is None or p95 is None else BinLatency(histogram.count, median, p95)


def _found(connection: Connection, query: Any) -> list[EarlyWarning]:
    return [_warning(row) for row in connection.execute(query).mappings()]


def _row(warning: EarlyWarning) -> dict[str, Any]:
    values = asdict(warning)
    values["limit_value"] = values.pop("limit")
    return values | {name: None if values[name] is None else naive_utc(values[name]) for name in _TIMES}


def _warning(row: RowMapping) -> EarlyWarning:
    values = dict(row)
    values["limit"] = values.pop("limit_value")
    return EarlyWarning(**values | {name: None if values[name] is None else aware_utc(values[name]) for name in _TIMES})
