"""The requests of each route in the database: added to by the minute, computed by the hour and day, and deleted.

It has the spans, the bounds and the rules of `history`: a row is computed from all the rows below it, never added to,
and a row that counts more than those below it is right. It has no latencies, so that the database computes the sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Connection, func, literal, or_, select

from tentaculo.model.history import DAY, HOUR, Period, RouteCount
from tentaculo.store.events import Transaction
from tentaculo.store.history import BELOW, LATELY, HistoryRow, RollUpRequest, sweep
from tentaculo.store.tables import dialect_module, route_history, storable

MOST_READ = 500
"""Routes of one service that are read, those with the most requests."""
_KEY = list(route_history.primary_key.columns)
_C = route_history.c
_COUNTED = _C.requests_ok + _C.requests_failed


def route_rows(period: Period) -> list[HistoryRow]:
    """The rows of the routes of a period."""
    return [
        {
            "service": period.service,
            "route": storable(route),
            "span": period.span,
            "start": period.start,
            "requests_ok": count.ok,
            "requests_failed": count.failed,
        }
        for route, count in period.routes.items()
    ]


def add_routes(connection: Connection, rows: Iterable[HistoryRow]) -> None:
    """Store the rows, or add them to those of the same minute."""
    # In one order for everybody, so that two processes cannot wait for each other's rows.
    ordered = sorted(rows, key=lambda row: tuple(row[column.name] for column in _KEY))
    if not ordered:
        return
    statement = dialect_module(connection).insert(route_history)
    sums = {column.name: column + statement.excluded[column.name] for column in (_C.requests_ok, _C.requests_failed)}
    connection.execute(statement.on_conflict_do_update(index_elements=_KEY, set_=sums), ordered)


def read_routes(connection: Connection, service: str, span: int, since: int, until: int) -> dict[str, RouteCount]:
    """The requests of each route of `service` in the periods that begin between `since` and `until`.

    `since` is a multiple of `span`, and `until` (not included) no later than now. Of more than `MOST_READ` routes those
    with the most requests in complete periods are read.
    """
    # The period under way has no row yet, and the one before it has none for a moment: both are made of finer rows.
    tail = max(since, until - until % span - span) if span in BELOW else until
    ok, failed = func.sum(_C.requests_ok), func.sum(_C.requests_failed)
    query = (
        select(_C.route, ok, failed)
        .where(_C.service == service, _C.span == span, _C.start >= since, _C.start < tail)
        .group_by(_C.route)
        .order_by((ok + failed).desc())
        .limit(MOST_READ)
    )
    found = {route: RouteCount(int(good), int(bad)) for route, good, bad in connection.execute(query)}
    if tail < until:
        _add_tail(connection, service, span, tail, until, found)
    return found


def _add_tail(
    connection: Connection, service: str, span: int, since: int, until: int, found: dict[str, RouteCount]
) -> None:
    """Add the periods between `since` and `until` to `found`: each of them once, from the coarsest row that has it."""
    covered: set[tuple[str, int, int]] = set()
    above: list[int] = []
    while True:
        query = select(_C.route, _C.start, _C.requests_ok, _C.requests_failed).where(
            _C.service == service, _C.span == span, _C.start >= since, _C.start < until
        )
        for route, start, ok, failed in connection.execute(query):
            if any((route, one, start - start % one) in covered for one in above):
                continue
            covered.add((route, span, start))
            if route in found or len(found) < MOST_READ:
                found.setdefault(route, RouteCount()).merge(RouteCount(ok, failed))
        if span not in BELOW:
            return
        above.append(span)
        since = max(since, until - until % span - span)
        span = BELOW[span]


def roll_up_routes(transaction: Transaction, request: RollUpRequest, *, thorough: bool) -> Iterator[None]:
    """As `roll_up_history` does for services: short transactions, and after each of them it yields."""
    for span in (HOUR, DAY):
        until = request.now - request.now % span
        with transaction() as connection:
            stale = _find_stale(connection, span, 0 if thorough else until - LATELY * span, until)
        yield
        for start in stale:
            with transaction() as connection:
                _roll_up(connection, span, start)
            yield
    if request.kept is not None:
        yield from sweep(transaction, route_history, request.now, request.kept)


def _find_stale(connection: Connection, span: int, since: int, until: int) -> Sequence[int]:
    """The starts of the periods whose rows lack something of the rows below, or are not there yet."""
    begin = (_C.start - _C.start % span).label("begin")
    inside = (_C.start >= since, _C.start < until)
    below = (
        select(begin, func.sum(_COUNTED).label("counted"))
        .where(_C.span == BELOW[span], *inside)
        .group_by("begin")
        .subquery("below")
    )
    whole = (
        select(_C.start, func.sum(_COUNTED).label("counted"))
        .where(_C.span == span, *inside)
        .group_by(_C.start)
        .subquery("whole")
    )
    query = (
        select(below.c.begin)
        .select_from(below.outerjoin(whole, whole.c.start == below.c.begin))
        .where(or_(whole.c.start.is_(None), whole.c.counted < below.c.counted))
        .order_by(below.c.begin)
    )
    return connection.scalars(query).all()


def _roll_up(connection: Connection, span: int, start: int) -> None:
    """Compute the rows of one period from those below it, in place of what may be there."""
    sums = (
        select(
            *(_C.service, _C.route, literal(span), literal(start)),
            *(func.sum(_C.requests_ok), func.sum(_C.requests_failed)),
        )
        .where(_C.span == BELOW[span], _C.start >= start, _C.start < start + span)
        .group_by(_C.service, _C.route)
    )
    statement = dialect_module(connection).insert(route_history).from_select([column.name for column in _C], sums)
    replaced = {name: statement.excluded[name] for name in ("requests_ok", "requests_failed")}
    connection.execute(statement.on_conflict_do_update(index_elements=_KEY, set_=replaced))
