"""What other programs read of the status pages, given what it shows. Its code is loaded when one asks for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from aiohttp import web

from tentaculo.config.schema import Config
from tentaculo.gateway.loading import LoadedLater
from tentaculo.gateway.pages import IncidentsInMemory, page_info
from tentaculo.health.board import Board
from tentaculo.model.incident import Incident
from tentaculo.server.native_routes import NativeRoute, Slices
from tentaculo.store.client import StoreClient
from tentaculo.web import page_routes

if TYPE_CHECKING:
    from tentaculo.web.badges import Badges
    from tentaculo.web.statuspage_api import StatuspageApi


def routes(
    config: Config,
    board: Board,
    store_client: StoreClient,
    listed: IncidentsInMemory,
    newest: Callable[[int], Awaitable[Sequence[Incident]]],
    *,
    page: Callable[[], str],
    now: Callable[[], datetime],
    slices: Slices,
) -> list[NativeRoute]:
    """The documents in Statuspage's form, and the badges. `newest` reads so many of the last incidents.

    `page` returns the URL of the overview.
    """

    def load() -> tuple[StatuspageApi, Badges]:
        from tentaculo.web.badges import Badges
        from tentaculo.web.statuspage_api import StatuspageApi

        info, is_public = page_info(config), config.auth.open_status
        documents = StatuspageApi(
            views=lambda: map(board.service, config.services),
            incidents=listed.shown,
            stored=newest,
            windows=listed.planned,
            store_problem=lambda: store_client.shown_problem,
            info=info,
            url=page,
            now=now,
            slices=slices,
            is_public=is_public,
        )
        badges = Badges(
            names=config.names,
            views=lambda: map(board.service, config.services),
            view=board.service,
            store=store_client,
            store_problem=lambda: store_client.shown_problem,
            info=info,
            now=now,
            slices=slices,
            is_public=is_public,
        )
        return documents, badges

    published = LoadedLater(load)

    async def show_document(name: str, request: web.Request) -> web.Response:
        return await (await published.get())[0].show(name, request)

    async def show_badge(form: str, request: web.Request) -> web.Response:
        return await (await published.get())[1].show_overall(form, request)

    async def show_service_badge(form: str, request: web.Request) -> web.Response:
        return await (await published.get())[1].show_service(form, request)

    return page_routes.published_routes(show_document, show_badge, show_service_badge)
