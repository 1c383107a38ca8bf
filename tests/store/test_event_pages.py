"""Pages of the log on both databases: several types by their indexes, and the end of a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from tentaculo.model.event import EventFilter, FoundEvents
from tentaculo.store import event_queries
from tentaculo.store.client import StoreClient
from tentaculo.store.event_queries import read_events
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
