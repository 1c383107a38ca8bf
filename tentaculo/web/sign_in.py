"""`/status/sign-in` and `/status/sign-out`: a browser signs in to the status pages with a token, and out again."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from tentaculo import __version__
from tentaculo.server.caller import SENDER, SIGN_IN, session_of
from tentaculo.web.forms import SignedOutError, own_page, read_form, read_own_form, see_other, to_sign_in
from tentaculo.web.rendering import NEXT, WRITTEN, Renderer
from tentaculo.web.viewer import Viewer

_STATUS = {"wrong": 403, "forbidden": 403, "limited": 429, "unavailable": 503}
_ENTERED = "in"
"""In the address to which a sign-in leads first: there it shows whether the browser has kept the cookie."""


class SignInResult(Protocol):
    """What became of an attempt, as `tentaculo.security.sign_in` has it."""

    @property
    def outcome(self) -> str:
        """`accepted`, `wrong`, `forbidden`, `limited` or `unavailable`."""

    @property
    def session_id(self) -> str:
        """For the cookie, where it was accepted."""

    @property
    def wait(self) -> float:
        """Seconds until the address may try again, where it was limited."""


class EndsSessions(Protocol):
    """Who keeps the sessions."""

    async def end(self, session: Any, /) -> bool:
        """End one now; False where the database has not removed it yet."""


class SignInPage:
    """The form, and what becomes of it."""

    def __init__(
        self,
        attempt: Callable[[str, str], Awaitable[SignInResult]],
        sessions: EndsSessions,
        *,
        renderer: Renderer,
        viewer: Callable[[web.Request], Viewer],
        needs_token: bool,
    ) -> None:
        """`attempt` takes a token and the client's address. `needs_token` is whether tokens are checked at all."""
        self._attempt = attempt
        self._sessions = sessions
        self._renderer = renderer
        self._viewer = viewer
        self._needs_token = needs_token

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The handler of `GET /status/sign-in`."""
        said = request.query.get("said", "")
        wanted = request.query.get("next") or _path(request.headers.get(hdrs.REFERER, ""))
        if said == _ENTERED and session_of(request) is not None:
            raise see_other(own_page(wanted))
        if said == _ENTERED and not request[SENDER].inbound.fields.session_cookies:
            return await self._respond(request, wanted, "no_cookie")
        return await self._respond(request, wanted, said if said in ("out", "late") else "")

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """The handler of `POST /status/sign-in`. The dispatcher has checked the Origin."""
        fields, sender = await read_form(request), request[SENDER]
        wanted = fields.get("next", "")
        if not self._needs_token:
            raise see_other(own_page(wanted))
        result = await self._attempt(fields.get("token", "").strip(), sender.address)
        if result.outcome != "accepted":
            wait = math.ceil(result.wait / 60)
            response = await self._respond(request, wanted, result.outcome, status=_STATUS[result.outcome], wait=wait)
            if wait:
                response.headers[hdrs.RETRY_AFTER] = str(math.ceil(result.wait))
            return response
        if (session := session_of(request)) is not None:
            await self._sessions.end(session)
        response = see_other(SIGN_IN, said=_ENTERED, next=own_page(wanted))
        response.headers[hdrs.SET_COOKIE] = sender.set_cookie(result.session_id)
        raise response

    async def show_unsaved(self, request: web.Request, fields: Mapping[str, str]) -> web.StreamResponse:
        """The response to a form of a page whose sign-in has ended: the sign-in, with a text that was not saved."""
        written = fields.get("text") or fields.get("note") or ""
        if not written.strip():
            raise to_sign_in(fields)
        return await self._respond(request, fields.get("next", ""), "ended", status=403, written=written)

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        """The handler of `POST /status/sign-out`."""
        try:
            await read_own_form(request)
        except SignedOutError as error:
            raise to_sign_in(error.fields) from None
        is_gone = await self._sessions.end(session_of(request))
        response = see_other(SIGN_IN, said="out" if is_gone else "late")
        response.headers[hdrs.SET_COOKIE] = request[SENDER].set_cookie("")
        raise response

    async def _respond(
        self, request: web.Request, wanted: str, said: str, *, status: int = 200, wait: int = 0, written: str = ""
    ) -> web.StreamResponse:
        viewer = self._viewer(request)

        async def context() -> dict[str, Any]:
            return {
                "viewer": viewer,
                "said": said,
                "wait": wait,
                "next": NEXT,
                "written": WRITTEN,
                "needs_token": self._needs_token,
                "version": __version__,
            }

        key = ("sign-in", viewer, said, wait)
        return await self._renderer.respond(
            request, key, "sign_in.html", context, status=status, fill={NEXT: own_page(wanted), WRITTEN: written}
        )


def _path(referer: str) -> str:
    """Path and query of the page whose link was followed."""
    try:
        parts = urlsplit(referer)
    except ValueError:
        return ""
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
