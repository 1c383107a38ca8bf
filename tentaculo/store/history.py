"""History in the database: minutes are added to, hours and days are computed from them, and old rows are deleted.

Reading does not wait for the roll-up: what has not been computed yet is made of the finer rows as it is read. Every
part of the roll-up may be cut off, or done twice, without harm. A row is always computed from all the rows below it,
never added to. The rows that need it are found in the database itself: those that count less than the rows below
them. Rows below only ever gain, and are deleted long after they are counted, so a row that counts more is right.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    RowMapping,
    Select,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from tentaculo.config.storage import HistorySettings
from tentaculo.model.history import (
    DAY,
    HOUR,
    MINUTE,
    Histogram,
    HistorySummary,
    Period,
    Tally,
    Uptime,
    uptime_share,
)
from tentaculo.model.incident_past import FailedMinute
from tentaculo.store.events import Transaction
from tentaculo.store.tables import dialect_module, history

HistoryRow = Mapping[str, Any]

BELOW = {HOUR: MINUTE, DAY: HOUR}
"""The span whose rows make one of the key's."""
_KEY = ("service", "span", "start")
MOST_NAMED = 500
"""Services that the query for failed requests names; of more, the rows of all are read."""
_MOST = 2**53
"""No count is ever higher, and a thousand such counts still fit in their sum's 63 bits."""


def history_row(period: Period) -> HistoryRow:
    """The row of a period."""
    probes, requests = period.probes, period.requests
    return {
        "service": period.service,
        "span": period.span,
        "start": period.start,
        "probes_ok": probes.ok,
        "probes_failed": probes.failed,
        "probes_latency": probes.latency.encode(),
        "requests_ok": requests.ok,
        "requests_failed": requests.failed,
        "requests_latency": requests.latency.encode(),
        "available_ms": None if period.uptime is None else period.uptime.available,
        "unavailable_ms": None if period.uptime is None else period.uptime.unavailable,
    }


def add_history(connection: Connection, rows: Sequence[HistoryRow]) -> None:
    """Store the rows, or add them to those of the same minute: after a restart, or after the clock was set back.

    Raises `IntegrityError` where another process stored a first row of the same minute just now; then do it again.
    """
    added: dict[tuple[str, int, int], Period] = {}
    for row in rows:
        period = period_of(row)
        if (first := added.setdefault(_key(period), period)) is not period:
            first.merge(period)
    c = history.c
    known = (
        select(history)
        .where(
            c.span.in_({period.span for period in added.values()}),
            c.start.in_({period.start for period in added.values()}),
            c.service.in_({period.service for period in added.values()}),
        )
        # In one order for everybody, so that two processes cannot wait for each other's rows.
        .order_by(*history.primary_key.columns)
        .with_for_update()
    )
    changed = []
    for found in connection.execute(known).mappings().all():
        stored = period_of(found)
        if (more := added.pop(_key(stored), None)) is not None:
            stored.merge(more)
            changed.append({f"new_{name}": value for name, value in history_row(stored).items()})
    if added:
        connection.execute(insert(history), [history_row(period) for period in added.values()])
    if changed:
        statement = update(history).where(*(c[name] == bindparam(f"new_{name}") for name in _KEY))
        names = [name for name in c.keys() if name not in _KEY]  # noqa: SIM118 - a column collection
        connection.execute(statement.values({name: bindparam(f"new_{name}") for name in names}), changed)


def read_history(connection: Connection, span: int, since: int, until: int, services: Sequence[str]) -> list[Period]:
    """The periods of `services` that begin between `since` and `until`, by service and time.

    `since` is a multiple of `span`, and `until` (not included) no later than now. A period without any count
    is left out.
    """
    periods = {_key(period): period for period in rows_of(connection, span, since, until, services)}
    covered, above = set(periods), [span]
    while (below := BELOW.get(above[-1])) is not None:
        # The period under way has no row yet, and the one before it has none for a moment.
        tail = max(since, until - until % above[-1] - above[-1])
        for row in connection.execute(_rows(below, tail, until, services)).mappings():
            name, start = row["service"], row["start"]
            if not any((name, one, start - start % one) in covered for one in above):
                whole = (name, span, start - start % span)
                periods.setdefault(whole, Period(*whole)).merge(period_of(row))
                covered.add((name, below, start))
        above.append(below)
    return [periods[key] for key in sorted(periods)]


def rows_of(
    connection: Connection, span: int, since: int, until: int, services: Sequence[str] | None = None
) -> list[Period]:
    """The rows of one span as they are stored, of `services` or of all."""
    return [period_of(row) for row in connection.execute(_rows(span, since, until, services)).mappings()]


