"""The routes of the status pages, given what they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from aiohttp import web

from tentaculo.config.schema import Config
from tentaculo.gateway.usual_cache import UsualCache
from tentaculo.health.board import Board
from tentaculo.model.incident import Incident, MaintenanceWindow, Note
from tentaculo.server.native_routes import Slices
from tentaculo.server.route_table import ProxiedRoutes
from tentaculo.store.client import StoreClient
from tentaculo.web import service_page, status_page
from tentaculo.web.rendering import Renderer


class IncidentsInMemory(Protocol):
    """Incidents and maintenance of this process, or of its leader."""

    def shown(self) -> Sequence[tuple[Incident, Sequence[Note]]]:
        """The open incidents, then the last that ended, with their notes."""
        ...

    def planned(self) -> Sequence[MaintenanceWindow]:
        """The open and planned maintenance windows."""
        ...


def page_routes(
    config: Config,
    board: Board,
    store_client: StoreClient,
    usual: UsualCache,
    listed: IncidentsInMemory,
    not_listed: Callable[[], int],
    *,
    started_at: Callable[[], datetime],
    now: Callable[[], datetime],
    slices: Slices,
) -> list[web.RouteDef]:
    """The overview, a page for each service, and `/` where no route takes it.

    `not_listed` returns how many incidents are open beside those that `listed` shows.
    """
    renderer = Renderer(slices)
    overview = status_page.StatusPage(
        views=lambda: map(board.service, config.services),
        store=store_client,
        usual=usual.usual,
        incidents=listed.shown,
        windows=listed.planned,
        not_listed=not_listed,
        store_problem=lambda: store_client.shown_problem,
        started_at=started_at,
        now=now,
        slices=slices,
        renderer=renderer,
    )
    services = service_page.ServicePage(
        view=board.service,
        dependencies={name: service.depends_on for name, service in config.services.items()},
        store=store_client,
        usual=usual.usual,
        incidents=listed.shown,
        store_problem=lambda: store_client.shown_problem,
        now=now,
        renderer=renderer,
        shows_addresses=not config.auth.open_status,
    )
    # Where a name's own route takes "/", that name is not the gateway's, and "/" there never reaches this.
    leads_here = not ProxiedRoutes(config).takes("/", config.server.hosts)
    return [*status_page.routes(overview, root=leads_here), *service_page.routes(services, config.services)]
