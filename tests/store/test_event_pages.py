"""Pages of the log on both databases: several types by their indexes, and the end of a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

import pytest

from tentaculo.model.event import EventFilter, FoundEvents, lowest_id
from tentaculo.store import event_queries
from tentaculo.store.client import StoreClient
from tentaculo.store.event_queries import read_events
from tentaculo.store.events import append_events, event_row
from tests.support.runtime_tables import opened
from tests.support.store_samples import NOW, event

ROWS = 120
ALL = [number for number in range(1, ROWS + 1) if number % 4 != 3]


@pytest.fixture
async def kept(url: str, store_client_on: Callable[..., StoreClient]) -> StoreClient:
    """Four types in turn, one a second."""
    client = store_client_on(url, event_wait=20.0)
    await client.start()
    await client.store_events(
        [
            event(number, type=f"t{number % 4}", received_at=NOW + timedelta(seconds=number))
            for number in range(1, ROWS + 1)
        ]
    )
    return client


async def pages(client: StoreClient, wanted: EventFilter, *, newest_first: bool, limit: int) -> list[FoundEvents]:
    """All pages, one after the other."""
    found, bounds = list[FoundEvents](), dict[str, Any]()
    while not found or bounds:
        one: FoundEvents = await client.read(
            partial(read_events, wanted=wanted, limit=limit, newest_first=newest_first, **bounds)
        )
        found.append(one)
        place = one.reached or (one.events[-1].id if len(one.events) == limit else None)
        bounds = {} if place is None else {"before" if newest_first else "after": place}
    return found


def ids(found: list[FoundEvents]) -> list[int]:
    return [one.id for page in found for one in page.events]


@pytest.mark.thorough
@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("is_slow", [True, False])
async def test_several_types_are_one_list(
    kept: StoreClient, newest_first: bool, is_slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_slow:
        monkeypatch.setattr(event_queries, "LOOK_EVERY", 7)
        monkeypatch.setattr(event_queries, "SEARCH_SECONDS", 0)
    wanted = EventFilter(types=("t0", "t1", "t2"), not_source="nobody")
    found = await pages(kept, wanted, newest_first=newest_first, limit=20)
    assert ids(found) == (ALL[::-1] if newest_first else ALL)
    assert any(page.reached is not None for page in found) is is_slow


async def test_the_rows_of_other_types_are_not_read(kept: StoreClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_queries, "LOOK_EVERY", 1)
    monkeypatch.setattr(event_queries, "SEARCH_SECONDS", 0)
    (source,) = {event(1).source}
    # Each search looks at every row that its index leads to: with that of the source it would be all.
    found = await pages(kept, EventFilter(types=("none",), sources=(source,)), newest_first=True, limit=20)
    assert (ids(found), len(found)) == ([], 1)


async def test_a_page_of_the_past_begins_there(kept: StoreClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_queries, "LOOK_EVERY", 1)
    monkeypatch.setattr(event_queries, "SEARCH_SECONDS", 0)
    wanted = EventFilter(until=NOW + timedelta(seconds=41))
    found: FoundEvents = await kept.read(partial(read_events, wanted=wanted, limit=10, newest_first=True))
    assert (ids([found])[:1], found.reached) == ([40], 40)
    nothing: FoundEvents = await kept.read(
        partial(read_events, wanted=EventFilter(until=NOW), limit=10, newest_first=True)
    )
    assert nothing == FoundEvents([])


async def test_a_clock_that_was_set_back_hides_no_event(kept: StoreClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_queries, "_NEAR", 10)
    ahead = [event(1000 + number, received_at=NOW + timedelta(days=1, seconds=number)) for number in range(20)]
    await kept.store_events(ahead)
    await kept.store_events([event(2000, received_at=NOW + timedelta(seconds=ROWS + 1))])
    for until, found in (
        (timedelta(days=2), [2000, 1019, 1018]),
        (timedelta(days=1), [2000, ROWS, ROWS - 1]),
        (timedelta(seconds=ROWS + 1), [ROWS, ROWS - 1, ROWS - 2]),
    ):
        wanted = EventFilter(until=NOW + until)
        assert ids(await pages(kept, wanted, newest_first=True, limit=50))[:3] == found
        assert ids(await pages(kept, wanted, newest_first=False, limit=50))[-3:] == found[::-1]


@pytest.mark.parametrize("newest_first", [True, False])
async def test_what_is_stored_between_the_queries_of_a_page_is_on_none_of_them(
    url: str, kept: StoreClient, newest_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a page has an event, and not the one before it: who continues behind the page would never get that."""
    ordered, new = event_queries._Search._ordered, iter(range(1000, 1100, 10))

    def store_two(search: Any, *arguments: Any) -> Any:
        with opened(url) as connection:
            number = next(new)
            append_events(connection, [event_row(event(number + index, type=f"t{index}")) for index in range(2)])
        return ordered(search, *arguments)

    wanted = EventFilter(types=("t0", "t1"))
    monkeypatch.setattr(event_queries._Search, "_ordered", store_two)
    found = await kept.read_events(wanted, limit=200, newest_first=newest_first)
    monkeypatch.undo()
    every = sorted(ids([found]))
    known = await kept.read_events(wanted, before=every[-1] + 1, limit=200)
    assert every == ids([known])
    assert every[-1] <= ROWS


VALUES = ((), ("a",), ("b", "none", "a"), ("a", "b", "c", *"defghi"))
"""None, one, some and more than have an index each."""


@pytest.mark.thorough
@pytest.mark.parametrize("is_slow", [True, False])
async def test_pages_of_every_filter_are_what_it_selects(
    url: str, store_client_on: Callable[..., StoreClient], is_slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both directions, from anywhere, also where each read ends after a few rows."""
    client, random = store_client_on(url, event_wait=20.0), Random(11)
    await client.start()
    first = lowest_id(NOW) + 1000
    stored = [
        event(
            first + 1000 * number,
            type=random.choice("abc"),
            source=random.choice("abc"),
            severity=random.choice(("a", "b", "c", None, None)),
            broadcast=random.random() < 0.5,
            received_at=NOW + timedelta(milliseconds=number),
        )
        for number in range(200)
    ]
    await client.store_events(stored)
    monkeypatch.setattr(event_queries, "LOOK_EVERY", 3)
    monkeypatch.setattr(event_queries, "SEARCH_SECONDS", 0 if is_slow else 3600)
    half = {"since": NOW + timedelta(milliseconds=50), "until": NOW + timedelta(milliseconds=150)}
    others: tuple[dict[str, Any], ...] = ({}, {"is_broadcast": True, "not_source": "b"}, half)
    every = list(itertools.product(VALUES, VALUES, VALUES, others))
    for types, sources, severities, more in every if url.startswith("sqlite") else random.sample(every, 40):
        wanted = EventFilter(types=types, sources=sources, severities=severities, **more)
        expected = [one.id for one in stored if wanted.matches(one)]
        newest_first, limit = random.random() < 0.5, random.choice((2, 7, 300))
        found = await pages(client, wanted, newest_first=newest_first, limit=limit)
        assert ids(found) == (expected[::-1] if newest_first else expected), (wanted, newest_first, limit)
        if wanted.is_indexed:
            assert all(page.reached is None for page in found), wanted
