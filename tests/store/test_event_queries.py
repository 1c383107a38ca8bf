"""What a search finds, on both databases, and how far it gets in its time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from sqlalchemy import Connection

from tentaculo.model.event import EventFilter, FoundEvents
from tentaculo.model.health import GATEWAY_NAME
from tentaculo.store import event_queries, tables
from tentaculo.store.client import StoreClient
from tentaculo.store.event_queries import read_events
from tests.support.store_samples import event

StoreClientOn = Callable[..., StoreClient]
ROWS = 300


@pytest.fixture
async def kept(url: str, store_client_on: StoreClientOn) -> StoreClient:
    client = store_client_on(url, event_wait=20.0)
    await client.start()
    return client


async def store_rows(client: StoreClient) -> None:
    """Rows 1 to `ROWS`, of which each hundredth has the text `needle` and each tenth another type."""
    await client.store_events(
        [
            event(
                number,
                type="t" if number % 10 else "u",
                payload={"text": "Needle" if number % 100 == 0 else "hay", "n": number},
            )
            for number in range(1, ROWS + 1)
        ]
    )


async def steps(client: StoreClient, wanted: EventFilter, *, newest_first: bool, limit: int = 100) -> list[FoundEvents]:
    """The results of a search that continues until all rows have been looked at."""
    bounds: dict[str, int] = {}
    found = list[FoundEvents]()
    while not found or found[-1].reached is not None:
        found.append(await client.read_events(wanted, limit=limit, newest_first=newest_first, **bounds))
        if (reached := found[-1].reached) is not None:
            bounds = {"before" if newest_first else "after": reached}
    return found


def ids(results: list[FoundEvents]) -> list[int]:
    return [found.id for result in results for found in result.events]


@pytest.mark.thorough
@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_search_whose_time_is_over_says_how_far_it_got(
    kept: StoreClient, newest_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_rows(kept)
    monkeypatch.setattr(event_queries, "LOOK_EVERY", 7)
    monkeypatch.setattr(event_queries, "SEARCH_SECONDS", 0)
    for wanted, found, rows in (
        (EventFilter(text="NEEDLE"), [100, 200, 300], ROWS),
        # Indexes lead to the rows of few values only.
        (EventFilter(text="needle", types=("u",)), [100, 200, 300], ROWS // 10),
        (EventFilter(text="needle", types=("t", "u"), sources=("s", event(1).source)), [100, 200, 300], ROWS),
        (EventFilter(text="nothing"), [], ROWS),
        (EventFilter(text="needle", severities=("L9",)), [], 0),
        (EventFilter(types=("u",), sources=tuple("abcdefghijk")), [], ROWS // 10),
        (EventFilter(types=(*"abcdefgh", "u")), list(range(10, ROWS + 1, 10)), ROWS),
    ):
        results = await steps(kept, wanted, newest_first=newest_first)
        assert ids(results) == (found[::-1] if newest_first else found)
        assert len(results) == rows // 7 + 1


async def test_a_search_that_has_time_looks_at_all_rows(kept: StoreClient, monkeypatch: pytest.MonkeyPatch) -> None:
    await store_rows(kept)
    monkeypatch.setattr(event_queries, "SEARCH_SECONDS", 3600)
    assert await kept.read_events(EventFilter(text="nothing"), limit=10) == FoundEvents([])
    found = await kept.read_events(EventFilter(text="needle"), limit=2, newest_first=True)
    assert (ids([found]), found.reached) == ([300, 200], None)


async def test_a_search_without_end_is_bounded_in_rows_too(kept: StoreClient, monkeypatch: pytest.MonkeyPatch) -> None:
    await store_rows(kept)
    monkeypatch.setattr(event_queries, "LOOK_EVERY", 1)
    monkeypatch.setattr(event_queries, "SEARCH_SECONDS", 3600)
    monkeypatch.setattr(event_queries, "_MOST_LOOKS", 50)
    results = await steps(kept, EventFilter(text="needle"), newest_first=False, limit=10)
    assert ids(results) == [100, 200, 300]
    assert [result.reached for result in results] == [60, 120, 180, 240, 300, None]


async def test_a_row_that_is_only_looked_at_need_not_be_readable(
    kept: StoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_rows(kept)

    def spoil(connection: Connection) -> None:
        connection.execute(tables.events.update().where(tables.events.c.id == 7).values(payload="{"))

    await kept.run(spoil)
    monkeypatch.setattr(event_queries, "LOOK_EVERY", 7)
    assert ids(await steps(kept, EventFilter(text="needle"), newest_first=True)) == [300, 200, 100]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("text", "written", "is_found"),
    [
        ("MÉXICO", "in méxico", True),
        ("méxico", "IN MÉXICO", True),
        ("mexico", "méxico", False),
        ("ÑANDÚ", "ñandú", True),
        ("ΣΑΣ", "σας", True),
        ("жук", "ЖУК", True),
        ("straße", "STRAẞE", True),
        ("strasse", "straße", False),
        ("İ", "i", False),
        ("é", "e", False),
        ("é_", "éa", False),
        ("日本", "日本語", True),
        ("日木", "日本語", False),
        ("\U0001f419", "an \U0001f419", True),
        ("I", "\u0131", False),
        ("k", "\u212a", False),
    ],
)
async def test_letters_of_every_alphabet_are_found_in_any_case(
    kept: StoreClient, text: str, written: str, is_found: bool
) -> None:
    await kept.store_events([event(1, payload={"text": written})])
    found = await kept.read_events(EventFilter(text=text), limit=10)
    assert ids([found]) == ([1] if is_found else [])


async def test_events_about_a_service_are_its_own_and_those_of_the_gateway_that_name_it(kept: StoreClient) -> None:
    await kept.store_events(
        [
            event(1, source="madre", payload={}),
            event(2, source="m", payload={}),
            event(3, source="ci", payload={"service": "madre"}),
            event(4, source=GATEWAY_NAME, payload={"service": "madre"}),
            event(5, source=GATEWAY_NAME, payload={"services": ["switch", "madre"]}),
            event(6, source=GATEWAY_NAME, payload={"service": "madre-two"}),
            event(7, source=GATEWAY_NAME, payload={"service": "x_y"}),
            event(8, source=GATEWAY_NAME, payload={"service": "xzy"}),
        ]
    )
    assert ids(await steps(kept, EventFilter(about=("madre", "m")), newest_first=False)) == [1, 2, 4, 5]
    assert ids(await steps(kept, EventFilter(about=("x_y",)), newest_first=False)) == [7]


async def test_a_correlation_is_looked_for_in_payload_and_metadata(kept: StoreClient) -> None:
    await kept.store_events(
        [
            event(1, payload={"correlation_id": 'a "b" \\ ñ'}),
            event(2, payload={}, metadata={"x": 'a "b" \\ ñ'}),
            event(3, type='a "b" \\ ñ', payload={}),
            event(4, payload={"correlation_id": "a b"}),
        ]
    )
    assert ids(await steps(kept, EventFilter(correlation='a "b" \\ ñ'), newest_first=False)) == [1, 2]


@pytest.mark.parametrize(
    ("wanted", "found", "rows"),
    [
        (EventFilter(severities=("L9",)), [], 0),
        (EventFilter(types=("u", "v"), sources=(event(1).source,)), list(range(300, 0, -10)), ROWS // 10),
        (EventFilter(until=event(1).received_at), [], 0),
        (EventFilter(not_source=event(1).source), [], ROWS),
        (EventFilter(is_broadcast=True), [], ROWS),
    ],
)
async def test_a_query_ends_in_its_time_whatever_the_filter(
    kept: StoreClient,
    wanted: EventFilter,
    found: list[int],
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await store_rows(kept)
    monkeypatch.setattr(event_queries, "LOOK_EVERY", 7)
    monkeypatch.setattr(event_queries, "SEARCH_SECONDS", 0)
    results, before = list[FoundEvents](), None
    while not results or before is not None:
        query = partial(read_events, wanted=wanted, before=before, limit=ROWS, newest_first=True)
        results.append(await kept.read(query))
        before = results[-1].reached
    assert ids(results) == found
    assert len(results) == rows // 7 + 1
    # Where an index leads to the rows, there is nothing to search.
    one = await kept.read(partial(read_events, wanted=EventFilter(types=("u",)), limit=ROWS, newest_first=True))
    assert (len(one.events), one.reached) == (30, None)
