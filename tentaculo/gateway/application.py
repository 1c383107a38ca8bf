"""The application of the gateway's own paths: joins each group of native routes with the parts that it uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from tentaculo.config.schema import Config
from tentaculo.events import endpoints as event_routes
from tentaculo.events.hub import Hub
from tentaculo.events.pipeline import Cardinality
from tentaculo.events.tail import EventTail
from tentaculo.gateway import admin_routes, api_documents, pages, publishing, reload_route, sign_in_page, token_list
from tentaculo.gateway.admin_routes import AdminParts
from tentaculo.gateway.authentication import Authentication
from tentaculo.gateway.coordination import Coordination
from tentaculo.gateway.health_service import HealthService
from tentaculo.gateway.incident_service import IncidentService
from tentaculo.gateway.loading import LoadedLater
from tentaculo.gateway.reload_route import reload_view
from tentaculo.gateway.reloading import Reloads
from tentaculo.gateway.service_clocks import ClockWatch
from tentaculo.gateway.token_watch import Record
from tentaculo.gateway.usual_cache import UsualCache
from tentaculo.gateway.warnings_reader import warnings_reader
from tentaculo.health.steady_clock import SteadyClock
from tentaculo.model.health import ConcurrencyView, ServiceView
from tentaculo.model.incident import Incident
from tentaculo.model.precursor import PrecursorReport
from tentaculo.model.request_phases import Phases
from tentaculo.model.target_group import GroupView
from tentaculo.net.turns import TurnScheduler
from tentaculo.security.cors import CorsPolicy
from tentaculo.security.tickets import LIFETIME
from tentaculo.server.caller import audit_to
from tentaculo.server.listeners import Phase
from tentaculo.server.native_routes import Slices, set_headers
from tentaculo.store.client import StoreClient
from tentaculo.tasks import TaskGroup
from tentaculo.web import (
    acknowledgements,
    actions,
    alert_status,
    auth,
    early_warnings,
    history,
    incidents,
    monitoring,
    vx11,
)
from tentaculo.web.metrics_sources import AlertStats, HedgesOfServices, LeaseView, LimitedRequests, Load, PhasesOfRoutes

if TYPE_CHECKING:
    from tentaculo.gateway.precursor_reports import PrecursorReports


class Parts(msgspec.Struct, frozen=True):
    """The parts of a gateway that its own paths use."""

    config: Config
    clock: SteadyClock
    store_client: StoreClient
    usual: UsualCache
    health_service: HealthService
    incident_service: IncidentService
    follows: Coordination | None
    """Where the leader's incidents are known, in a worker that is not the leader."""
    hub: Hub
    cardinality: Cardinality
    """How many events of each type there were; outlives a reload."""
    tail: EventTail
    clocks: ClockWatch
    authentication: Authentication
    turns: TurnScheduler
    tasks: TaskGroup
    worker: int | None
    """Number of this process, where there are several."""
    lease: Callable[[], LeaseView] | None
    """The lease of several machines, where there can be several."""
    record: Record
    """Records an event of the gateway's own."""
    on_drain: list[Callable[[], None]]
    """Called when the gateway stops: what ends streams."""
    reloads: Reloads
    admin: AdminParts
    phase: Callable[[], Phase]
    port: Callable[[], int]
    page: Callable[[], str]
    """The URL of the status page, for links from elsewhere."""
    load: Callable[[], Load]
    traffic: Callable[[], Iterable[tuple[str, str, int, float]]]
    """Totals of requests, as `RequestStats.totals` gives them."""
    concurrency: Callable[[str], ConcurrencyView | None]
    """How this process limits the requests of a service in flight."""
    groups: Callable[[], Sequence[GroupView]]
    """The groups of targets as they are now in this process."""
    recent_phases: Callable[[str], Mapping[str, tuple[int, Phases]]]
    """Of the last five minutes, as `RequestStats.recent_phases` gives them."""
    phases: PhasesOfRoutes
    """Their phases, as `RequestStats.phases` gives them."""
    hedges: HedgesOfServices
    """Those that were hedged, as `Proxy.hedges` gives them."""
    limited: LimitedRequests
    """Those that limits refused, as `RequestLimits.refused` counts them."""


