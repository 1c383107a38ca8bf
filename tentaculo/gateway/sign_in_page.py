"""Signing in to the status pages, given what it needs. The code of the page is loaded when somebody opens it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from tentaculo.config.schema import Config
from tentaculo.gateway.loading import LoadedLater
from tentaculo.gateway.pages import page_info
from tentaculo.security.sessions import Sessions
from tentaculo.security.sign_in import SignIn
from tentaculo.server.native_routes import NativeRoute, Slices
from tentaculo.web import page_routes

if TYPE_CHECKING:
    from tentaculo.web.sign_in import SignInPage


class SignInPages:
    """The form that signs in, what becomes of it, and the sign-out."""

    def __init__(self, config: Config, sign_in: SignIn, sessions: Sessions, slices: Slices) -> None:
        self._page = LoadedLater(partial(_load, config, sign_in, sessions, slices))

    def __repr__(self) -> str:
        return f"<SignInPages {self._page!r}>"

    def routes(self) -> list[NativeRoute]:
        """The routes."""
        return page_routes.sign_in_routes(self._show, self._submit, self._sign_out)

    async def show_unsaved(self, request: web.Request, fields: Mapping[str, str]) -> web.StreamResponse:
        """The response to a form, with these fields, of a page whose sign-in has ended."""
        return await (await self._page.get()).show_unsaved(request, fields)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return await (await self._page.get()).show(request)

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        return await (await self._page.get()).submit(request)

    async def _sign_out(self, request: web.Request) -> web.StreamResponse:
        return await (await self._page.get()).sign_out(request)


def _load(config: Config, sign_in: SignIn, sessions: Sessions, slices: Slices) -> SignInPage:
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
