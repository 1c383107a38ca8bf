"""The paths of the status pages. It loads none of their code, which a gateway needs only when somebody opens one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from aiohttp import hdrs, web

from tentaculo.server.request_body import expect_later

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def lead_here(request: web.Request) -> web.Response:
    """The handler of `GET /`, where no route takes it."""
    return web.Response(status=302, headers={hdrs.LOCATION: "/status"})


def routes(
    show_overview: Callable[[web.Request], Awaitable[web.Response]],
    show_service: Callable[[str, web.Request], Awaitable[web.Response]],
    services: Iterable[str],
    *,
    root: bool,
) -> list[web.RouteDef]:
    """The overview, a page for each of `services`, and with `root` also `/`, which leads to the overview."""
    shown = [
        web.get("/status", show_overview),
        *(web.get(f"/status/services/{name}", partial(show_service, name)) for name in services),
    ]
    return [web.get("/", lead_here), *shown] if root else shown


def sign_in_routes(show: Handler, submit: Handler, sign_out: Handler) -> list[web.RouteDef]:
    """The form that signs in, what becomes of it, and the sign-out."""
    return [
        web.get("/status/sign-in", show),
        web.post("/status/sign-in", submit, expect_handler=expect_later),
        web.post("/status/sign-out", sign_out, expect_handler=expect_later),
    ]
