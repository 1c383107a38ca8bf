"""The paths of the status pages. It loads none of their code, which a gateway needs only when somebody opens one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import partial

from aiohttp import hdrs, web

from tentaculo.model.failure import Failure, Problem
from tentaculo.server.request_body import expect_later

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
) -> list[web.RouteDef]:
    """The overview, the page of events, the list of incidents and its feed, a page for each of them and for each of `services`.

    With `root` also `/`, which leads to the overview.
    """

    async def show_known(request: web.Request) -> web.StreamResponse:
        name = request.match_info["service"]
        if name not in services:
            raise Problem(Failure.NOT_FOUND)
        return await show_service(name, request)

    shown = [
        web.get("/status", show_overview),
        web.get("/status/incidents", show_incidents),
        web.get("/status/incidents/{id}", show_incident),
        web.get("/status/incidents.atom", show_feed),
        web.get("/status/events", show_events),
        web.get("/status/services/{service}", show_known),
    ]
    return [web.get("/", lead_here), *shown] if root else shown


def sign_in_routes(show: Handler, submit: Handler, sign_out: Handler) -> list[web.RouteDef]:
    """The form that signs in, what becomes of it, and the sign-out."""
    return [
        web.get("/status/sign-in", show),
        web.post("/status/sign-in", submit, expect_handler=expect_later),
        web.post("/status/sign-out", sign_out, expect_handler=expect_later),
    ]


def published_routes(
    show_document: Callable[[str, web.Request], Awaitable[web.Response]],
    show_badge: Callable[[str, web.Request], Awaitable[web.Response]],
    show_service_badge: Callable[[str, web.Request], Awaitable[web.Response]],
) -> list[web.RouteDef]:
    """The documents in Statuspage's form, whose clients take `/status` as the address of the page; and the badges."""

    def document(name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        return partial(show_document, name)

    return [
        web.get("/status/api/v2/summary.json", document("summary")),
        web.get("/status/api/v2/status.json", document("status")),
        web.get("/status/api/v2/components.json", document("components")),
        web.get("/status/api/v2/incidents.json", document("incidents")),
        web.get("/status/api/v2/incidents/unresolved.json", document("unresolved")),
        web.get("/status/api/v2/scheduled-maintenances.json", document("maintenances")),
        web.get("/status/api/v2/scheduled-maintenances/upcoming.json", document("upcoming")),
        web.get("/status/api/v2/scheduled-maintenances/active.json", document("active")),
        web.get("/status/badge.svg", partial(show_badge, "svg")),
        web.get("/status/badge.json", partial(show_badge, "json")),
        web.get("/status/badges/{service}.svg", partial(show_service_badge, "svg")),
        web.get("/status/badges/{service}.json", partial(show_service_badge, "json")),
    ]