def _rows(span: int, since: int, until: int, services: Sequence[str] | None) -> Select[Any]:
    c = history.c
    query = select(history).where(c.span == span, c.start >= since, c.start < until)
    return query if services is None else query.where(c.service.in_(services))


def merged(service: str, span: int, start: int, parts: Iterable[Period]) -> Period:
    """One period that is the sum of `parts`."""
    whole = Period(service, span, start)
    for part in parts:
        whole.merge(part)
    return whole


def read_past(connection: Connection, now: int, services: Sequence[str]) -> dict[str, HistorySummary]:
    """The summary of each of `services` of which anything is known, by name."""
    today, hour = now - now % DAY, now - now % HOUR
    day = hour - 23 * HOUR
    # Days before yesterday and hours before the last 23 are surely computed.
    whole = _sums(connection, DAY, today - 89 * DAY, today - DAY, services)
    whole += _sums(connection, HOUR, today - DAY, day, services)
    whole += read_history(connection, HOUR, day, now + 1, services)
    known: dict[str, list[Period]] = {}
    for part in whole:
        known.setdefault(part.service, []).append(part)
    past = {}
    for service, parts in known.items():
        hours = tuple(part for part in parts if part.span == HOUR and part.start >= day)
        past[service] = HistorySummary(hours, uptime_share(parts), min(part.start for part in parts))
    return past


def read_failed(connection: Connection, since: int, until: int, services: Collection[str]) -> list[FailedMinute]:
    """The minutes that begin between `since` and `until` (not included) in which requests of `services` failed."""
    c = history.c
    query = select(c.service, c.start, c.requests_failed).where(
        c.span == MINUTE, c.start >= since, c.start < until, c.requests_failed > 0
    )
    if len(services) <= MOST_NAMED:
        query = query.where(c.service.in_(services))
    return [FailedMinute(service, start, failed) for service, start, failed in connection.execute(query)]


def _sums(connection: Connection, span: int, since: int, until: int, services: Sequence[str]) -> list[Period]:
    """The sums of the rows of one span: for each service one period of the rows with time, one of those without.

    A period spans as many seconds as its rows, and begins with the first of them.
    """
    c = history.c
    has_time = c.available_ms.is_not(None)
    summed = (c.probes_ok, c.probes_failed, c.available_ms, c.unavailable_ms)
    query = (
        select(c.service, func.min(c.start), func.count(), *(func.sum(column) for column in summed))
        .where(c.span == span, c.start >= since, c.start < until, c.service.in_(services))
        .group_by(c.service, has_time)
    )
    return [
        Period(
            service,
            span * rows,
            start,
            Tally(_count(int(ok)), _count(int(failed))),
            uptime=None if available is None else Uptime(_count(int(available)), _count(int(unavailable or 0))),
        )
        for service, start, rows, ok, failed, available, unavailable in connection.execute(query)
    ]


def period_of(row: RowMapping | HistoryRow) -> Period:
    """The period of a row."""
    return Period(
        row["service"],
        row["span"],
        row["start"],
        Tally(_count(row["probes_ok"]), _count(row["probes_failed"]), _histogram(row["probes_latency"])),
        Tally(_count(row["requests_ok"]), _count(row["requests_failed"]), _histogram(row["requests_latency"])),
        _uptime(row),
    )


# What another hand wrote there, or a later version, must not be in the way of what comes after it: it counts as none.


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value <= _MOST else 0


def _uptime(row: RowMapping | HistoryRow) -> Uptime | None:
    """The time of a row; None where an older version wrote it."""
    available, unavailable = row["available_ms"], row["unavailable_ms"]
    return None if available is None else Uptime(_count(available), _count(unavailable))


def _histogram(encoded: object) -> Histogram:
    try:
        return Histogram.decode(encoded) if isinstance(encoded, bytes) else Histogram()
    except ValueError:
        return Histogram()


def _key(period: Period) -> tuple[str, int, int]:
    return (period.service, period.span, period.start)


ROLL_UP = 16
"""Rows computed in one transaction."""
SWEEP = 500
"""Rows deleted in one transaction, and the rest of the last one's minute."""
LATELY = 3
"""How many ended hours, and days, are looked at unless all are."""


class Retention(msgspec.Struct, frozen=True):
    """For how many seconds the rows of each span are kept."""

    minutes: int
    hours: int
    days: int

    @classmethod
    def by(cls, kept: HistorySettings) -> Retention:
        """That of the configuration."""
        return cls(kept.hours_of_minutes * HOUR, kept.days_of_hours * DAY, kept.years_of_days * 365 * DAY)


