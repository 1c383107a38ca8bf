"""The requests of each route on a database of each kind: added to, summed up, read at every span, and deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, func, select

from tentaculo.model.history import DAY, HOUR, MINUTE, Histogram, Period, RouteCount, Tally
from tentaculo.store.client import StoreClient
from tentaculo.store.history import Retention, RollUpRequest
from tentaculo.store.route_history import MOST_READ, add_routes, read_routes, roll_up_routes, route_rows
from tentaculo.store.tables import route_history
from tests.support.runtime_tables import opened
from tests.support.waits import eventually

TODAY = 20_000 * DAY
Transaction = Callable[[], AbstractContextManager[Connection]]


def minute(start: int, service: str = "madre", **routes: tuple[int, int]) -> Period:
    counts = {f"/{name}": RouteCount(*count) for name, count in routes.items()}
    ok = sum(count.ok for count in counts.values())
    requests = Tally(ok, sum(count.failed for count in counts.values()), Histogram({9: ok} if ok else None))
    return Period(service, MINUTE, start, requests=requests, routes=counts)


@pytest.fixture
def transaction(url: str) -> Transaction:
    return lambda: opened(url)


def store(transaction: Transaction, periods: Iterable[Period]) -> None:
    with transaction() as connection:
        add_routes(connection, [row for one in periods for row in route_rows(one)])


def roll_up(transaction: Transaction, now: int, kept: Retention | None = None, *, thorough: bool = True) -> int:
    return sum(1 for _ in roll_up_routes(transaction, RollUpRequest(now, kept), thorough=thorough))


def spans(transaction: Transaction) -> dict[int, tuple[int, int]]:
    """How many rows there are of each span, and how many requests they count."""
    c = route_history.c
    query = select(c.span, func.count(), func.sum(c.requests_ok + c.requests_failed)).group_by(c.span)
    with transaction() as connection:
        return {span: (rows, int(counted)) for span, rows, counted in connection.execute(query)}


def read(transaction: Transaction, span: int, since: int, until: int, service: str = "madre") -> dict[str, RouteCount]:
    with transaction() as connection:
        return read_routes(connection, service, span, since, until)


def test_what_comes_later_in_the_same_minute_is_added(transaction: Transaction) -> None:
    store(transaction, [minute(TODAY, a=(3, 1), b=(1, 0)), minute(TODAY, "mcp", a=(7, 0))])
    # After the clock was set back both can be in one batch.
    store(transaction, [minute(TODAY, a=(2, 0)), minute(TODAY, a=(0, 4)), minute(TODAY + MINUTE, b=(1, 1))])
    assert read(transaction, MINUTE, TODAY, TODAY + HOUR) == {"/a": RouteCount(5, 5), "/b": RouteCount(2, 1)}
    assert read(transaction, MINUTE, TODAY, TODAY + MINUTE) == {"/a": RouteCount(5, 5), "/b": RouteCount(1, 0)}
    assert read(transaction, MINUTE, TODAY, TODAY + HOUR, "mcp") == {"/a": RouteCount(7, 0)}
    store(transaction, [])


def test_every_span_gives_the_same_sums_before_and_after_the_roll_up(transaction: Transaction) -> None:
    now = TODAY + 5 * HOUR + 20 * MINUTE
    random = Random(7)
    parts = [
        minute(start, service, **{name: (random.randrange(9), random.randrange(2)) for name in "abc"})
        for start in range(TODAY - 31 * HOUR, now, 10 * MINUTE)
        for service in ("madre", "mcp")
    ]
    store(transaction, parts)

    def expected(since: int) -> dict[str, RouteCount]:
        sums: dict[str, RouteCount] = {}
        for part in parts:
            if part.service == "madre" and part.start >= since:
                for route, count in part.routes.items():
                    sums.setdefault(route, RouteCount()).merge(count)
        return sums

    hour, day = now - now % HOUR, TODAY - DAY
    # What has not been computed yet is made of the minutes.
    assert read(transaction, HOUR, hour - HOUR, now) == expected(hour - HOUR)
    roll_up(transaction, now)
    for span, since in ((MINUTE, day), (HOUR, day), (HOUR, hour), (DAY, day), (DAY, TODAY)):
        assert read(transaction, span, since, now) == expected(since), (span, since)
    assert spans(transaction)[HOUR][1] == sum(
        count.ok + count.failed for part in parts for count in part.routes.values() if part.start < hour
    )


def test_what_came_late_is_computed_again_and_the_rest_is_not(transaction: Transaction) -> None:
    now = TODAY + 3 * HOUR
    store(transaction, [minute(TODAY + number * HOUR, a=(1, 0)) for number in range(3)])
    assert roll_up(transaction, now) == 2 + 3, "one look at each span, and three hours"
    assert roll_up(transaction, now) == 2, "nothing is left to do"
    store(transaction, [minute(TODAY + HOUR, a=(0, 2)), minute(TODAY + HOUR, b=(1, 0))])
    assert roll_up(transaction, now, thorough=False) == 2 + 1
    assert read(transaction, HOUR, TODAY, now + DAY) == {"/a": RouteCount(3, 2), "/b": RouteCount(1)}


def test_a_roll_up_that_is_cut_off_anywhere_ends_well_the_next_time(transaction: Transaction) -> None:
    store(transaction, [minute(TODAY + number * HOUR, a=(number, 1)) for number in range(24)])
    for most in (1, 3, 9):
        for _ in islice(roll_up_routes(transaction, RollUpRequest(TODAY + DAY, None), thorough=True), most):
            pass
    roll_up(transaction, TODAY + DAY)
    whole = sum(range(24)) + 24
    assert spans(transaction) == {MINUTE: (24, whole), HOUR: (24, whole), DAY: (1, whole)}


@pytest.mark.thorough
def test_each_span_is_kept_as_long_as_history_is(transaction: Transaction) -> None:
    now = TODAY + 10 * DAY + 30
    store(transaction, [minute(now - now % HOUR - number * HOUR, a=(1, 0)) for number in range(1, 9 * 24)])
    roll_up(transaction, now, None)
    assert spans(transaction)[MINUTE] == spans(transaction)[HOUR]
    roll_up(transaction, now, Retention(minutes=2 * DAY, hours=5 * DAY, days=7 * DAY))
    found = spans(transaction)
    assert (found[MINUTE][0], found[HOUR][0]) == (48, 5 * 24)
    assert found[DAY] == (7, 7 * 24)
    assert read(transaction, DAY, TODAY, now) == {"/a": RouteCount(7 * 24)}


def test_of_very_many_routes_the_busiest_are_read(transaction: Transaction) -> None:
    busy = minute(TODAY)
    busy.routes = {f"/{number}": RouteCount(number + 1) for number in range(MOST_READ + 20)}
    store(transaction, [busy])
    found = read(transaction, MINUTE, TODAY, TODAY + HOUR)
    assert len(found) == MOST_READ
    assert min(count.ok for count in found.values()) == 21
    assert len(read(transaction, HOUR, TODAY, TODAY + MINUTE)) == MOST_READ


@contextmanager
def failing_once(part: str) -> Iterator[list[str]]:
    """Raises an error in place of the first statement that has `part`, as a lost connection does."""
    failed: list[str] = []

    def fail(_c: object, _cursor: object, statement: str, _p: Any, _x: object, _many: bool) -> None:
        if part in statement and not failed:
            failed.append(statement)
            raise OSError("gone")

    event.listen(Engine, "before_cursor_execute", fail)
    try:
        yield failed
    finally:
        event.remove(Engine, "before_cursor_execute", fail)


async def test_routes_and_their_service_are_stored_together_or_not_at_all(
    url: str, store_client_on: Callable[..., StoreClient]
) -> None:
    kept = store_client_on(url)
    await kept.start()
    with failing_once("INSERT INTO tentaculo_route_history") as failed:
        kept.record_history([minute(TODAY, a=(2, 1)), minute(TODAY, "mcp", b=(1, 0))])
        await eventually(lambda: spans(lambda: opened(url)) == {MINUTE: (2, 4)})
        await eventually(lambda: kept.problem is None)
    assert failed
    (period,) = await kept.history("madre", MINUTE, TODAY, TODAY + HOUR)
    assert (period.requests.ok, period.requests.failed) == (2, 1), "stored again, and once"
    assert await kept.routes("madre", MINUTE, TODAY, TODAY + HOUR) == {"/a": RouteCount(2, 1)}
    kept.roll_up_history(TODAY + HOUR, None)
    await eventually(lambda: spans(lambda: opened(url)).get(HOUR) == (2, 4))
    assert kept.dropped == 0
