"""The paths of the status pages. It loads none of their code, which a gateway needs only when somebody opens one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import partial

from aiohttp import hdrs, web

from tentaculo.model import access
from tentaculo.model.failure import Failure, Problem
from tentaculo.server.native_routes import NativeRoute
from tentaculo.server.openapi import Operation

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
        NativeRoute("GET", "/status", show_overview, access.STATUS_PAGES, None),
        NativeRoute("GET", "/status/incidents", show_incidents, access.STATUS_PAGES, None),
        NativeRoute("GET", "/status/incidents/{id}", show_incident, access.STATUS_PAGES, None),
        NativeRoute("GET", "/status/incidents.atom", show_feed, access.STATUS_PAGES, _describe_feed),
        NativeRoute("GET", "/status/events", show_events, access.STATUS_PAGES, None),
        NativeRoute("GET", "/status/services/{service}", show_known, access.STATUS_PAGES, None),
    ]
    return [NativeRoute("GET", "/", lead_here, access.EVERYBODY, None), *shown] if root else shown


def sign_in_routes(show: Handler, submit: Handler, sign_out: Handler) -> list[NativeRoute]:
    """The form that signs in, what becomes of it, and the sign-out."""
    return [
        NativeRoute("GET", "/status/sign-in", show, access.EVERYBODY, None),
        NativeRoute("POST", "/status/sign-in", submit, access.EVERYBODY, None),
        NativeRoute("POST", "/status/sign-out", sign_out, access.EVERYBODY, None),
    ]


def published_routes(
    show_document: Callable[[str, web.Request], Awaitable[web.Response]],
    show_badge: Callable[[str, web.Request], Awaitable[web.Response]],
    show_service_badge: Callable[[str, web.Request], Awaitable[web.Response]],
) -> list[NativeRoute]:
    """The documents in Statuspage's form, whose clients take `/status` as the address of the page; and the badges."""

    def document(path: str, name: str) -> NativeRoute:
        show = partial(show_document, name)
        describe = partial(_describe_document, name)
        return NativeRoute("GET", f"/status/api/v2/{path}.json", show, access.STATUS_PAGES, describe)

    def badges(form: str) -> list[NativeRoute]:
        overall, one = partial(show_badge, form), partial(show_service_badge, form)
        describe = partial(_describe_badge, form)
        return [
            NativeRoute("GET", f"/status/badge.{form}", overall, access.STATUS_PAGES, partial(describe, is_one=False)),
            NativeRoute(
                "GET", f"/status/badges/{{service}}.{form}", one, access.STATUS_PAGES, partial(describe, is_one=True)
            ),
        ]

    return [
        document("summary", "summary"),
        document("status", "status"),
        document("components", "components"),
        document("incidents", "incidents"),
        document("incidents/unresolved", "unresolved"),
        document("scheduled-maintenances", "maintenances"),
        document("scheduled-maintenances/upcoming", "upcoming"),
        document("scheduled-maintenances/active", "active"),
        *badges("svg"),
        *badges("json"),
    ]


def _describe_document(name: str) -> Operation:
    from tentaculo.web.published_openapi import document_operation

    return document_operation(name)


def _describe_badge(form: str, *, is_one: bool) -> Operation:
    from tentaculo.web.published_openapi import badge_operation

    return badge_operation(form, is_one=is_one)


def _describe_feed() -> Operation:
    from tentaculo.web.published_openapi import feed_operation

    return feed_operation()
