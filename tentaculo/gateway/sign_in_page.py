"""Signing in to the status pages, given what it needs. The code of the page is loaded when somebody opens it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from tentaculo.config.schema import Config
from tentaculo.gateway.loading import LoadedLater
from tentaculo.gateway.pages import page_info
from tentaculo.security.sessions import Sessions
from tentaculo.security.sign_in import SignIn
from tentaculo.server.native_routes import Slices
from tentaculo.web import page_routes

if TYPE_CHECKING:
    from tentaculo.web.sign_in import SignInPage


def routes(config: Config, sign_in: SignIn, sessions: Sessions, slices: Slices) -> list[web.RouteDef]:
    """The form that signs in, what becomes of it, and the sign-out."""

    def load() -> SignInPage:
        from tentaculo.web.rendering import Renderer
        from tentaculo.web.sign_in import SignInPage
        from tentaculo.web.viewer import viewer_of

        return SignInPage(
            sign_in.attempt,
            sessions,
            renderer=Renderer(slices, info=page_info(config)),
            viewer=partial(viewer_of, is_public=config.auth.open_status, can_sign_in=config.auth.enabled),
            needs_token=config.auth.enabled,
        )

    page = LoadedLater(load)

    async def show(request: web.Request) -> web.StreamResponse:
        return await (await page.get()).show(request)

    async def submit(request: web.Request) -> web.StreamResponse:
        return await (await page.get()).submit(request)

    async def sign_out(request: web.Request) -> web.StreamResponse:
        return await (await page.get()).sign_out(request)

    return page_routes.sign_in_routes(show, submit, sign_out)
