"""The status pages of a gateway that does not run, made from its database."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import NamedTuple

from aiohttp import web

from tentaculo.config.environment import database_url
from tentaculo.config.schema import Config
from tentaculo.gateway import pages, publishing
from tentaculo.gateway.precursor_reports import PrecursorReports
from tentaculo.gateway.usual_cache import UsualCache
from tentaculo.health.board import Board
from tentaculo.incidents.availability import MaintenanceCalendar
from tentaculo.model.health import GATEWAY_NAME, StateChange
from tentaculo.model.incident import Incident, MaintenanceWindow, Note
from tentaculo.net.tcp import local_url
from tentaculo.server.native_routes import Slices
from tentaculo.store import incidents, states
from tentaculo.store.client import StoreClient
from tentaculo.tasks import TaskGroup
from tentaculo.upstream.circuit_breaker import CircuitBreakers

_MOST_INCIDENTS = 500
_MOST_WINDOWS = 500
_SHOWN_ENDED = 5


class StoredPages(NamedTuple):
    """Where the pages are while they are served."""

    url: str
    at: datetime
    """When the gateway last ran: the pages show what it knew then."""


class _StoredIncidents:
    """Incidents and maintenance as the database has them."""

    def __init__(self, found: Sequence[Incident], windows: Sequence[MaintenanceWindow]) -> None:
        self._found = found
        self._windows = windows

    def shown(self) -> list[tuple[Incident, Sequence[Note]]]:
        """The open incidents, then the last that ended. Their notes are not for everybody."""
        whole = [one for one in self._found if one.part_of is None]
        ended = [one for one in whole if not one.is_open][:_SHOWN_ENDED]
        return [(one, ()) for one in (*(one for one in whole if one.is_open), *ended)]

    def planned(self) -> Sequence[MaintenanceWindow]:
        """The open and planned maintenance windows."""
        return self._windows

    async def newest(self, limit: int) -> Sequence[Incident]:
        """The last incidents."""
        return self._found[:limit]


@asynccontextmanager
async def serving_stored(config: Config, now: datetime) -> AsyncIterator[StoredPages]:
    """Serve the pages to this machine on a free port, as everybody may see them, while the context is open.

    Nothing is written to the database. Raises `StoreUnavailable` where it cannot be read.
    """
    config = config.replace(auth=config.auth.replace(open_status=True))
    store_client = StoreClient(database_url(config), only_reads=True)
    tasks = TaskGroup("stored pages")
    await store_client.start()
    try:
        at = min(await _last_run(store_client) or now, now)
        board, listed = await _read(config, store_client, at)
        runner = web.AppRunner(_application(config, board, listed, store_client, tasks, at), access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            yield StoredPages(local_url(host, port), at)
        finally:
            await runner.cleanup()
    finally:
        await tasks.close()
        await store_client.close()


class _StoppedClock:
    """The clock of pages as they were at `started_at`."""

    def __init__(self, started_at: datetime) -> None:
        self.started_at = started_at

    def now(self) -> datetime:
        """Always the same moment."""
        return self.started_at


async def _last_run(store_client: StoreClient) -> datetime | None:
    beats = await store_client.run(states.read_heartbeats)
    alive = beats.get(GATEWAY_NAME)
    return None if alive is None else alive.at


async def _read(config: Config, store_client: StoreClient, at: datetime) -> tuple[Board, _StoredIncidents]:
    """The states, incidents and maintenance of `at`."""

    def now() -> datetime:
        return at

    breakers = CircuitBreakers(config, time.monotonic, now, lambda *_: None)
    board = Board(config, now=now, breaker_view=breakers.view, traffic_view=breakers.traffic)
    changes: Sequence[StateChange] = await store_client.run(states.latest_changes)
    board.restore(changes, at)
    calendar = MaintenanceCalendar(config.maintenance, config.services)
    calendar.take(await store_client.run(partial(incidents.windows, after=at, limit=_MOST_WINDOWS)))
    for name, reason in calendar.reasons(at).items():
        board.set_maintenance(name, reason)
    found = await store_client.run(partial(incidents.newest, limit=_MOST_INCIDENTS, is_open=None))
    return board, _StoredIncidents(found, calendar.windows(at))


def _application(
    config: Config,
    board: Board,
    listed: _StoredIncidents,
    store_client: StoreClient,
    tasks: TaskGroup,
    at: datetime,
) -> web.Application:
    def now() -> datetime:
        return at

    slices = Slices()

    def page() -> str:
        return f"{config.alerts.page or local_url(*config.server.addresses[0])}/status"

    app = web.Application()
    app.add_routes(
        pages.routes(
            config,
            board,
            store_client,
            UsualCache(store_client.usual, tuple(config.services)),
            listed,
            int,
            PrecursorReports(config, store_client.read, tasks, now).report,
            lambda _: None,
            lambda _: {},
            page=page,
            clock=_StoppedClock(at),
            slices=slices,
            tasks=tasks,
            on_drain=[],
        )
    )
    app.add_routes(
        publishing.routes(config, board, store_client, listed, listed.newest, page=page, now=now, slices=slices)
    )
    return app