def application(parts: Parts, cors: CorsPolicy) -> web.Application:
    """The gateway's own paths, with the headers that every response of theirs has."""
    config, store_client, now = parts.config, parts.store_client, parts.clock.now
    board, names = parts.health_service.board, parts.config.names
    books = parts.incident_service.incident_repository
    slices = Slices()
    audit = audit_to(parts.record)

    def load_reports() -> PrecursorReports:
        # Loaded when somebody asks: the statistics take some hundred kilobytes.
        from tentaculo.gateway.precursor_reports import PrecursorReports

        return PrecursorReports(config, store_client.read, parts.tasks, now)

    reports = LoadedLater(load_reports)

    async def precursors(days: int, opened: datetime) -> PrecursorReport:
        return await (await reports.get()).report(days, opened)

    def views() -> Iterator[ServiceView]:
        return map(board.service, config.services)

    async def newest(limit: int) -> Sequence[Incident]:
        return (await books.find(limit=limit)).incidents

    sign_in = sign_in_page.SignInPages(config, parts.authentication.sign_in, parts.authentication.sessions, slices)
    groups = [
        pages.routes(
            config,
            board,
            store_client,
            parts.usual,
            parts.follows or books,
            parts.follows.not_listed if parts.follows else int,
            precursors,
            parts.concurrency,
            parts.recent_phases,
            page=parts.page,
            clock=parts.clock,
            slices=slices,
            tasks=parts.tasks,
            on_drain=parts.on_drain,
            worker=parts.worker,
            groups=parts.groups,
            reloads=parts.reloads,
            refused=parts.limited,
        ),
        sign_in.routes(),
        publishing.routes(
            config,
            board,
            store_client,
            parts.follows or books,
            newest,
            page=parts.page,
            now=now,
            slices=slices,
        ),
        api_documents.routes(config),
        reload_route.routes(parts.reloads, cors),
        token_list.routes(
            lambda: parts.authentication.tokens,
            parts.authentication.watch.last_uses,
            lambda: store_client.shown_problem,
            now,
        ),
        admin_routes.routes(parts.reloads.layers, store_client, cors, parts.admin, now),
        auth.routes(parts.authentication.tickets.issue, LIFETIME, now),
        vx11.routes(views=views, port=parts.port, now=now, slices=slices),
        event_routes.routes(
            config,
            parts.hub,
            store_client.store_events,
            parts.tail,
            parts.tasks,
            log_name=store_client.log_name,
            precursors=precursors,
            offsets=parts.clocks.offsets,
            cardinality=parts.cardinality,
            turn=parts.turns.turn,
        ),
        history.routes(names, store_client, parts.usual.usual, now, slices),
        monitoring.heartbeat_routes(
            # By the configuration: what is prepared for a reload is not followed by the monitor yet.
            {name: own for name, own in names.items() if config.services[own].probe.kind == "heartbeat"},
            parts.health_service.beat,
        ),
        incidents.routes(books, names, store_client, precursors, now, slices, parts.tasks, audit),
        early_warnings.routes(warnings_reader(store_client, now)),
        alert_status.routes(parts.incident_service.alert_channels),
        acknowledgements.routes(books, parts.tasks, audit),
        actions.routes(books, names, config.page.time_zone, now, parts.tasks, sign_in.show_unsaved, audit),
        monitoring.liveness_routes(
            phase=parts.phase,
            store_problem=lambda: store_client.shown_problem,
            services_problem=lambda: store_client.services_problem,
        ),
        monitoring.metrics_routes(
            views=views,
            store_problem=lambda: store_client.shown_problem,
            dropped=lambda: store_client.dropped,
            traffic=parts.traffic,
            phases=parts.phases,
            groups=parts.groups,
            hedges=parts.hedges,
            callers=lambda: parts.authentication.tokens.counts(),
            limited=parts.limited,
            load=parts.load,
            reload=lambda: reload_view(parts.reloads.last),
            alert_stats=lambda: AlertStats(*parts.incident_service.numbers()),
            slices=slices,
            lease=parts.lease,
            concurrency=parts.concurrency,
            worker=parts.worker,
        ),
    ]
    app = web.Application(client_max_size=config.limits.events_body)
    set_headers(app, cors)
    for group in groups:
        app.add_routes(group)
    return app
