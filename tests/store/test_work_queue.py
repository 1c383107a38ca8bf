from __future__ import annotations

import asyncio
from typing import Any

from tentaculo.model.health import Health
from tentaculo.model.history import Period, RouteCount, Tally
from tentaculo.store.events import event_row
from tentaculo.store.history import RollUpRequest
from tentaculo.store.work_queue import PendingWork, Work, WorkQueue
from tests.support.store_samples import event, view

ROW = event_row(event(1))


def ask(what: Any) -> PendingWork[Any]:
    return PendingWork(what, asyncio.get_running_loop().create_future())


def names(work: Work | None) -> list[str]:
    assert work is not None
    return list(work.views)


async def test_events_come_in_order_and_in_batches() -> None:
    inbox = WorkQueue(asks=5, views=5, history=3)
    asks = [ask([ROW._replace(id=number)]) for number in range(6)]
    assert [inbox.put_events(one) for one in asks] == [True] * 5 + [False]
    first, second = inbox.take(0, 3), inbox.take(0, 3)
    assert first is not None
    assert second is not None
    assert first.events + second.events == asks[:5]
    assert inbox.take(0, 3) == Work()


async def test_reads_and_events_have_bounds_of_their_own() -> None:
    inbox = WorkQueue(asks=1, views=1, history=3)
    first, second = ask([ROW]), ask([ROW])
    assert inbox.put_events(first)
    assert inbox.put_read(ask(len))
    assert not inbox.put_events(second)
    assert not inbox.put_read(ask(len))


def test_of_each_service_the_newest_state_is_kept() -> None:
    inbox = WorkQueue(asks=1, views=2, history=3)
    inbox.put_views([view("a"), view("b"), view("a", Health.DOWN)])
    assert inbox.dropped == 1
    work = inbox.take(0, 1)
    assert names(work) == ["b", "a"]
    assert work is not None
    assert work.views["a"].health is Health.DOWN


def test_the_oldest_is_dropped_where_there_is_no_room() -> None:
    inbox = WorkQueue(asks=1, views=2, history=3)
    inbox.put_views([view("a"), view("b"), view("c")])
    assert inbox.dropped == 1
    assert names(inbox.take(0, 1)) == ["b", "c"]


def test_what_comes_back_does_not_replace_what_is_newer() -> None:
    inbox = WorkQueue(asks=1, views=9, history=3)
    inbox.put_views([view("a"), view("b")])
    work = inbox.take(0, 1)
    assert work is not None
    inbox.put_views([view("a", Health.DOWN)])
    inbox.put_back(work)
    again = inbox.take(0, 1)
    assert again is not None
    assert {name: one.health for name, one in again.views.items()} == {"a": Health.DOWN, "b": Health.UP}
    assert inbox.dropped == 1


def starts(work: Work | None) -> list[int]:
    assert work is not None
    return [row["start"] for row in work.history]


def test_history_comes_in_order_and_in_batches_and_the_oldest_goes_where_there_is_no_room() -> None:
    inbox = WorkQueue(asks=1, views=1, history=3)
    inbox.put_history([{"start": number} for number in range(5)])
    assert inbox.dropped == 2
    first = inbox.take(0, 2)
    assert starts(first) == [2, 3]
    inbox.put_history([{"start": 5}, {"start": 6}])
    assert first is not None
    inbox.put_back(first)
    assert inbox.dropped == 4
    assert starts(inbox.take(0, 9)) == [4, 5, 6]
    inbox.close()
    inbox.put_history([{"start": 7}])
    assert inbox.dropped == 5


def test_of_what_is_to_be_tended_the_newest_is_kept_and_none_when_it_is_over() -> None:
    inbox = WorkQueue(asks=1, views=1, history=3)
    inbox.put_roll_up(RollUpRequest(1, None))
    inbox.put_roll_up(RollUpRequest(2, None))
    work = inbox.take(0, 1)
    assert work is not None
    assert work.roll_up == RollUpRequest(2, None)
    inbox.put_back(work)
    again = inbox.take(0, 1)
    assert again is not None
    inbox.put_roll_up(RollUpRequest(3, None))
    inbox.put_back(again)
    newest = inbox.take(0, 1)
    assert newest is not None
    assert newest.roll_up == RollUpRequest(3, None)
    inbox.put_back(newest)
    inbox.close()
    assert inbox.take(60, 1) is None


async def test_a_closed_one_gives_out_what_is_left_and_takes_nothing_in() -> None:
    inbox = WorkQueue(asks=5, views=5, history=3)
    inbox.put_views([view("a")])
    inbox.close()
    inbox.put_views([view("b")])
    late = ask([ROW])
    assert not inbox.put_events(late)
    assert inbox.dropped == 1
    assert names(inbox.take(60, 1)) == ["a"]
    assert inbox.take(60, 1) is None
    inbox.pause(60, 60)


async def test_it_says_what_waits() -> None:
    inbox = WorkQueue(asks=5, views=5, history=3)
    inbox.put_events(ask([ROW]))
    inbox.put_read(ask(len))
    inbox.put_views([view("a")])
    inbox.put_history([{"start": 1}])
    assert repr(inbox) == "<WorkQueue: 1 events, 1 reads, 1 services, 1 rows of history>"
    assert len(inbox.take_asks()) == 2
    assert repr(inbox) == "<WorkQueue: 0 events, 0 reads, 1 services, 1 rows of history>"


def test_rows_are_made_of_periods_by_the_one_who_takes_them() -> None:
    inbox = WorkQueue(asks=1, views=1, history=3)
    period = Period("madre", 60, 120, Tally(ok=3), Tally(ok=1), routes={"/madre": RouteCount(1, 0)})
    made = {"service": "switch"}
    inbox.put_history([period, made])
    work = inbox.take(0, 5)
    assert work is not None
    assert work.history[1] is made
    row = work.history[0]
    assert (row["service"], row["start"], row["probes_ok"]) == ("madre", 120, 3)
    assert [route["route"] for route in row["routes"]] == ["/madre"]
    # What could not be stored is not made again.
    inbox.put_back(work)
    again = inbox.take(0, 5)
    assert again is not None
    assert again.history == [row, made]
