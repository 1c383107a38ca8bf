"""What the pages of the incidents read from the database."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from tentaculo.model.incident import Incident, Note
from tentaculo.model.incident_past import FoundIncidents, IncidentContext, IncidentSearch, IncidentSummary
from tentaculo.model.timeline import Timeline, TimelineRequest
from tentaculo.store import incident_search as store
from tentaculo.store.client import StoreClient


class IncidentReads:
    """Reads on the thread of queries. Each method raises `StoreUnavailable` while the database cannot be read."""

    def __init__(self, store_client: StoreClient) -> None:
        self._store_client = store_client

    def __repr__(self) -> str:
        return "<IncidentReads>"

    async def search(self, wanted: IncidentSearch) -> FoundIncidents:
        """A part of the incidents that are looked for."""
        found: FoundIncidents = await self._store_client.read(partial(store.search, wanted=wanted))
        return found

    async def summarise(
        self, since: datetime | None, service: str | None, first_day: int, now: datetime
    ) -> IncidentSummary:
        """The incidents since a time, and each day since one, counted from 1970; of one service or of all."""
        query = partial(store.summarise, since=since, service=service, first_day=first_day, now=now)
        found: IncidentSummary = await self._store_client.read(query)
        return found

    async def find(self, number: int) -> tuple[Incident, tuple[Note, ...]] | None:
        """One incident with its notes; None where there is none."""
        found: tuple[Incident, tuple[Note, ...]] | None = await self._store_client.read(
            partial(store.find, number=number)
        )
        return found

    async def context(self, incident: Incident) -> IncidentContext:
        """What it is compared with."""
        found: IncidentContext = await self._store_client.read(partial(store.context, incident=incident))
        return found

    async def timeline(self, wanted: TimelineRequest) -> Timeline:
        """States, latencies and events of a span."""
        return await self._store_client.timeline(wanted)
