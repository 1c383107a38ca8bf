"""The log of events as the pages read it, on a database of each kind: pages in both directions, and connections."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tentaculo.gateway.event_reads import EventReads
from tentaculo.model.clock import CorrectedTime
from tentaculo.model.event import PAGE_EVENTS, Event, EventFilter, EventLink, LogPage, LogRequest
from tentaculo.model.health import Health
from tentaculo.model.incident import Incident
from tentaculo.server.native_routes import Slices
from tentaculo.store import event_queries, incidents
from tentaculo.store.client import StoreClient
from tests.conftest import TOKEN, living
from tests.gateway.test_precursor_reports import fill, story

NOW = datetime(2026, 3, 30, 18, tzinfo=UTC)
KEYS = ("spawn_id", "payload.id")


@pytest.fixture
async def client(url: str) -> AsyncIterator[StoreClient]:
    made = StoreClient(url, event_wait=20.0)
    await made.start()
    yield made
    await made.close()


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def event(seconds: int, payload: dict[str, Any] | None = None, **members: Any) -> Event:
    """One that was received so many seconds after `NOW`."""
    number = int(at(seconds).timestamp() * 1_000_000)
    return Event(
        number, members.pop("source", "madre"), members.pop("type", "t"), payload or {}, at(seconds), **members
    )


async def filled(client: StoreClient, *events: Event) -> EventReads:
    if events:
        await client.store_events(events)
    return EventReads(client, KEYS, Slices())


def seconds(page: LogPage) -> list[int]:
    """When the events of a page were received, in seconds after `NOW`."""
    return [int((one.received_at - NOW).total_seconds()) for one in page.events]


async def test_pages_lead_to_older_events_and_back(client: StoreClient) -> None:
    log = await filled(client, *map(event, range(120)))
    everything = EventFilter()
    first = await log.page(LogRequest(everything))
    assert (seconds(first), first.newer) == (list(range(119, 69, -1)), None)
    second = await log.page(LogRequest(everything, before=first.older))
    third = await log.page(LogRequest(everything, before=second.older))
    assert seconds(second) + seconds(third) == list(range(69, -1, -1))
    assert third.older is None
    assert len(second.events) == PAGE_EVENTS
    back = await log.page(LogRequest(everything, after=third.newer))
    assert seconds(back) == seconds(second)
    assert seconds(await log.page(LogRequest(everything, before=back.older))) == seconds(third)
    end = await log.page(LogRequest(everything, after=first.events[1].id))
    assert (seconds(end), end.newer) == ([119], None)


async def test_an_empty_page_leads_back_to_what_stands_at_its_position(client: StoreClient) -> None:
    log = await filled(client, event(0), event(1))
    below = await log.page(LogRequest(EventFilter(), before=event(0).id))
    assert (below.events, below.older) == ((), None)
    assert seconds(await log.page(LogRequest(EventFilter(), after=below.newer))) == [1, 0]
    above = await log.page(LogRequest(EventFilter(), after=event(1).id))
    assert (above.events, above.newer) == ((), None)
    assert seconds(await log.page(LogRequest(EventFilter(), before=above.older))) == [1, 0]


async def test_events_stand_in_the_order_in_which_they_happened(client: StoreClient) -> None:
    late = event(10, corrected=CorrectedTime(int(at(-5).timestamp() * 1000), 3))
    log = await filled(client, event(0), event(5), late)
    assert seconds(await log.page(LogRequest(EventFilter()))) == [5, 0, 10]


async def test_the_time_of_a_page_is_that_of_the_receipt(client: StoreClient) -> None:
    log = await filled(client, *map(event, range(10)))
    assert seconds(await log.page(LogRequest(EventFilter(since=at(3), until=at(6))))) == [5, 4, 3]


async def test_connections_are_those_that_the_events_state(client: StoreClient) -> None:
    log = await filled(client, event(0, {"id": "child-7"}), event(1, {"spawn_id": "child-7"}), event(2))
    page = await log.page(LogRequest(EventFilter()))
    first, second = event(0).id, event(1).id
    assert page.links == (EventLink(first, second, "payload.id = spawn_id"),)
    assert page.correlations == {first: "child-7", second: "child-7"}


async def test_a_correlation_finds_what_states_it_and_not_what_only_contains_it(client: StoreClient) -> None:
    log = await filled(
        client,
        event(0, {"correlation_id": "rel-240"}),
        event(1, {}, metadata={"correlation_id": "rel-240"}),
        event(2, {"spawn_id": "rel-240"}),
        event(3, {"parent_id": "rel-240"}),
        event(4, {"message": "about rel-240"}),
        event(5, {"correlation_id": "rel-2400"}),
    )
    page = await log.page(LogRequest(EventFilter(correlation="rel-240")))
    assert seconds(page) == [3, 2, 1, 0]
    assert [link.by for link in page.links] == ["correlation_id"]


async def test_a_search_whose_time_is_over_continues_on_the_next_page(
    client: StoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_queries, "LOOK_EVERY", 1)
    monkeypatch.setattr(event_queries, "SEARCH_SECONDS", 0)
    log = await filled(client, event(0, {"text": "needle"}), event(1), event(2))
    wanted, found, pages = LogRequest(EventFilter(text="needle")), list[int](), 0
    while True:
        page = await log.page(wanted)
        found += seconds(page)
        pages += 1
        assert page.is_cut is (page.older is not None)
        if page.older is None:
            break
        wanted = LogRequest(wanted.wanted, before=page.older)
    assert (found, pages) == ([0], 4)


async def test_incidents_are_those_that_were_open_in_the_time(client: StoreClient) -> None:
    def incident(number: int, start: int, end: int | None, part_of: int | None = None) -> Incident:
        ended = None if end is None else at(end)
        return Incident(number, "madre", ("madre",), Health.DOWN, "x", at(start), at(start), ended, "", part_of=part_of)

    known = [incident(1, 0, 5), incident(2, 10, 20), incident(3, 15, None), incident(4, 40, 50), incident(5, 12, 14, 2)]
    await client.run(lambda connection: incidents.save(connection, known))
    log = await filled(client)
    assert [one.id for one in await log.incidents(at(12), at(30))] == [3, 2]


@pytest.mark.thorough
async def test_the_page_of_a_whole_gateway(url: str, tmp_path: Path) -> None:
    # The last incident was an hour ago.
    known, events = story(datetime.now(UTC) + timedelta(days=5))
    fill(url, known, events)
    madre = {"madre": {"url": "http://127.0.0.1:9", "probe": {"kind": "none"}}}
    async with living(tmp_path, madre, database={"url": url}) as live, ClientSession() as client:

        async def page(headers: dict[str, str]) -> str:
            path = f"http://127.0.0.1:{live.port}/status/events?range=3h"
            async with client.get(path, headers=headers) as response:
                assert response.status == 200
                return await response.text()

        public, private = await page({}), ""
        # The statistics take as long as they take, and the page does not wait for them.
        async with asyncio.timeout(20):
            while "of 6 incidents" not in private:
                private = await page({"X-VX11-Token": TOKEN})
                await asyncio.sleep(0.2)
    assert f"/status/incidents/{known[0].id}" in public
    for hidden in ("deploy.started", "What comes before incidents", 'name="correlation"', "maybe", "configuration"):
        assert hidden not in public.partition("<main>")[2]
    # One claim, and its line to the incident that it came before.
    claim = "5 of 6 incidents of madre were preceded within 10 minutes by deploy.started of ci;"
    assert f"<b>{claim}" in re.sub(r"</?bdi[^>]*>", "", private)
    assert private.count('<path class="tie maybe"') == 1
    assert "gateway.configuration.loaded" in private
