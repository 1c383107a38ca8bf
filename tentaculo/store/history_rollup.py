"""The upkeep of history: hours are computed from their minutes and days from their hours, and what is too old goes.

Every piece of it may be cut off, or done twice, without harm. A row is always computed anew from all the rows below
it, never added to; which rows need it is seen in the database itself: those that count less than the rows below them.
Rows below only ever gain, and are deleted long after they are counted, so a row that counts more is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, literal, or_, select
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from tentaculo.model.history import DAY, HOUR, MINUTE
from tentaculo.store.history import BELOW, history_row, merged, rows_of
from tentaculo.store.sql_values import dialect_module
from tentaculo.store.tables import history

ROLL_UP = 16
"""Rows computed in one transaction."""
SWEEP = 500
"""Rows deleted in one transaction, and the rest of the last one's minute."""
_LATELY = 3
"""How many ended hours, and days, are looked at unless all are."""

Transaction = Callable[[], AbstractContextManager[Connection]]


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many seconds the rows of each span are kept."""

    minutes: int
    hours: int
    days: int


@dataclass(frozen=True, slots=True)
class RollUpRequest:
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
            stale = find_stale(connection, span, 0 if thorough else until - _LATELY * span, until)
        yield
        for at in range(0, len(stale), ROLL_UP):
            with transaction() as connection:
                for service, start in stale[at : at + ROLL_UP]:
                    roll_up(connection, service, span, start)
            yield
    if tending.kept is not None:
        yield from _sweep(transaction, tending.now, tending.kept)


def find_stale(connection: Connection, span: int, since: int, until: int) -> list[tuple[str, int]]:
    """Service and start of the rows of `span` that lack something of the rows below, or are not there yet.

    Both bounds are multiples of `span`: what is under way is left alone.
    """
    parts, whole = history.alias("parts"), history.alias("whole")
    # From the subtraction alone PostgreSQL could not tell that the two expressions are one, were `span` a parameter.
    begin = (parts.c.start - parts.c.start % span).label("begin")
    below = (
        select(parts.c.service, begin, func.sum(_met(parts.c)).label("met"))
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
        .where(or_(whole.c.service.is_(None), _met(whole.c) < below.c.met))
        .order_by(below.c.begin, below.c.service)
    )
    return [(service, start) for service, start in connection.execute(query)]


def roll_up(connection: Connection, service: str, span: int, start: int) -> None:
    """Compute one row from those below it, in place of what may be there."""
    parts = rows_of(connection, BELOW[span], start, start + span, [service])
    row = history_row(merged(service, span, start, parts))
    statement = dialect_module(connection).insert(history)
    replaced = {name: statement.excluded[name] for name in row if name not in history.primary_key.columns}
    connection.execute(
        statement.on_conflict_do_update(index_elements=list(history.primary_key.columns), set_=replaced), row
    )


def _sweep(transaction: Transaction, now: int, kept: Retention) -> Iterator[None]:
    # By whole spans of the rows above, so that what is computed again from what is left is never a part of it.
    for span, seconds, above in ((MINUTE, kept.minutes, HOUR), (HOUR, kept.hours, DAY), (DAY, kept.days, DAY)):
        limit = now - seconds
        limit -= limit % above
        is_done = False
        while not is_done:
            with transaction() as connection:
                is_done = _delete_oldest(connection, span, limit)
            yield


def _delete_oldest(connection: Connection, span: int, limit: int) -> bool:
    """Delete the oldest `SWEEP` rows that begin before `limit`; whether none is left."""
    c = history.c
    old = (c.span == span) & (c.start < limit)
    last = connection.scalar(select(c.start).where(old).order_by(c.start).offset(SWEEP - 1).limit(1))
    connection.execute(delete(history).where(old if last is None else old & (c.start <= last)))
    return last is None


def _met(c: ReadOnlyColumnCollection[str, Any]) -> ColumnElement[int]:
    """Everything that a row counts. Time is part of it: a minute may have time and no probe."""
    counts = (c.probes_ok, c.probes_failed, c.requests_ok, c.requests_failed)
    times = (func.coalesce(c.available_ms, 0), func.coalesce(c.unavailable_ms, 0))
    everything: ColumnElement[int] = sum((*counts, *times), literal(0))
    return everything
