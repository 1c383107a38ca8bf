"""The paths of the status pages. It loads none of their code, which a gateway needs only when somebody opens one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import partial

from aiohttp import hdrs, web

from tentaculo.model import access
from tentaculo.model.failure import Failure, Problem
from tentaculo.server.native_routes import NativeRoute

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def lead_here(request: web.Request) -> web.Response:
    """The handler of `GET /`, where no route takes it."""
    return web.Response(status=302, headers={hdrs.LOCATION: "/status"})


def routes(
    show_overview: Callable[[web.Request], Awaitable[web.StreamResponse]],
    show_service: Callable[[str, web.Request], Awaitable[web.StreamResponse]],
    show_incidents: Callable[[web.Request], Awaitable[web.StreamResponse]],
    show_incident: Callable[[web.Request], Awaitable[web.StreamResponse]],
    show_feed: Callable[[web.Request], Awaitable[web.StreamResponse]],
    show_events: Callable[[web.Request], Awaitable[web.StreamResponse]],
    services: Collection[str],
    *,
    root: bool,
) -> list[NativeRoute]:
    """The overview, the page of events, the list of incidents and its feed, a page for each of them and for each of `services`.

    With `root` also `/`, which leads to the overview.
    """

    async def show_known(request: web.Request) -> web.StreamResponse:
        name = request.match_info["service"]
        if name not in services:
            raise Problem(Failure.NOT_FOUND)
        return await show_service(name, request)

    shown = [
        NativeRoute("GET", "/status", show_overview, access.STATUS_PAGES),
        NativeRoute("GET", "/status/incidents", show_incidents, access.STATUS_PAGES),
        NativeRoute("GET", "/status/incidents/{id}", show_incident, access.STATUS_PAGES),
        NativeRoute("GET", "/status/incidents.atom", show_feed, access.STATUS_PAGES),
        NativeRoute("GET", "/status/events", show_events, access.STATUS_PAGES),
        NativeRoute("GET", "/status/services/{service}", show_known, access.STATUS_PAGES),
    ]
    return [NativeRoute("GET", "/", lead_here, access.EVERYBODY), *shown] if root else shown


def sign_in_routes(show: Handler, submit: Handler, sign_out: Handler) -> list[NativeRoute]:
    """The form that signs in, what becomes of it, and the sign-out."""
    return [
        NativeRoute("GET", "/status/sign-in", show, access.EVERYBODY),
        NativeRoute("POST", "/status/sign-in", submit, access.EVERYBODY, reads_body=True),
        NativeRoute("POST", "/status/sign-out", sign_out, access.EVERYBODY, reads_body=True),
    ]


def published_routes(
    show_document: Callable[[str, web.Request], Awaitable[web.Response]],
    show_badge: Callable[[str, web.Request], Awaitable[web.Response]],
    show_service_badge: Callable[[str, web.Request], Awaitable[web.Response]],
) -> list[NativeRoute]:
    """The documents in Statuspage's form, whose clients take `/status` as the address of the page; and the badges."""

    def document(name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        return partial(show_document, name)

    return [
        NativeRoute("GET", "/status/api/v2/summary.json", document("summary"), access.STATUS_PAGES),
        NativeRoute("GET", "/status/api/v2/status.json", document("status"), access.STATUS_PAGES),
        NativeRoute("GET", "/status/api/v2/components.json", document("components"), access.STATUS_PAGES),
        NativeRoute("GET", "/status/api/v2/incidents.json", document("incidents"), access.STATUS_PAGES),
        NativeRoute("GET", "/status/api/v2/incidents/unresolved.json", document("unresolved"), access.STATUS_PAGES),
        NativeRoute("GET", "/status/api/v2/scheduled-maintenances.json", document("maintenances"), access.STATUS_PAGES),
        NativeRoute(
            "GET", "/status/api/v2/scheduled-maintenances/upcoming.json", document("upcoming"), access.STATUS_PAGES
        ),
        NativeRoute(
            "GET", "/status/api/v2/scheduled-maintenances/active.json", document("active"), access.STATUS_PAGES
        ),
        NativeRoute("GET", "/status/badge.svg", partial(show_badge, "svg"), access.STATUS_PAGES),
        NativeRoute("GET", "/status/badge.json", partial(show_badge, "json"), access.STATUS_PAGES),
        NativeRoute("GET", "/status/badges/{service}.svg", partial(show_service_badge, "svg"), access.STATUS_PAGES),
        NativeRoute("GET", "/status/badges/{service}.json", partial(show_service_badge, "json"), access.STATUS_PAGES),
    ]
