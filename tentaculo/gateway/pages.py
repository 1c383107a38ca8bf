"""The status pages, given what they show. Their code takes a megabyte, and is loaded when somebody opens one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aiohttp import web

from tentaculo.config.schema import Config
from tentaculo.gateway.loading import LoadedLater
from tentaculo.gateway.usual_cache import UsualCache
from tentaculo.gateway.warnings_reader import warnings_reader
from tentaculo.health.board import Board
from tentaculo.model.health import ConcurrencyView
from tentaculo.model.incident import Incident, MaintenanceWindow, Note
from tentaculo.model.page import PageInfo, RequestRule, RouteRules, ServiceInfo, Switched
from tentaculo.model.precursor import ReadPrecursors
from tentaculo.model.request_phases import Phases
from tentaculo.model.target_group import GroupView
from tentaculo.server.native_routes import NativeRoute, Slices
from tentaculo.server.route_table import ProxiedRoutes
from tentaculo.store.client import StoreClient
from tentaculo.tasks import TaskGroup
from tentaculo.web import page_routes

if TYPE_CHECKING:
    from tentaculo.gateway.reloading import Reloads
    from tentaculo.web.events_page import EventsPage
    from tentaculo.web.incident_feed import IncidentFeed
    from tentaculo.web.incident_list import IncidentList
    from tentaculo.web.incident_page import IncidentPage
    from tentaculo.web.live import LivePages
    from tentaculo.web.service_page import ServicePage
    from tentaculo.web.status_page import StatusPage


class Pages(NamedTuple):
    """The code of each kind of page."""

    overview: StatusPage
    services: ServicePage
    incidents: IncidentList
    incident: IncidentPage
    feed: IncidentFeed
    events: EventsPage


class _Streams:
    """Ends the streams of the pages, also where these are loaded later: a reload does not wait for that."""

    def __init__(self) -> None:
        self._live: LivePages | None = None
        self._have_ended = False

    def of(self, live: LivePages) -> None:
        """Those of the pages that were loaded."""
        self._live = live
        if self._have_ended:
            live.stop()

    def end(self) -> None:
        """End them, and accept no new one."""
        self._have_ended = True
        if self._live is not None:
            self._live.stop()


class IncidentsInMemory(Protocol):
    """Incidents and maintenance of this process, or of its leader."""

    def shown(self) -> Sequence[tuple[Incident, Sequence[Note]]]:
        """The open incidents, then the last that ended, with their notes."""
        ...

    def planned(self) -> Sequence[MaintenanceWindow]:
        """The open and planned maintenance windows."""
        ...


class PageClock(Protocol):
    """The time that the pages show."""

    started_at: datetime
    """When the gateway was started."""

    def now(self) -> datetime:
        """The current time in UTC."""
        ...


def page_info(config: Config) -> PageInfo:
    """What the operator says of the pages and of the services."""
    return PageInfo(
        config.page.title or "",
        config.page.time_zone,
        {
            name: ServiceInfo(
                one.about or "",
                one.owner or "",
                one.group or "",
                one.runbook or "",
                Switched(one.override.enabled, one.override.until) if one.override is not None else None,
            )
            for name, one in config.services.items()
        },
    )


def route_rules(
    config: Config, refused: Callable[[], Mapping[tuple[str, str, str, str], int]], name: str
) -> list[RouteRules]:
    """What limits the requests of each route of a service, as configured, and how many it has refused."""
    counts, found = Counter[str](), list[RouteRules]()
    for (service, label, *_), count in refused().items():
        if service == name:
            counts[label] += count
    for route in config.services[name].routes:
        rules = config.limits.routes if route.limits is None else route.limits
        if rules or route.allow or route.deny:
            found.append(
                RouteRules(
                    route.label,
                    tuple(RequestRule(one.per, one.rate or "", one.burst, one.in_flight) for one in rules),
                    tuple(map(str, route.allow or ())),
                    tuple(map(str, route.deny)),
                    counts[route.label],
                )
            )
    return found


def routes(
    config: Config,
    board: Board,
    store_client: StoreClient,
    usual: UsualCache,
    listed: IncidentsInMemory,
    not_listed: Callable[[], int],
    precursors: ReadPrecursors,
    concurrency: Callable[[str], ConcurrencyView | None],
    phases: Callable[[str], Mapping[str, tuple[int, Phases]]],
    *,
    page: Callable[[], str],
    clock: PageClock,
    slices: Slices,
    tasks: TaskGroup,
    on_drain: list[Callable[[], None]],
    worker: int | None = None,
    groups: Callable[[], Sequence[GroupView]] = tuple,
    reloads: Reloads | None = None,
    refused: Callable[[], Mapping[tuple[str, str, str, str], int]] = dict,
) -> list[NativeRoute]:
    """The overview, the incidents, the page of events, a page for each service, and `/` where no route takes it.

    `page` returns the URL of the overview, and `not_listed` how many incidents are open beside those that `listed` shows.
    `on_drain` is called when the gateway stops. `worker` is the number of this process, where there are several. `reloads`
    know which configuration is served; None where no gateway serves one. `refused` has the requests that limits refused, by
    service, route, kind of the limit and who is counted apart.
    """

    now, streams = clock.now, _Streams()
    on_drain.append(streams.end)

    def load() -> Pages:
        from tentaculo.gateway.event_reads import EventReads
        from tentaculo.gateway.incident_reads import IncidentReads
        from tentaculo.web.events_page import EventsPage
        from tentaculo.web.incident_feed import IncidentFeed
        from tentaculo.web.incident_list import IncidentList
        from tentaculo.web.incident_page import IncidentPage
        from tentaculo.web.live import LivePages
        from tentaculo.web.rendering import Renderer
        from tentaculo.web.service_page import ServicePage
        from tentaculo.web.status_page import StatusPage
        from tentaculo.web.viewer import viewer_of

        info = page_info(config)
        live = LivePages(tasks, config.limits.followers)
        streams.of(live)
        renderer = Renderer(slices, info=info, live=live)
        reads = IncidentReads(store_client)
        viewer = partial(viewer_of, is_public=config.auth.open_status, can_sign_in=config.auth.enabled)
        overview = StatusPage(
            views=lambda: map(board.service, config.services),
            store=store_client,
            usual=usual.usual,
            warnings=warnings_reader(store_client, now),
            incidents=listed.shown,
            windows=listed.planned,
            not_listed=not_listed,
            store_problem=lambda: store_client.shown_problem,
            started_at=lambda: clock.started_at,
            served=lambda: reloads.last.shown if reloads is not None else None,
            now=now,
            slices=slices,
            renderer=renderer,
            info=info,
            viewer=viewer,
        )
        services = ServicePage(
            view=board.service,
            dependencies={name: service.depends_on for name, service in config.services.items()},
            records=board.probe_log,
            certificate_days={name: service.probe.certificate_days for name, service in config.services.items()},
            concurrency=concurrency,
            phases=phases,
            worker=worker,
            store=store_client,
            warnings=warnings_reader(store_client, now),
            usual=usual.usual,
            incidents=listed.shown,
            store_problem=lambda: store_client.shown_problem,
            now=now,
            renderer=renderer,
            info=info,
            viewer=viewer,
            groups=groups,
            rules=partial(route_rules, config, refused),
        )
        incidents = IncidentList(
            names=config.names,
            store=reads,
            listed=listed.shown,
            store_problem=lambda: store_client.shown_problem,
            now=now,
            renderer=renderer,
            info=info,
            viewer=viewer,
        )
        incident = IncidentPage(
            services=config.services,
            store=reads,
            listed=listed.shown,
            precursors=precursors,
            store_problem=lambda: store_client.shown_problem,
            now=now,
            renderer=renderer,
            info=info,
            viewer=viewer,
        )
        feed = IncidentFeed(
            incidents=incidents.newest,
            page=page,
            log_name=store_client.log_name,
            renderer=renderer,
            info=info,
        )
        events = EventsPage(
            log=EventReads(store_client, config.events.correlate, Slices()),
            precursors=precursors,
            names=config.names,
            incidents=lambda: [one for one, _ in listed.shown()],
            windows=listed.planned,
            store_problem=lambda: store_client.shown_problem,
            now=now,
            slices=slices,
            renderer=renderer,
            info=info,
            viewer=viewer,
        )
        return Pages(overview, services, incidents, incident, feed, events)

    pages = LoadedLater(load)

    async def show_overview(request: web.Request) -> web.StreamResponse:
        return await (pages.loaded or await pages.get()).overview.show(request)

    async def show_service(name: str, request: web.Request) -> web.StreamResponse:
        return await (pages.loaded or await pages.get()).services.show(name, request)

    async def show_incidents(request: web.Request) -> web.StreamResponse:
        return await (pages.loaded or await pages.get()).incidents.show(request)

    async def show_feed(request: web.Request) -> web.StreamResponse:
        return await (pages.loaded or await pages.get()).feed.show(request)

    async def show_events(request: web.Request) -> web.StreamResponse:
        return await (pages.loaded or await pages.get()).events.show(request)

    async def show_incident(request: web.Request) -> web.StreamResponse:
        return await (pages.loaded or await pages.get()).incident.show(request)

    # Where a name's own route takes "/", that name is not the gateway's, and "/" there never reaches this.
    root = not ProxiedRoutes(config).takes("/", config.server.hosts)
    return page_routes.routes(
        show_overview, show_service, show_incidents, show_incident, show_feed, show_events, config.services, root=root
    )
