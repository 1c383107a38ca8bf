"""History on a database of each kind: added to, summed up, read at every span, and swept."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import StaticPool

from tentaculo.model.history import DAY, HOUR, MINUTE, Histogram, Period, Tally, Uptime, UptimeShare
from tentaculo.model.incident_past import FailedMinute
from tentaculo.store import history, tables
from tentaculo.store.history import (
    Retention,
    RollUpRequest,
    add_history,
    find_stale,
    history_row,
    read_history,
    read_past,
    roll_up,
    roll_up_history,
)
from tests.support.runtime_tables import opened

TODAY = 20_000 * DAY  # 2024-10-04
BOTH = ("madre", "mcp")
Transaction = Callable[[], AbstractContextManager[Connection]]


def period(start: int, service: str = "madre", span: int = MINUTE, **counts: int) -> Period:
    """A period with `counts` of ok and failed; the latencies of the first differ from minute to minute."""
    tallies = []
    for what in ("probes", "requests"):
        ok, failed = counts.get(f"{what}_ok", 0), counts.get(f"{what}_failed", 0)
        tallies.append(Tally(ok, failed, Histogram({150 + start // MINUTE % 97: ok}) if ok else Histogram()))
    time = None
    if "available" in counts:
        time = Uptime(counts["available"], counts["unavailable"])
    return Period(service, span, start, tallies[0], tallies[1], time)


def total(parts: Iterable[Period], span: int) -> list[Period]:
    """What `parts` make at `span`, by the plainest of ways."""
    whole: dict[tuple[str, int], Period] = {}
    for part in parts:
        start = part.start - part.start % span
        whole.setdefault((part.service, start), Period(part.service, span, start)).merge(part)
    return [whole[key] for key in sorted(whole)]


def exhaust(steps: Iterator[None], most: int | None = None) -> int:
    """Do `most` pieces, or all, and then cut it off; how many were done."""
    done = 0
    while done != most:
        try:
            next(steps)
        except StopIteration:
            break
        done += 1
    return done


@pytest.fixture
def transaction(url: str) -> Transaction:
    return lambda: opened(url)


def store(transaction: Transaction, periods: Iterable[Period]) -> None:
    with transaction() as connection:
        add_history(connection, [history_row(one) for one in periods])


def test_what_is_met_later_in_the_same_minute_is_added(transaction: Transaction) -> None:
    first = period(TODAY, probes_ok=3, probes_failed=1, requests_ok=5)
    store(transaction, [first, period(TODAY, "mcp", probes_ok=1)])
    store(transaction, [period(TODAY, probes_ok=2, requests_failed=4), period(TODAY + MINUTE, probes_failed=1)])
    # After the clock was set back both can be in one batch.
    store(transaction, [period(TODAY, "mcp", probes_ok=1), period(TODAY, "mcp", probes_failed=1)])
    with transaction() as connection:
        found = read_history(connection, MINUTE, TODAY, TODAY + HOUR, BOTH)
    assert found == [
        period(TODAY, probes_ok=5, probes_failed=1, requests_ok=5, requests_failed=4),
        period(TODAY + MINUTE, probes_failed=1),
        period(TODAY, "mcp", probes_ok=2, probes_failed=1),
    ]


def test_hours_and_days_are_the_sum_of_their_minutes_before_and_after_the_upkeep(transaction: Transaction) -> None:
    now = TODAY + 5 * HOUR + 20 * MINUTE
    random = Random(7)
    parts = [
        period(start, service, probes_ok=6, requests_ok=random.randrange(9), requests_failed=random.randrange(2))
        for start in range(TODAY - 7 * HOUR, now, 10 * MINUTE)
        for service in ("madre", "mcp")
    ]
    store(transaction, parts)
    for _ in range(2):
        with transaction() as connection:
            assert read_history(connection, HOUR, now - now % HOUR - HOUR, now, BOTH) == total(
                [part for part in parts if part.start >= now - now % HOUR - HOUR], HOUR
            )
        exhaust(roll_up_history(transaction, RollUpRequest(now, None), thorough=True))
    with transaction() as connection:
        assert read_history(connection, HOUR, TODAY - DAY, now, BOTH) == total(parts, HOUR)
        assert read_history(connection, DAY, TODAY - DAY, now, BOTH) == total(parts, DAY)
        assert read_history(connection, DAY, TODAY - DAY, now, ["mcp"]) == [
            whole for whole in total(parts, DAY) if whole.service == "mcp"
        ]
        assert find_stale(connection, HOUR, 0, now - now % HOUR) == []


def test_upkeep_that_is_cut_off_anywhere_ends_well_the_next_time(transaction: Transaction) -> None:
    now = TODAY + 3 * HOUR
    parts = [
        period(start, f"service-{number}", probes_ok=number + 1, requests_failed=2)
        for start in range(TODAY - 3 * HOUR, now, 15 * MINUTE)
        for number in range(9)
    ]
    store(transaction, parts)
    pieces = 0
    while exhaust(roll_up_history(transaction, RollUpRequest(now, None), thorough=True), pieces) == pieces:
        pieces += 1
    assert pieces > 4, "there was nothing to cut off"
    with transaction() as connection:
        assert history.rows_of(connection, HOUR, 0, now) != []
        assert _sorted(history.rows_of(connection, HOUR, 0, now)) == total(parts, HOUR)
        assert _sorted(history.rows_of(connection, DAY, 0, now)) == total(
            [part for part in parts if part.start < TODAY], DAY
        )


def test_what_comes_late_is_computed_anew_and_never_added(transaction: Transaction) -> None:
    store(transaction, [period(TODAY, probes_ok=6), period(TODAY + MINUTE, probes_ok=6)])
    for _ in range(3):
        exhaust(roll_up_history(transaction, RollUpRequest(TODAY + HOUR, None), thorough=False))
    with transaction() as connection:
        (hour,) = history.rows_of(connection, HOUR, 0, TODAY + DAY)
        assert hour.probes.ok == 12
    store(transaction, [period(TODAY + MINUTE, probes_failed=4)])
    with transaction() as connection:
        assert find_stale(connection, HOUR, 0, TODAY + HOUR) == [("madre", TODAY)]
    exhaust(roll_up_history(transaction, RollUpRequest(TODAY + HOUR, None), thorough=False))
    with transaction() as connection:
        (hour,) = history.rows_of(connection, HOUR, 0, TODAY + DAY)
    assert (hour.probes.ok, hour.probes.failed, hour.probes.latency.count) == (12, 4, 12)


def test_after_a_long_loss_only_a_thorough_look_finds_what_is_old(transaction: Transaction) -> None:
    store(transaction, [period(TODAY - 9 * HOUR, probes_ok=6)])
    exhaust(roll_up_history(transaction, RollUpRequest(TODAY, None), thorough=False))
    with transaction() as connection:
        assert history.rows_of(connection, HOUR, 0, TODAY) == []
    exhaust(roll_up_history(transaction, RollUpRequest(TODAY, None), thorough=True))
    with transaction() as connection:
        assert [hour.probes.ok for hour in history.rows_of(connection, HOUR, 0, TODAY)] == [6]
        assert [day.probes.ok for day in history.rows_of(connection, DAY, 0, TODAY)] == [6]


def test_what_is_too_old_goes_in_small_pieces_and_by_whole_hours(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SWEEP", 10)
    now = TODAY + 30 * MINUTE
    parts = [
        period(start, service, probes_ok=1)
        for start in range(TODAY - 3 * HOUR, TODAY, 5 * MINUTE)
        for service in ("madre", "mcp")
    ]
    store(transaction, parts)
    kept = Retention(minutes=2 * HOUR, hours=2 * HOUR, days=DAY)
    exhaust(roll_up_history(transaction, RollUpRequest(now, None), thorough=True))
    left = []
    steps = roll_up_history(transaction, RollUpRequest(now, kept), thorough=False)
    for _ in steps:
        with transaction() as connection:
            left.append(len(history.rows_of(connection, MINUTE, 0, now)))
    assert max(a - b for a, b in pairwise(left)) <= 10 + 1
    with transaction() as connection:
        minutes = history.rows_of(connection, MINUTE, 0, now)
        # 00:30 less two hours is 22:30 of the day before, whose hour is kept whole.
        assert min(one.start for one in minutes) == TODAY - 2 * HOUR
        assert len(minutes) == 48
        assert total(parts, DAY) == history.rows_of(connection, DAY, 0, now)
        # Hours go by whole days: yesterday's are all there.
        assert {one.start for one in history.rows_of(connection, HOUR, 0, now)} == {
            TODAY - 3 * HOUR,
            TODAY - 2 * HOUR,
            TODAY - HOUR,
        }
    # And what is left of an hour never replaces what was counted of it all.
    exhaust(roll_up_history(transaction, RollUpRequest(now, kept), thorough=True))
    with transaction() as connection:
        assert history.rows_of(connection, DAY, 0, now) == total(parts, DAY)
        assert _sorted(history.rows_of(connection, HOUR, 0, now)) == total(parts, HOUR)


def test_nothing_is_deleted_unless_that_is_asked_for(transaction: Transaction) -> None:
    store(transaction, [period(TODAY - 9 * 365 * DAY, probes_ok=1)])
    exhaust(roll_up_history(transaction, RollUpRequest(TODAY, None), thorough=True))
    with transaction() as connection:
        assert [len(history.rows_of(connection, span, 0, TODAY)) for span in (MINUTE, HOUR, DAY)] == [1, 1, 1]
    exhaust(roll_up_history(transaction, RollUpRequest(TODAY, Retention(HOUR, HOUR, DAY)), thorough=True))
    with transaction() as connection:
        assert [len(history.rows_of(connection, span, 0, TODAY)) for span in (MINUTE, HOUR, DAY)] == [0, 0, 0]


def test_rows_of_a_clock_that_was_ahead_are_not_shown_before_their_time(transaction: Transaction) -> None:
    store(transaction, [period(TODAY + 300 * DAY, probes_failed=6), period(TODAY, probes_ok=6)])
    exhaust(roll_up_history(transaction, RollUpRequest(TODAY + 301 * DAY, None), thorough=True))
    now = TODAY + 5 * MINUTE
    with transaction() as connection:
        for span in (MINUTE, HOUR, DAY):
            (found,) = read_history(connection, span, TODAY, now + 1, BOTH)
            assert (found.probes.ok, found.probes.failed) == (6, 0)
        assert read_past(connection, now, BOTH)["madre"].quarter == UptimeShare(1.0, by_time=False)


def test_the_past_at_a_glance(transaction: Transaction) -> None:
    now = TODAY + 2 * HOUR + 30
    days = [period(TODAY - number * DAY, span=DAY, probes_ok=100, probes_failed=1) for number in range(2, 95)]
    hours = [period(TODAY - DAY + number * HOUR, span=HOUR, probes_ok=10) for number in range(24)]
    minutes = [period(TODAY + 2 * HOUR, requests_ok=7), period(TODAY + HOUR, probes_failed=3)]
    store(transaction, [*days, *hours])
    store(transaction, [*minutes, period(TODAY - 200 * DAY, "gone", DAY, probes_ok=1)])
    with transaction() as connection:
        past = read_past(connection, now, [*BOTH, "gone"])
    assert list(past) == ["madre"]
    # 88 whole days before yesterday, yesterday's 24 hours, and an hour of today. None of the rows has time.
    known = 88 * DAY + DAY + HOUR
    assert past["madre"].quarter.share == pytest.approx((88 * DAY * 100 / 101 + DAY) / known)
    assert not past["madre"].quarter.by_time
    starts = [hour.start for hour in past["madre"].hours]
    assert starts == [*range(TODAY - 21 * HOUR, TODAY, HOUR), TODAY + HOUR, TODAY + 2 * HOUR]
    assert past["madre"].hours[-1].requests.ok == 7
    assert past["madre"].since == TODAY - 89 * DAY


def test_the_past_begins_with_what_is_known(transaction: Transaction) -> None:
    now = TODAY + 2 * HOUR
    store(transaction, [period(TODAY - 3 * DAY, "old", DAY, probes_ok=1), period(TODAY - DAY + HOUR, "new", HOUR)])
    store(
        transaction, [period(now - 5 * MINUTE, "newest", probes_ok=1), period(TODAY - HOUR, "old", HOUR, probes_ok=1)]
    )
    with transaction() as connection:
        past = read_past(connection, now, ["newest", "new", "old", "never"])
    assert {name: one.since for name, one in past.items()} == {
        "newest": TODAY + HOUR,
        "new": TODAY - DAY + HOUR,
        "old": TODAY - 3 * DAY,
    }


def test_an_empty_history_has_no_past(transaction: Transaction) -> None:
    with transaction() as connection:
        assert read_past(connection, TODAY, BOTH) == {}
        assert read_history(connection, DAY, TODAY - 89 * DAY, TODAY + 1, BOTH) == []


def test_what_another_hand_wrote_costs_the_latencies_only(transaction: Transaction) -> None:
    store(transaction, [period(TODAY, probes_ok=6)])
    with transaction() as connection:
        connection.execute(tables.history.update().values(probes_latency=b"\xffjunk"))
    store(transaction, [period(TODAY, probes_ok=1)])
    exhaust(roll_up_history(transaction, RollUpRequest(TODAY + HOUR, None), thorough=True))
    with transaction() as connection:
        (hour,) = read_history(connection, HOUR, TODAY, TODAY + HOUR, BOTH)
    assert (hour.probes.ok, hour.probes.latency.count) == (7, 1)


# -- any order of things --------------------------------------------------------------------------------------------

MET = st.lists(
    st.tuples(st.integers(0, 49 * 60), st.sampled_from(["madre", "mcp"]), st.integers(0, 3), st.integers(0, 2)),
    max_size=8,
)
ROUNDS = st.lists(st.tuples(MET, st.integers(0, 50 * 60), st.integers(0, 6), st.booleans()), max_size=6)


@contextmanager
def in_memory() -> Iterator[Transaction]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    tables.metadata.create_all(engine, [tables.history])
    try:
        yield engine.begin
    finally:
        engine.dispose()


@pytest.mark.thorough
@settings(deadline=None, max_examples=60)
@given(ROUNDS)
def test_whatever_comes_when_and_wherever_upkeep_is_cut_off_the_sums_are_right(rounds: list[Any]) -> None:
    everything: list[Period] = []
    with in_memory() as transaction:
        for met, now, pieces, kill in rounds:
            parts = [
                period(TODAY + minute * MINUTE, service, probes_ok=ok, requests_failed=failed)
                for minute, service, ok, failed in met
                if ok or failed
            ]
            store(transaction, parts)
            everything += parts
            tending = RollUpRequest(TODAY + now * MINUTE, None)
            exhaust(roll_up_history(transaction, tending, thorough=True), pieces if kill else None)
        end = TODAY + 3 * DAY
        exhaust(roll_up_history(transaction, RollUpRequest(end, None), thorough=True))
        with transaction() as connection:
            for span in (MINUTE, HOUR, DAY):
                assert read_history(connection, span, TODAY, end, BOTH) == total(everything, span)


# -- what a query touches -------------------------------------------------------------------------------------------


def fill(transaction: Transaction, services: int) -> int:
    """A year of days, 90 days of hours and two of minutes for each of many services; the present."""
    now = TODAY + 13 * HOUR + 37 * MINUTE
    rows = []
    for number in range(services):
        for span, first in ((DAY, TODAY - 365 * DAY), (HOUR, TODAY - 9 * DAY), (MINUTE, TODAY + 10 * HOUR)):
            rows += [
                history_row(period(start, f"service-{number:02}", span, probes_ok=6))
                for start in range(first, now - now % span, span)
            ]
    with transaction() as connection:
        connection.execute(tables.history.insert(), rows)
    return now


def test_a_quarter_of_one_service_is_read_by_the_key_and_touches_few_rows(
    transaction: Transaction, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = fill(transaction, 12)
    made: list[object] = []
    make = history.period_of

    def counted(row: Any) -> Period:
        made.append(row)
        return make(row)

    monkeypatch.setattr(history, "period_of", counted)
    with transaction() as connection:
        found = read_history(connection, DAY, TODAY - 89 * DAY, now + 1, ["service-05"])
    assert len(found) == 90
    # The 89 days before, and of today the 13 hours and the 37 minutes that are over: whatever else is stored.
    assert len(made) == 89 + 13 + 37
    if not url.startswith("sqlite"):
        return
    for plan in plans(transaction, lambda connection: read_history(connection, DAY, TODAY, now, ["service-05"])):
        assert plan == ["SEARCH tentaculo_history USING PRIMARY KEY (service=? AND span=? AND start>? AND start<?)"]


def test_what_concerns_every_service_is_read_by_the_index(file: Path) -> None:
    def transaction() -> AbstractContextManager[Connection]:
        return opened(f"sqlite:///{file}")

    now = fill(transaction, 3)
    by_index = "USING INDEX ix_tentaculo_history_span_start (span=? AND start>? AND start<?)"
    for query in (
        lambda connection: read_past(connection, now, ["service-01", "service-02"]),
        lambda connection: find_stale(connection, HOUR, TODAY, now - now % HOUR),
        lambda connection: list(
            roll_up_history(transaction, RollUpRequest(now, Retention(HOUR, HOUR, DAY)), thorough=False)
        ),
        lambda connection: roll_up(connection, "service-01", HOUR, TODAY),
    ):
        for plan in plans(transaction, query):
            assert not [step for step in plan if step.startswith("SCAN tentaculo_history") or step == "SCAN parts"], (
                plan
            )
    for plan in plans(transaction, lambda connection: history.rows_of(connection, HOUR, TODAY, now)):
        assert plan == [f"SEARCH tentaculo_history {by_index}"]


def plans(transaction: Transaction, query: Callable[[Connection], object]) -> list[list[str]]:
    """SQLite's plan for each statement that `query` runs."""
    asked: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, _x: object, many: bool) -> None:
        asked.append((statement, parameters))

    with transaction() as connection:
        engine = connection.engine
        event.listen(type(engine), "before_cursor_execute", note)
        try:
            query(connection)
        finally:
            event.remove(type(engine), "before_cursor_execute", note)
        return [
            [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            for statement, parameters in asked
            if statement.startswith(("SELECT", "DELETE"))
        ]


def _sorted(periods: list[Period]) -> list[Period]:
    return sorted(periods, key=lambda one: (one.service, one.start))


def test_time_is_added_and_rolled_up_also_where_no_probe_ran(transaction: Transaction) -> None:
    store(transaction, [period(TODAY, available=20_000, unavailable=0, probes_ok=2)])
    store(transaction, [period(TODAY, available=10_000, unavailable=30_000)])
    store(transaction, [period(TODAY + MINUTE * n, available=60_000, unavailable=0) for n in range(1, 60)])
    now = TODAY + DAY
    for _ in range(2):
        with transaction() as connection:
            (hour,) = read_history(connection, HOUR, TODAY, TODAY + HOUR, BOTH)
            assert hour.uptime == Uptime(30_000 + 59 * 60_000, 30_000)
        exhaust(roll_up_history(transaction, RollUpRequest(now, None), thorough=True))
    with transaction() as connection:
        assert find_stale(connection, HOUR, 0, now) == []
        (day,) = history.rows_of(connection, DAY, 0, now)
    assert (day.uptime, day.probes.ok) == (hour.uptime, 2)


def test_a_row_of_an_older_version_counts_by_its_probes_and_says_so(transaction: Transaction) -> None:
    now = TODAY + 2 * HOUR
    old = [period(TODAY - n * DAY, span=DAY, probes_ok=3, probes_failed=1) for n in range(2, 5)]
    store(transaction, [*old, period(TODAY + HOUR, span=HOUR, available=900_000, unavailable=2_700_000)])
    store(transaction, [period(TODAY, "mcp", HOUR, available=900_000, unavailable=2_700_000, probes_ok=9)])
    with transaction() as connection:
        past = read_past(connection, now, BOTH)
    assert past["mcp"].quarter == UptimeShare(0.25)
    known = 3 * DAY + HOUR
    assert past["madre"].quarter.share == pytest.approx((3 * DAY * 3 / 4 + HOUR / 4) / known)
    assert not past["madre"].quarter.by_time


FAILED_FROM = 1_773_500_400


def failed_row(service: str, minute: int, failed: int, span: int = MINUTE) -> object:
    return history_row(Period(service, span, FAILED_FROM + minute * MINUTE, Tally(0, 9), Tally(5, failed)))


@pytest.mark.parametrize("named", [500, 1])
def test_only_minutes_with_failures_in_the_span_are_read(url: str, monkeypatch: pytest.MonkeyPatch, named: int) -> None:
    monkeypatch.setattr(history, "MOST_NAMED", named)
    with opened(url) as connection:
        rows = [failed_row("mcp", n, n) for n in range(4)] + [
            failed_row("mcp", 0, 99, HOUR),
            failed_row("switch", 1, 7),
            failed_row("hermes", 1, 8),
        ]
        add_history(connection, rows)  # type: ignore[arg-type]
        found = history.read_failed(connection, FAILED_FROM, FAILED_FROM + 3 * MINUTE, ["mcp", "switch"])
    expected = {("mcp", 1, 1), ("mcp", 2, 2), ("switch", 1, 7)} | ({("hermes", 1, 8)} if named == 1 else set())
    assert set(found) == {FailedMinute(name, FAILED_FROM + minute * MINUTE, count) for name, minute, count in expected}


def test_a_row_is_rolled_up_without_garbage(transaction: Transaction) -> None:
    """A statement that is made for each row is hundreds of objects in cycles: 1,000 services have as many rows an hour."""
    store(transaction, [period(TODAY + n * MINUTE, probes_ok=1) for n in range(60)])
    with transaction() as connection:
        roll_up(connection, "madre", HOUR, TODAY)
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                roll_up(connection, "madre", HOUR, TODAY)
            found = gc.collect()
        finally:
            gc.enable()
    assert found < 50 * 30
