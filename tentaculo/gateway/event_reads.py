"""Reads the log of events for the pages: a page at a time, in a bounded time, with the connections among its events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial

from tentaculo.events.correlations import Graph, facts_of, has_correlation
from tentaculo.model.event import PAGE_EVENTS, PAGE_INCIDENTS, Event, EventLink, FoundEvents, LogPage, LogRequest
from tentaculo.model.incident import Incident
from tentaculo.server.native_routes import Slices
from tentaculo.store import incidents as stored_incidents
from tentaculo.store.client import StoreClient
from tentaculo.store.event_queries import read_events

MOST_LINKS = 200
"""Connections among the events of one page."""


class EventReads:
    """The log of `store_client`. `keys` name the members of events whose equal values join them."""

    def __init__(self, store_client: StoreClient, keys: Sequence[str], slices: Slices) -> None:
        self._store_client = store_client
        self._keys = keys
        self._slices = slices

    def __repr__(self) -> str:
        return f"<EventReads of {self._store_client!r}>"

    async def page(self, wanted: LogRequest) -> LogPage:
        """The newest events that `wanted` selects, or those next to a position. Raises `StoreUnavailable`."""
        is_down = wanted.before is not None or wanted.after is None
        query = partial(
            read_events,
            wanted=wanted.wanted,
            after=None if is_down else wanted.after,
            before=wanted.before,
            limit=PAGE_EVENTS + 1,
            newest_first=is_down,
        )
        # A search of texts reads each row whole, so it runs beside all other queries.
        read_rows = self._store_client.search if wanted.wanted.is_search else self._store_client.read
        found: FoundEvents = await read_rows(query)
        read = found.events[:PAGE_EVENTS]
        onward = read[-1].id if len(found.events) > PAGE_EVENTS else found.reached
        given = wanted.before if is_down else wanted.after
        # An empty page leads back to what stands at the position itself.
        back = None if given is None else read[0].id if read else given + (-1 if is_down else 1)
        events = await self._slices.collect(self._chosen(read, wanted.wanted.correlation))
        graph, correlations = Graph(self._keys), dict[int, str]()
        events.sort(key=lambda event: (event.happened_ms, event.id))
        await self._slices.collect(self._added(events, graph, correlations))
        links = await self._slices.collect(self._links(graph))
        return LogPage(
            tuple(reversed(events)),
            tuple(links),
            correlations,
            older=onward if is_down else back,
            newer=back if is_down else onward,
            is_cut=found.reached is not None,
        )

    async def incidents(self, since: datetime, until: datetime) -> list[Incident]:
        """Those that were open in a time, the newest first, without those that are part of another one.

        One more than a page draws: so it knows that there are more.

        Raises `StoreUnavailable`.
        """
        query = partial(stored_incidents.open_between, since=since, until=until, limit=PAGE_INCIDENTS + 1)
        found: list[Incident] = await self._store_client.read(query)
        return found

    def _chosen(self, read: Sequence[Event], correlation: str) -> Iterator[Event]:
        for event in read:
            if not correlation or has_correlation(event, correlation, self._keys):
                yield event

    def _added(self, events: Sequence[Event], graph: Graph, correlations: dict[int, str]) -> Iterator[None]:
        for event in events:
            graph.add(event)
            value = next((value for _, value, _ in facts_of(event, self._keys)), None)
            if value is not None:
                correlations[event.id] = value
            yield None

    @staticmethod
    def _links(graph: Graph) -> Iterator[EventLink]:
        for number, edge in enumerate(graph.edges()):
            if number == MOST_LINKS:
                return
            yield EventLink(edge.source, edge.target, edge.by)
