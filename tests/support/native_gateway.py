"""A gateway's native application on a real socket, over a fleet of plain values that a test can change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ClientSession, web

from tentaculo.config import schema
from tentaculo.config.accepted_tokens import AuthSettings
from tentaculo.model import access
from tentaculo.model.early_warning import EarlyWarning
from tentaculo.model.event import Event, LogPage, LogRequest
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.health import (
    BreakerState,
    BreakerView,
    ConcurrencyView,
    Endpoint,
    EndpointView,
    Health,
    ProbeResult,
    SeenCertificate,
    ServiceView,
    StateChange,
)
from tentaculo.model.history import HOUR, Histogram, HistorySummary, Period, RouteCount, Tally, UptimeShare, bucket
from tentaculo.model.incident import Acknowledgement, ChannelTotals, Incident, MaintenanceWindow, Note
from tentaculo.model.incident_past import (
    FoundIncidents,
    IncidentContext,
    IncidentSearch,
    IncidentSpan,
    IncidentSummary,
    IncidentTotals,
    incident_days,
)
from tentaculo.model.page import PageInfo, RouteRules, ServedConfiguration
from tentaculo.model.precursor import PrecursorReport
from tentaculo.model.request_phases import Phases
from tentaculo.model.service_rates import RecentRates, UsualRates, recent_end
from tentaculo.model.target_group import GroupView
from tentaculo.model.timeline import Timeline, TimelineRequest
from tentaculo.security.sessions import Sessions
from tentaculo.security.sign_in import SignInResult
from tentaculo.server.listeners import Phase
from tentaculo.server.native_routes import NativeRoute, Slices
from tentaculo.tasks import TaskGroup
from tentaculo.web import (
    acknowledgements,
    alert_status,
    badges,
    early_warnings,
    events_page,
    history,
    incident_feed,
    incident_list,
    incident_page,
    incidents,
    monitoring,
    page_routes,
    service_page,
    sign_in,
    status_page,
    statuspage_api,
    vx11,
)
from tentaculo.web.languages import language_of
from tentaculo.web.live import LivePages, Wait
from tentaculo.web.metrics_sources import AlertStats, Load, ReloadView
from tentaculo.web.rendering import Renderer
from tentaculo.web.viewer import Viewer
from tests.support.server import NoSessionStore, serving_application

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
TOKEN = "right-token"
ORIGIN = "http://localhost:8020"
PAGE = "https://status.example.org"
HISTORIES = {"madre": "madre", "switch": "switch", "operator": "operator", "operator-backend": "operator"}
"""By name and alias: the services that have a history."""
CLOSED = BreakerView(BreakerState.CLOSED, 0)
OPEN = BreakerView(BreakerState.OPEN, 5, NOW - timedelta(seconds=4), "connection refused 5 times in a row", 6.0)


def view(
    name: str, port: int = 8001, health: Health = Health.UP, breaker: BreakerView = CLOSED, **changes: Any
) -> ServiceView:
    """A service that is up, with `changes`."""
    values: dict[str, Any] = {
        "reason": "answered 200 in 4 ms",
        "since": NOW - timedelta(hours=3),
        "upstreams": (EndpointView(Endpoint(name, "10.9.8.7", port), health, breaker),),
        "checked_at": NOW - timedelta(seconds=3),
        "code": 200,
        "latency_ms": 4,
        "endpoint": "/health",
        "snippet": '{"status":"ok"}',
    }
    return ServiceView(name=name, port=port, health=health, **{**values, **changes})


UNSEEN: dict[str, Any] = {"checked_at": None, "code": None, "latency_ms": None, "endpoint": None, "snippet": None}


def fleet() -> tuple[ServiceView, ...]:
    """One service in each state."""
    return (
        view("madre", 8001),
        view("switch", 8002, Health.DEGRADED, reason="slow: 1840 ms"),
        view("hermes", 8003, Health.DOWN, reason="connection refused", code=None, latency_ms=None, snippet=None),
        view("mcp", 8006, breaker=OPEN),
        view("shubniggurath", 8007, Health.OFF, reason="off on purpose", **UNSEEN),
        view("spawner", 8008, Health.MAINTENANCE, reason="a new disk"),
        view("operator", 8011, Health.UNKNOWN, reason="not checked yet", **UNSEEN),
    )


def event(number: int, **changes: Any) -> Event:
    """One event."""
    values: dict[str, Any] = {
        "id": number,
        "source": "madre",
        "type": "spawn_success",
        "payload": {"child": f"d-{number}"},
        "received_at": NOW - timedelta(seconds=20),
    }
    return Event(**{**values, **changes})


def past() -> dict[str, HistorySummary]:
    """A day of madre with one bad hour and requests, and of switch since noon with probes only."""
    last = int(NOW.timestamp()) // HOUR * HOUR

    def hour(service: str, ago: int, *, failed: int = 0, requests: int = 0) -> Period:
        probes = Tally(360 - failed, failed, Histogram({bucket(0.004): 360 - failed}))
        answers = Tally(requests, 0, Histogram({bucket(0.012 * (ago + 1)): requests}) if requests else Histogram())
        return Period(service, HOUR, last - ago * HOUR, probes, answers)

    return {
        "madre": HistorySummary(
            tuple(hour("madre", ago, failed=90 if ago == 5 else 0, requests=50) for ago in range(23, -1, -1)),
            UptimeShare(777_510 / 777_600),
            last - 89 * 24 * HOUR,
        ),
        "switch": HistorySummary((hour("switch", 1), hour("switch", 0)), UptimeShare(1.0, by_time=False), last - HOUR),
        "unheard-of": HistorySummary((), UptimeShare(1.0)),
    }


@dataclass
class Books:
    """Incidents and maintenance in memory, as `tentaculo.gateway.incident_repository` gives them to the API."""

    incidents: list[Incident] = field(default_factory=list)
    notes: dict[int, list[Note]] = field(default_factory=dict)
    planned: list[MaintenanceWindow] = field(default_factory=list)
    problem: str | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def find(self, **query: Any) -> Any:
        self.asked.append(query)
        return SimpleNamespace(incidents=tuple(self.incidents[: query["limit"]]), problem=self.problem)

    async def get(self, number: int) -> tuple[Incident, tuple[Note, ...]] | None:
        found = [one for one in self.incidents if one.id == number]
        return (found[0], tuple(self.notes.get(number, ()))) if found else None

    async def add_note(self, number: int, author: str, text: str) -> Note | None:
        if self.problem is not None:
            raise Problem(Failure.STORE_UNAVAILABLE, self.problem)
        if await self.get(number) is None:
            return None
        note = Note(len(self.notes) + 1, number, NOW, author, text)
        self.notes.setdefault(number, []).append(note)
        return note

    async def acknowledge(self, number: int, author: str, note: str) -> Acknowledgement | None:
        if self.problem is not None:
            raise Problem(Failure.STORE_UNAVAILABLE, self.problem)
        for place, one in enumerate(self.incidents):
            if one.id == number:
                if not one.is_open:
                    raise Problem(Failure.INCIDENT_OVER)
                made = Acknowledgement(1, number, NOW, author, note)
                self.incidents[place] = replace(one, acknowledged=made)
                return made
        return None

    async def windows(self) -> tuple[list[MaintenanceWindow], str | None]:
        return self.planned, self.problem

    async def add_window(self, window: MaintenanceWindow) -> MaintenanceWindow:
        self.planned.append(replace(window, id=len(self.planned) + 1))
        return self.planned[-1]

    async def end_window(self, number: int) -> MaintenanceWindow | None:
        found = [one for one in self.planned if one.id == number]
        return replace(found[0], ends_at=NOW) if found else None


class Channels:
    """The channels of alerts; none has done anything."""

    kinds: Mapping[str, str] = {"duty": "webhook"}

    async def read(self) -> tuple[list[ChannelTotals], str | None]:
        return [ChannelTotals("duty")], None


@dataclass
class State:
    """What the application answers from."""

    services: tuple[ServiceView, ...] = field(default_factory=fleet)
    events: list[Event] = field(default_factory=list)
    lost: str | None = None
    odd_table: str | None = None
    phase: Phase = Phase.READY
    now: datetime = NOW
    clock: float = 1000.0
    fault: Exception | None = None
    """Raised by the store when it is asked for events."""
    hangs: bool = False
    hangs_everywhere: bool = False
    """Whether no query of the pages ends."""
    changes: list[StateChange] = field(default_factory=list)
    earlier: dict[str, Incident] = field(default_factory=dict)
    just_before: dict[str, Event] = field(default_factory=dict)
    dependencies: dict[str, Sequence[str]] = field(default_factory=dict)
    results: dict[str, Sequence[ProbeResult]] = field(default_factory=dict)
    seen_certificates: dict[str, Sequence[SeenCertificate]] = field(default_factory=dict)
    concurrency: dict[str, ConcurrencyView] = field(default_factory=dict)
    phases: dict[str, dict[str, tuple[int, Phases]]] = field(default_factory=dict)
    groups: list[GroupView] = field(default_factory=list)
    rules: list[RouteRules] = field(default_factory=list)
    is_public: bool = True
    asked_for_incidents: int = 0
    stored_incidents: list[Incident] = field(default_factory=list)
    info: PageInfo = field(default_factory=PageInfo)
    viewer: Viewer = field(default_factory=Viewer)
    served: ServedConfiguration | None = None
    asked_for_past: list[TimelineRequest] = field(default_factory=list)
    log_page: LogPage | None = None
    """The page of the log, where it is not simply `events`."""
    asked_of_log: list[LogRequest] = field(default_factory=list)
    books: Books = field(default_factory=Books)
    tasks: TaskGroup = field(default_factory=lambda: TaskGroup("test"))
    live: LivePages = field(init=False)
    followers: int = 1024
    """Viewers that follow a page at once, at most."""
    wait: Wait = asyncio.sleep
    """Between two updates of the pages that are followed."""
    rest: Wait = asyncio.sleep
    """After each page that is rendered."""
    bodies: list[bytes] = field(default_factory=list)
    past: dict[str, HistorySummary] = field(default_factory=past)
    rates: dict[str, RecentRates] = field(default_factory=dict)
    report: PrecursorReport = field(default_factory=lambda: PrecursorReport(NOW, NOW))
    route_counts: dict[str, dict[str, RouteCount]] = field(default_factory=dict)
    usual_rates: dict[str, UsualRates] = field(default_factory=dict)
    warnings: list[EarlyWarning] = field(default_factory=list)
    searched: list[IncidentSearch] = field(default_factory=list)
    page_host: str = PAGE
    log_name: str = "a1b2c3"
    in_memory: int = 1000
    """How many of the incidents are in memory too."""
    asked_for_history: list[tuple[str, int, int, int]] = field(default_factory=list)

    def listed(self) -> list[tuple[Incident, Sequence[Note]]]:
        """The incidents in memory, with their notes."""
        return [(one, self.books.notes.get(one.id, [])) for one in self.books.incidents[: self.in_memory]]

    @property
    def page_store(self) -> PageStore:
        """What the page reads."""
        return PageStore(self)

    def probes(self, service: str) -> Sequence[ProbeResult]:
        return self.results.get(service, ())

    def certificates(self, service: str) -> Sequence[SeenCertificate]:
        return self.seen_certificates.get(service, ())

    async def history(self, service: str, span: int, since: int, until: int) -> list[Period]:
        self.asked_for_history.append((service, span, since, until))
        if self.lost is not None:
            raise Problem(Failure.STORE_UNAVAILABLE, self.lost)
        return list(self.past[service].hours) if service in self.past else []

    async def recent(self, now: int, services: Sequence[str]) -> dict[str, RecentRates]:
        if self.lost is not None:
            raise Problem(Failure.STORE_UNAVAILABLE, self.lost)
        return {name: self.rates.get(name, RecentRates(recent_end(now), 0)) for name in services}

    async def read_warnings(self, services: Sequence[str] | None) -> list[EarlyWarning]:
        return [one for one in self.warnings if services is None or one.service in services]

    async def usual(self, now: int) -> dict[str, UsualRates]:
        return self.usual_rates

    async def routes(self, service: str, span: int, since: int, until: int) -> dict[str, RouteCount]:
        return self.route_counts.get(service, {})

    async def precursors(self, days: int, opened: datetime) -> PrecursorReport:
        if self.lost is not None:
            raise Problem(Failure.STORE_UNAVAILABLE, self.lost)
        return replace(self.report, since=self.report.until - timedelta(days=days))

    def traffic(self) -> Iterator[tuple[str, str, int, float]]:
        yield "madre", "2xx", 41, 1.5
        yield "madre", "5xx", 2, 0.25


@dataclass(frozen=True)
class PageStore:
    """The past of `state`, as `tentaculo.store.client` gives it to the status page."""

    state: State

    async def timeline(self, wanted: TimelineRequest) -> Timeline:
        state = self.state
        state.asked_for_past.append(wanted)
        if state.hangs:
            await asyncio.Event().wait()
        if state.fault is not None:
            raise state.fault
        if state.lost is not None:
            raise Problem(Failure.STORE_UNAVAILABLE, state.lost)
        changes: dict[str, tuple[StateChange, ...]] = {}
        for change in state.changes:
            changes[change.service] = (*changes.get(change.service, ()), change)
        periods = {name: past.hours for name, past in state.past.items() if name in wanted.detailed}
        incidents = tuple(one for one in state.books.incidents if one.part_of is None)
        return Timeline(changes, periods, incidents, tuple(state.events), state.earlier, state.just_before)

    async def past(self, now: int, services: Sequence[str]) -> dict[str, HistorySummary]:
        assert len(services) <= 100
        if self.state.hangs_everywhere:
            await asyncio.Event().wait()
        return {name: past for name, past in self.state.past.items() if name in services}

    async def recent(self, now: int, services: Sequence[str]) -> dict[str, RecentRates]:
        return await self.state.recent(now, services)

    async def history(self, service: str, span: int, since: int, until: int) -> list[Period]:
        return await self.state.history(service, span, since, until)

    async def routes(self, service: str, span: int, since: int, until: int) -> dict[str, RouteCount]:
        return await self.state.routes(service, span, since, until)


@dataclass(frozen=True)
class PageLog:
    """The log of `state`, as `tentaculo.gateway.event_reads` gives it to the page of events."""

    state: State

    async def page(self, wanted: LogRequest) -> LogPage:
        state = self.state
        state.asked_of_log.append(wanted)
        if state.lost is not None:
            raise Problem(Failure.STORE_UNAVAILABLE, state.lost)
        found = [one for one in state.events if wanted.wanted.matches(one)]
        found.sort(key=lambda one: one.happened_ms, reverse=True)
        return state.log_page or LogPage(tuple(found))

    async def incidents(self, since: datetime, until: datetime) -> list[Incident]:
        found = (one for one in self.state.books.incidents if one.part_of is None)
        return [one for one in found if one.started_at <= until and (one.ended_at or until) >= since]


@dataclass(frozen=True)
class IncidentPages:
    """The incidents of `state`, as `tentaculo.gateway.incident_reads` gives them to their pages."""

    state: State

    async def search(self, wanted: IncidentSearch) -> FoundIncidents:
        self.state.searched.append(wanted)
        await self._respond()
        known = [one for one in self.state.books.incidents if one.part_of is None]
        newest = sorted(known, key=lambda one: one.id, reverse=True)
        ended = [one for one in newest if not one.is_open and (wanted.before is None or one.id < wanted.before)]
        still_open = () if wanted.before is not None else tuple(one for one in newest if one.is_open)
        notes = {number: tuple(found) for number, found in self.state.books.notes.items()}
        return FoundIncidents(still_open, tuple(ended[:25]), len(ended) > 25, notes)

    async def summarise(
        self, since: datetime | None, service: str | None, first_day: int, now: datetime
    ) -> IncidentSummary:
        await self._respond()
        spans = [IncidentSpan(one.started_at, one.ended_at, one.severity) for one in self.state.books.incidents]
        known = range(first_day + 9, first_day + 90)
        days = incident_days(spans, self.state.books.planned, known, first_day, now)
        return IncidentSummary(IncidentTotals.of(spans, since, now), days)

    async def find(self, number: int) -> tuple[Incident, tuple[Note, ...]] | None:
        await self._respond()
        return await self.state.books.get(number)

    async def context(self, incident: Incident) -> IncidentContext:
        await self._respond()
        earlier = [one for one in self.state.books.incidents if one.root == incident.root and one.id < incident.id]
        before = [one for one in self.state.events if one.received_at < incident.started_at]
        return IncidentContext(tuple(earlier), tuple(before))

    async def timeline(self, wanted: TimelineRequest) -> Timeline:
        return await self.state.page_store.timeline(wanted)

    async def _respond(self) -> None:
        if self.state.hangs:
            await asyncio.Event().wait()
        if self.state.lost is not None:
            raise Problem(Failure.STORE_UNAVAILABLE, self.state.lost)


@dataclass(frozen=True)
class Gateway:
    """The running application: what it answers from, where it is, and a client for it."""

    state: State
    host: str
    port: int
    client: ClientSession
    server: web.Server


def published_routes(state: State, slices: Slices) -> list[NativeRoute]:
    """What other programs read."""

    async def stored(limit: int) -> list[Incident]:
        state.asked_for_incidents += 1
        if state.lost is not None:
            raise Problem(Failure.STORE_UNAVAILABLE, state.lost)
        return state.stored_incidents[:limit]

    api = statuspage_api.StatuspageApi(
        views=lambda: state.services,
        incidents=lambda: [(one, state.books.notes.get(one.id, [])) for one in state.books.incidents],
        stored=stored,
        windows=lambda: state.books.planned,
        store_problem=lambda: state.lost,
        info=state.info,
        url=lambda: "https://status.example.org/status",
        now=lambda: state.now,
        slices=slices,
        is_public=state.is_public,
        clock=lambda: state.clock,
    )
    shown = badges.Badges(
        names={**{one.name: one.name for one in state.services}, "herald": "hermes"},
        views=lambda: state.services,
        view=lambda name: next(one for one in state.services if one.name == name),
        store=state.page_store,
        store_problem=lambda: state.lost,
        info=state.info,
        now=lambda: state.now,
        slices=slices,
        is_public=state.is_public,
        clock=lambda: state.clock,
    )
    return page_routes.published_routes(api.show, shown.show_overall, shown.show_service)


def application(state: State) -> web.Application:
    app = web.Application()
    slices = Slices()
    live = state.live = LivePages(state.tasks, state.followers, lambda seconds: state.wait(seconds))
    renderer = Renderer(
        slices, lambda: state.clock, live=live, info=state.info, wait=lambda seconds: state.rest(seconds)
    )
    page = status_page.StatusPage(
        views=lambda: state.services,
        store=state.page_store,
        usual=state.usual,
        warnings=state.read_warnings,
        incidents=state.listed,
        windows=lambda: state.books.planned,
        store_problem=lambda: state.lost,
        started_at=lambda: NOW - timedelta(hours=52),
        served=lambda: state.served,
        now=lambda: state.now,
        clock=lambda: state.clock,
        slices=slices,
        renderer=renderer,
        info=state.info,
        viewer=lambda request: replace(state.viewer, language=language_of(request)),
    )
    services = service_page.ServicePage(
        view=lambda name: next(one for one in state.services if one.name == name),
        dependencies=state.dependencies,
        records=state,
        certificate_days=dict.fromkeys((one.name for one in state.services), 14),
        concurrency=lambda name: state.concurrency.get(name),
        phases=lambda name: state.phases.get(name, {}),
        groups=lambda: state.groups,
        rules=lambda _: state.rules,
        store=state.page_store,
        warnings=state.read_warnings,
        usual=state.usual,
        incidents=state.listed,
        store_problem=lambda: state.lost,
        now=lambda: state.now,
        renderer=renderer,
        info=state.info,
        viewer=lambda request: replace(state.viewer, language=language_of(request)),
        clock=lambda: state.clock,
    )

    events = events_page.EventsPage(
        log=PageLog(state),
        precursors=state.precursors,
        names={name: one.name for one in state.services for name in (one.name, *one.aliases)},
        incidents=lambda: state.books.incidents,
        windows=lambda: state.books.planned,
        store_problem=lambda: state.lost,
        now=lambda: state.now,
        slices=slices,
        renderer=renderer,
        viewer=lambda request: replace(state.viewer, language=language_of(request)),
        info=state.info,
        clock=lambda: state.clock,
    )
    shared: dict[str, Any] = {
        "store": IncidentPages(state),
        "listed": state.listed,
        "store_problem": lambda: state.lost,
        "now": lambda: state.now,
        "renderer": renderer,
        "info": state.info,
        "viewer": lambda request: replace(state.viewer, language=language_of(request)),
        "clock": lambda: state.clock,
    }
    names = {one.name: one.name for one in state.services}
    incident_pages = incident_list.IncidentList(names=names, **shared)
    feed = incident_feed.IncidentFeed(
        incidents=incident_pages.newest,
        page=lambda: f"{state.page_host}/status",
        log_name=lambda: state.log_name,
        renderer=renderer,
        info=state.info,
    )
    incident = incident_page.IncidentPage(services=names, precursors=state.precursors, **shared)

    async def attempt(token: str, address: str) -> SignInResult:
        return SignInResult("wrong")

    form = sign_in.SignInPage(
        attempt, Sessions(NoSessionStore(), bool), renderer=renderer, viewer=shared["viewer"], needs_token=True
    )

    async def ingest(request: web.Request) -> web.Response:
        state.bodies.append(await request.read())
        return web.Response(status=201)

    async def fail(request: web.Request) -> web.Response:
        raise RuntimeError("the secret is 1234")

    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half of ")
        raise Problem(Failure.INTERNAL)

    app.add_routes(published_routes(state, slices))
    app.add_routes(page_routes.sign_in_routes(form.show, form.submit, form.sign_out))
    app.add_routes(
        page_routes.routes(
            page.show, services.show, incident_pages.show, incident.show, feed.show, events.show, list(names), root=True
        )
    )
    names = {"hermes": "hermes", "herald": "hermes", "mcp": "mcp"}
    app.add_routes(
        incidents.routes(state.books, names, state, state.precursors, lambda: state.now, slices, state.tasks)
    )
    app.add_routes(
        vx11.routes(
            views=lambda: state.services,
            port=lambda: 8000,
            now=lambda: state.now,
            slices=slices,
            clock=lambda: state.clock,
        )
    )
    app.add_routes(acknowledgements.routes(state.books, state.tasks))
    app.add_routes(alert_status.routes(Channels()))
    app.add_routes(early_warnings.routes(state.read_warnings))
    app.add_routes(history.routes(HISTORIES, state, state.usual, lambda: state.now, slices))
    app.add_routes(
        monitoring.liveness_routes(
            phase=lambda: state.phase, store_problem=lambda: state.lost, services_problem=lambda: state.odd_table
        )
    )
    app.add_routes(
        monitoring.metrics_routes(
            views=lambda: state.services,
            store_problem=lambda: state.lost,
            dropped=lambda: 7,
            traffic=state.traffic,
            phases=tuple,
            hedges=lambda: [("madre", 5, 2)],
            load=lambda: Load(12, 5, 20),
            alert_stats=lambda: AlertStats(2, {"duty": (5, 1, 3)}),
            reload=lambda: ReloadView(3, False, 1_700_000_000.5),
            slices=slices,
            concurrency=lambda name: state.concurrency.get(name),
        )
    )
    app.add_routes(
        [
            NativeRoute("POST", "/events/ingest", ingest, access.EVENTS_WRITE, None),
            NativeRoute("GET", "/debug/fail", fail, access.EVERY_TOKEN, None),
            NativeRoute("GET", "/debug/break-off", break_off, access.EVERY_TOKEN, None),
            NativeRoute("GET", "/ws", ingest, access.SOCKET, None),
        ]
    )
    return app


@asynccontextmanager
async def running(state: State, auth: AuthSettings | None = None) -> AsyncIterator[Gateway]:
    """Serve it as production does, on a free port of the loopback."""
    cors = schema.CorsSettings(origins=(ORIGIN,))
    async with (
        serving_application(
            application(state),
            token=TOKEN,
            auth=auth,
            cors=cors,
            names={**HISTORIES, **{one.name: one.name for one in state.services}},
        ) as served,
        ClientSession(f"http://{served.host}:{served.port}") as client,
    ):
        try:
            yield Gateway(state, served.host, served.port, client, served.server)
        finally:
            state.live.stop()
            await state.tasks.close()


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """The native application on a real socket."""
    async with running(State()) as served:
        yield served