class RollUpRequest(msgspec.Struct, frozen=True):
    """One request to bring history up to date."""

    now: int
    """Seconds since 1970."""
    kept: Retention | None
    """What is older goes; None deletes nothing, while the clock may be wrong."""


def roll_up_history(transaction: Transaction, tending: RollUpRequest, *, thorough: bool) -> Iterator[None]:
    """Do what `tending` asks, in short transactions; between two of them it yields, so that others come in.

    `thorough` looks at everything that is stored instead of the last few hours and days.
    """
    for span in (HOUR, DAY):
        until = tending.now - tending.now % span
        with transaction() as connection:
            stale = find_stale(connection, span, 0 if thorough else until - LATELY * span, until)
        yield
        for at in range(0, len(stale), ROLL_UP):
            with transaction() as connection:
                for service, start in stale[at : at + ROLL_UP]:
                    roll_up(connection, service, span, start)
            yield
    if tending.kept is not None:
        yield from sweep(transaction, history, tending.now, tending.kept)


def find_stale(connection: Connection, span: int, since: int, until: int) -> list[tuple[str, int]]:
    """Service and start of the rows of `span` that lack something of the rows below, or are not there yet.

    Both bounds are multiples of `span`: what is under way is left alone.
    """
    parts, whole = history.alias("parts"), history.alias("whole")
    # From the subtraction alone PostgreSQL could not tell that the two expressions are one, were `span` a parameter.
    begin = (parts.c.start - parts.c.start % span).label("begin")
    below = (
        select(parts.c.service, begin, func.sum(_total_count(parts.c)).label("counted"))
        .where(parts.c.span == BELOW[span], parts.c.start >= since, parts.c.start < until)
        .group_by(parts.c.service, "begin")
        .subquery("below")
    )
    query = (
        select(below.c.service, below.c.begin)
        .select_from(
            below.outerjoin(
                whole,
                (whole.c.service == below.c.service) & (whole.c.span == span) & (whole.c.start == below.c.begin),
            )
        )
        .where(or_(whole.c.service.is_(None), _total_count(whole.c) < below.c.counted))
        .order_by(below.c.begin, below.c.service)
    )
    return [(service, start) for service, start in connection.execute(query)]


def roll_up(connection: Connection, service: str, span: int, start: int) -> None:
    """Compute one row from those below it, in place of what may be there."""
    parts = rows_of(connection, BELOW[span], start, start + span, [service])
    connection.execute(_put(dialect_module(connection)), history_row(merged(service, span, start, parts)))


@functools.cache
def _put(dialect: Any) -> Executable:
    """The statement that stores a row in place of what may be there.

    Made once: each leaves 110 objects in cycles, which were most of what the garbage collector found with 1,000 services.
    """
    statement = dialect.insert(history)
    replaced = {one.name: statement.excluded[one.name] for one in history.columns if not one.primary_key}
    made: Executable = statement.on_conflict_do_update(index_elements=list(history.primary_key.columns), set_=replaced)
    return made


def sweep(transaction: Transaction, table: Table, now: int, kept: Retention) -> Iterator[None]:
    """Delete the rows of `table` that `kept` does not keep, in short transactions; after each of them it yields."""
    # By whole spans of the rows above, so that what is computed again from what is left is never a part of it.
    for span, seconds, above in ((MINUTE, kept.minutes, HOUR), (HOUR, kept.hours, DAY), (DAY, kept.days, DAY)):
        limit = now - seconds
        limit -= limit % above
        is_done = False
        while not is_done:
            with transaction() as connection:
                is_done = _delete_oldest(connection, table, span, limit)
            yield


def _delete_oldest(connection: Connection, table: Table, span: int, limit: int) -> bool:
    """Delete the oldest `SWEEP` rows that begin before `limit`; whether none is left."""
    c = table.c
    old = (c.span == span) & (c.start < limit)
    last = connection.scalar(select(c.start).where(old).order_by(c.start).offset(SWEEP - 1).limit(1))
    connection.execute(delete(table).where(old if last is None else old & (c.start <= last)))
    return last is None


def _total_count(c: ReadOnlyColumnCollection[str, Any]) -> ColumnElement[int]:
    """Everything that a row counts. Time is part of it: a minute may have time and no probe."""
    counts = (c.probes_ok, c.probes_failed, c.requests_ok, c.requests_failed)
    times = (func.coalesce(c.available_ms, 0), func.coalesce(c.unavailable_ms, 0))
    everything: ColumnElement[int] = sum((*counts, *times), literal(0))
    return everything
