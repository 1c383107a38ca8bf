"""The page of events: the log on an axis of time and as a list, with filters, and what comes before incidents.

Everybody may see incidents and changes of state, without what a service said. All other events need sign-in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Final, NamedTuple, Protocol

from aiohttp import web

from tentaculo import __version__
from tentaculo.model.event import PAGE_INCIDENTS, Event, LogPage, LogRequest
from tentaculo.model.incident import Incident, MaintenanceWindow
from tentaculo.model.page import PageInfo
from tentaculo.model.precursor import DEFAULT_DAYS, PrecursorReport, ReadPrecursors
from tentaculo.model.text import printable
from tentaculo.server.native_routes import Slices
from tentaculo.web import event_axis, event_text, precursor_rows, wording
from tentaculo.web.event_axis import Chart, Tie
from tentaculo.web.events_query import KINDS, EventsQuery
from tentaculo.web.languages import Language
from tentaculo.web.past_reader import PastReader
from tentaculo.web.precursor_rows import Statistics, statistics
from tentaculo.web.rendering import Renderer, icon
from tentaculo.web.timeline import RANGES
from tentaculo.web.viewer import Viewer
from tentaculo.web.wording import ISOLATE, POP, foreign

KEPT: Final = 2.0
"""Seconds for which the newest page of the log is reused. Others, and those of a search, are kept longer."""
MOST_KEPT: Final = 8
"""Pages of the log that are kept: one takes some 200 KB at most."""
REPORT_WAIT: Final = 0.2
"""Seconds that the page waits for the statistics: other pages wait for it."""
MOST_TIED: Final = 4
"""Connections that one event of the list names."""
MOST_JSON: Final = 60_000
"""Characters of JSON on one page."""


class EventQueries(Protocol):
    """What the page reads from the database. Each may fail or hang without harm."""

    async def page(self, wanted: LogRequest, /) -> LogPage:
        """A part of the log."""
        ...

    async def incidents(self, since: datetime, until: datetime, /) -> Sequence[Incident]:
        """The incidents of a time, the newest first."""
        ...


class Joined(NamedTuple):
    """What an event of the list is connected with."""

    href: str
    text: str
    by: str
    is_statistical: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One event of the list."""

    id: int
    at: datetime
    clock: str
    """Which clock its time is of, in words; empty where that need not be said."""
    symbol: str
    tone: str
    title: str
    type: str
    """Empty where the title says it."""
    source: str
    severity: str
    """What a service said; of the gateway's own events the title says it."""
    reason: str
    """Of one of the gateway's own events."""
    members: list[event_text.Member]
    more_members: int
    json: str
    json_left: int
    joined: list[Joined]
    more_joined: int
    correlation: str
    """A value that others may share with it, as it came."""
    correlation_text: str
    incident: int | None
    group: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """What the database said, ready to be shown."""

    chart: Chart
    rows: list[Row]
    older: int | None
    newer: int | None
    is_cut: bool
    has_more_incidents: bool
    """Whether there are more than are drawn."""
    types: list[str]
    sources: list[str]
    services: list[str]
    """Those that the events are about, or came from."""


class EventsPage:
    """The page. `names` gives the service of each name and alias; `incidents` and `windows` are in memory."""

    def __init__(
        self,
        *,
        log: EventQueries,
        precursors: ReadPrecursors,
        names: Mapping[str, str],
        incidents: Callable[[], Sequence[Incident]],
        windows: Callable[[], Sequence[MaintenanceWindow]],
        store_problem: Callable[[], str | None],
        now: Callable[[], datetime],
        slices: Slices,
        renderer: Renderer,
        viewer: Callable[[web.Request], Viewer],
        info: PageInfo,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` is the time in UTC, `clock` is monotonic, `viewer` says for whom a page is."""
        self._log = log
        self._precursors = precursors
        self._names = names
        self._names_of: dict[str, list[str]] = {}
        for name, service in names.items():
            self._names_of.setdefault(service, []).append(name)
        self._incidents = incidents
        self._windows = windows
        self._store_problem = store_problem
        self._now = now
        self._slices = slices
        self._renderer = renderer
        self._viewer = viewer
        self._info = info
        self._newest = PastReader[Found](store_problem, clock, kept=KEPT, most=MOST_KEPT)
        self._others = PastReader[Found](store_problem, clock, most=MOST_KEPT)
        self._reports = PastReader[PrecursorReport](store_problem, clock, kept=KEPT, wait=REPORT_WAIT)

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The handler of `GET /status/events`. Raises `Problem` (400)."""
        viewer = self._viewer(request)
        query = EventsQuery.read(request.query, self._names, self._info.zone, is_signed_in=viewer.is_signed_in)
        return await self._renderer.respond(
            request,
            (viewer, "events", query),
            "events.html",
            lambda: self._context(viewer, query),
            status=200 if self._is_known(query.service) else 404,
        )

    def _is_known(self, service: str) -> bool:
        return not service or service in self._names_of

    async def _context(self, viewer: Viewer, query: EventsQuery) -> dict[str, Any]:
        """Everything that the template names."""
        now, t = self._now(), viewer.texts
        report = await self._report() if viewer.is_signed_in else None
        key = (query, viewer, None if report is None else report.until)
        reader = self._newest if query.is_at_end and not query.is_search else self._others
        found = None
        if self._is_known(query.service):
            found = await reader.read(key, lambda: self._read(query, viewer, report, now))
        shown = await self._slices.collect(statistics(report, t)) if report is not None else []
        said: Statistics | None = shown[-1] if shown else None
        rows = found.rows if found is not None else []
        return {
            "viewer": viewer,
            "title": self._info.heading(t("events.title")),
            "icon": icon("off"),
            "now": now,
            "at": f"{self._info.local(now):%H:%M}",
            "query": query,
            "json_link": query.json_link(now, self._names_of) if viewer.is_signed_in else "",
            "kinds": [key for key, one in KINDS.items() if viewer.is_signed_in or one.is_public],
            "ranges": list(RANGES.values()),
            "services": wording.choices(self._names_of),
            "no_service": "" if self._is_known(query.service) else printable(query.service, 80) or "?",
            "found": found,
            "chart": found.chart if found is not None else None,
            "days": [(day, list(own)) for day, own in groupby(rows, lambda row: self._info.local(row.at).date())],
            "lead": _lead(query, found, t) if found is not None else "",
            "statistics": said,
            "windows": self._marks(found.chart, t) if found is not None else [],
            "database": self._store_problem(),
            "version": __version__,
        }

    async def _report(self) -> PrecursorReport | None:
        """What comes before incidents; None while it is being computed, or cannot be."""
        opened = max(
            (one.started_at for one in self._incidents()), default=datetime.min.replace(tzinfo=self._now().tzinfo)
        )
        return await self._reports.read(opened, lambda: self._precursors(DEFAULT_DAYS, opened))

    async def _read(self, query: EventsQuery, viewer: Viewer, report: PrecursorReport | None, now: datetime) -> Found:
        wanted = query.request(now, self._names_of, is_signed_in=viewer.is_signed_in)
        page = await self._log.page(wanted)
        events = page.events
        axis = event_axis.axis_of(
            events,
            query.since(now),
            query.until(now),
            is_begin=page.older is None,
            is_end=page.newer is None and query.before is None,
            zone=self._info.zone,
        )
        since, until = (datetime.fromtimestamp(seconds, now.tzinfo) for seconds in (axis.since, axis.until))
        known = {one.id: one for one in await self._log.incidents(since, until)}
        known |= {
            one.id: one for one in self._incidents() if one.id in known or (one.is_open and one.started_at < until)
        }
        incidents = sorted(known.values(), key=lambda one: one.started_at, reverse=True)[:PAGE_INCIDENTS]
        ties = list(_ties(page, {one.id for one in incidents}, report, viewer.texts))
        # Fifty events with hundreds of connections take 5 ms.
        chart = await asyncio.to_thread(event_axis.draw, axis, events, incidents, ties, self._names, now, viewer.texts)
        rows = _Rows(page, chart, ties, incidents, self._info, viewer)
        made = await self._slices.collect(rows)
        return Found(
            chart,
            made,
            page.older,
            page.newer,
            page.is_cut,
            len(known) > PAGE_INCIDENTS,
            sorted({event.type for event in events if len(event.type) <= 128})[:30],
            sorted({event.source for event in events if len(event.source) <= 128})[:30],
            sorted({service for event in events if (service := event_axis.service_of(event, self._names))}),
        )

    def _marks(self, chart: Chart, t: Language) -> list[dict[str, Any]]:
        """The maintenance on the axis."""
        axis = chart.axis
        return [
            {
                "at": one.starts_at,
                "x": axis.percent(one.starts_at),
                "width": axis.width(one.starts_at, min(one.ends_at, chart.until)),
                "text": t(
                    "overview.maintenance_of",
                    services=t.listed(one.services) or t("overview.every_service"),
                ),
            }
            for one in self._windows()
            if one.starts_at < chart.until and one.ends_at > chart.since
        ]


def _lead(query: EventsQuery, found: Found, t: Language) -> str:
    """How many events are shown, and of which time."""
    count = len(found.rows)
    if not count and found.is_cut:
        return t("events.stopped")
    if not count:
        return t("events.nothing_found" if query.is_filtered else "events.nothing_happened")
    key = "events.count_in_time"
    if found.older is not None:
        key = "events.newest_count" if query.is_at_end else "events.count"
    tied = sum(bool(row.joined) for row in found.rows)
    said = t(key, count=count)
    return f"{said} {t('events.connected', count=tied)}" if tied > 1 else said


def _ties(page: LogPage, incidents: set[int], report: PrecursorReport | None, t: Language) -> Iterator[Tie]:
    """What connects the events of the page with each other and with `incidents`."""
    for link in page.links:
        yield Tie(link.source, link.target, printable(link.by, 80))
    ids = {event.id for event in page.events}
    for event in page.events:
        if (number := event_text.incident_of(event)) in incidents and number is not None:
            yield Tie(event.id, number, "incident", to_incident=True)
    for service in report.services.values() if report is not None else ():
        for one in service.precursors:
            if one.is_claimed:
                for number, last in one.before.items():
                    if last in ids and number in incidents:
                        yield Tie(
                            last,
                            number,
                            precursor_rows.sentence(service, one, t),
                            is_statistical=True,
                            to_incident=True,
                        )


class _Rows:
    """The rows of the list, each made when it is asked for."""

    def __init__(
        self,
        page: LogPage,
        chart: Chart,
        ties: Sequence[Tie],
        incidents: Sequence[Incident],
        info: PageInfo,
        viewer: Viewer,
    ) -> None:
        self._t = viewer.texts
        self._page = page
        self._info = info
        self._chart = chart
        self._is_signed_in = viewer.is_signed_in
        self._incidents = {one.id: one for one in incidents}
        self._events = {event.id: event for event in page.events}
        self._room = MOST_JSON
        self._ties: dict[int, list[Tie]] = {}
        for tie in ties:
            self._ties.setdefault(tie.source, []).append(tie)
            if not tie.to_incident:
                self._ties.setdefault(tie.target, []).append(tie)

    def _joined(self, event: int, tie: Tie) -> Joined:
        if tie.to_incident:
            return self._to_incident(tie)
        return self._to_event(tie, tie.target if tie.source == event else tie.source)

    def _to_event(self, tie: Tie, other: int) -> Joined:
        event = self._events[other]
        text = f"{ISOLATE}{event_text.title(event, self._t)}{POP}, {self._info.local(event_axis.happened_at(event)):%H:%M:%S}"
        return Joined(f"#event-{other}", text, self._t("events.same", what=foreign(tie.by, 400)), tie.is_statistical)

    def _to_incident(self, tie: Tie) -> Joined:
        root = printable(self._incidents[tie.target].root, 80)
        text = foreign(tie.by, 400) if tie.is_statistical else ""
        return Joined(
            f"/status/incidents/{tie.target}", self._t("events.incident_of", root=root), text, tie.is_statistical
        )

    def __iter__(self) -> Iterator[Row]:
        for event in self._page.events:
            yield self._row(event)

    def _row(self, event: Event) -> Row:
        symbol, tone = event_text.sign(event)
        title = event_text.title(event, self._t)
        type_ = printable(event.type, 120)
        ties = self._ties.get(event.id, [])
        joined = [self._joined(event.id, tie) for tie in ties[:MOST_TIED]]
        found, more, text, left = list[event_text.Member](), 0, "", 0
        if self._is_signed_in:
            found, more = event_text.members(event, self._t)
            if self._room > 0:
                text, left = event_text.whole_json(event)
                self._room -= len(text)
        correlation = self._page.correlations.get(event.id, "") if self._is_signed_in else ""
        severity = event.severity if isinstance(event.severity, str) else ""
        return Row(
            event.id,
            event_axis.happened_at(event),
            _clock(event, self._t),
            symbol,
            tone,
            title,
            "" if type_ == title else type_,
            printable(event.source, 60),
            "" if event_text.is_own(event) or severity.lower() in ("", "info") else printable(severity, 20),
            event_text.private_reason(event, self._t)
            if self._is_signed_in
            else event_text.public_reason(event, self._t),
            found,
            more,
            text,
            left,
            joined,
            len(ties[MOST_TIED:]),
            correlation,
            printable(correlation, 60),
            event_text.incident_of(event),
            self._chart.groups.get(event.id),
        )


def _clock(event: Event, t: Language) -> str:
    """How exact the time of an event is, in words."""
    if event.corrected is not None:
        width = event.corrected.width_ms
        exact = f"{width} ms" if width < 1000 else f"{t.number(width / 1000, 1)} s"
        return t("events.clock_exact", width=exact)
    if event_text.is_own(event):
        return ""
    if event.stated_ms is not None:
        return t("events.clock_unknown")
    return t("events.clock_receipt")
