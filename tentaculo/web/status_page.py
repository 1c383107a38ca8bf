"""The status page: what a person sees of the fleet. It works without JavaScript, and waits for no service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Protocol

from aiohttp import web

from tentaculo import __version__
from tentaculo.model.early_warning import EarlyWarning
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.health import ServiceView
from tentaculo.model.history import HistorySummary
from tentaculo.model.incident import Incident, MaintenanceWindow, Note
from tentaculo.model.page import PageInfo, ServedConfiguration
from tentaculo.model.service_rates import RecentRates, UsualRates
from tentaculo.model.timeline import Timeline, TimelineRequest
from tentaculo.server.native_routes import Slices
from tentaculo.web import activity, incident_words, languages, overview, summary, warning_rows, wording
from tentaculo.web.overview import BriefRow, Fleet, Past, Row, Section
from tentaculo.web.past_reader import PastReader
from tentaculo.web.rendering import Renderer, icon
from tentaculo.web.timeline import HEIGHT, RANGES, USUAL_Y, WIDTH, Range
from tentaculo.web.viewer import Viewer, public_incidents, public_timeline, public_view

_MOST_DETAILED = overview.MOST_TROUBLES + overview.MOST_QUIET
"""Services whose latencies are read."""
_MOST_PASTS = 100
"""Services whose availability over 90 days is read: that of a thousand would keep the database busy for seconds."""
_LONGEST_FILTER = 80


async def _leave() -> None:
    """Leave the event loop to others: of a thousand services the next step takes milliseconds."""
    await asyncio.sleep(0)


class PastQueries(Protocol):
    """What the page reads from the database. Each may fail or hang without harm."""

    async def timeline(self, wanted: TimelineRequest, /) -> Timeline:
        """What is drawn on the axis of time."""
        ...

    async def past(self, now: int, services: Sequence[str], /) -> Mapping[str, HistorySummary]:
        """The summaries of the history of services, by name."""
        ...

    async def recent(self, now: int, services: Sequence[str], /) -> Mapping[str, RecentRates]:
        """The rates of services in the last minutes, by name."""
        ...


@dataclass(frozen=True, slots=True)
class PageQuery:
    """What the query string asks for."""

    range: Range | None
    """None where it is not said: three hours while something fails, else a day."""
    sort: str
    wanted: str
    group: str

    @classmethod
    def read(cls, query: Mapping[str, str], groups: Sequence[str]) -> PageQuery:
        """Raises `Problem` (400) for a value that is none. Other parameters are ignored: links carry such."""
        key, sort, group = query.get("range"), query.get("sort", "state"), query.get("group", "")
        if key is not None and key not in RANGES:
            raise Problem(Failure.BAD_REQUEST, f"range may be {', '.join(RANGES)}.")
        if sort not in overview.SORTS:
            raise Problem(Failure.BAD_REQUEST, f"sort may be {', '.join(overview.SORTS)}.")
        if group and group not in groups:
            raise Problem(Failure.BAD_REQUEST, "group must be the name of a group." if groups else "There is no group.")
        wanted = query.get("filter", "").strip()[:_LONGEST_FILTER]
        return cls(None if key is None else RANGES[key], sort, wanted, group)


class StatusPage:
    """The overview of all services.

    `views` gives every service, one after the other. `usual` is what is usual for each service at this hour, and `warnings`
    reads the early warnings; both may fail or hang as the queries of `store` may. `incidents` gives the open incidents, then the last that ended, each with its
    notes, and `windows` the current and planned maintenance; both are in memory. `store_problem` is None while the
    database can be written. `now` is the time in UTC, `clock` is monotonic.
    """

    def __init__(
        self,
        *,
        views: Callable[[], Iterable[ServiceView]],
        store: PastQueries,
        usual: Callable[[int], Awaitable[Mapping[str, UsualRates]]],
        warnings: Callable[[Sequence[str] | None], Awaitable[Sequence[EarlyWarning]]],
        incidents: Callable[[], Sequence[tuple[Incident, Sequence[Note]]]],
        windows: Callable[[], Sequence[MaintenanceWindow]],
        store_problem: Callable[[], str | None],
        started_at: Callable[[], datetime],
        now: Callable[[], datetime],
        slices: Slices,
        renderer: Renderer,
        info: PageInfo,
        viewer: Callable[[web.Request], Viewer],
        clock: Callable[[], float] = time.monotonic,
        not_listed: Callable[[], int] = int,
        served: Callable[[], ServedConfiguration | None] = lambda: None,
    ) -> None:
        """`viewer` says for whom a page is; `not_listed` returns how many incidents are open beside those of `incidents`.
        `served` says which configuration is served; None where no gateway serves one."""
        self._views = views
        self._slices = slices
        self._store = store
        self._usual = usual
        self._warnings = warnings
        self._incidents = incidents
        self._windows = windows
        self._not_listed = not_listed
        self._served = served
        self._store_problem = store_problem
        self._started_at = started_at
        self._now = now
        self._renderer = renderer
        self._info = info
        self._viewer = viewer
        self._past = PastReader[Past](store_problem, clock)

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The handler of `GET /status`."""
        query, viewer = PageQuery.read(request.query, self._info.groups), self._viewer(request)
        return await self._renderer.respond(
            request, (viewer, query), "status.html", lambda: self._context(viewer, query)
        )

    async def _context(self, viewer: Viewer, query: PageQuery) -> dict[str, Any]:
        """Everything that the template names."""
        services = await self._slices.collect(self._views())
        now, incidents, t = self._now(), self._incidents(), viewer.texts
        if not viewer.is_signed_in:
            services, incidents = await self._slices.collect(map(public_view, services)), public_incidents(incidents)
        in_trouble = not wording.TROUBLES.isdisjoint([view.state for view in services])
        chosen = query.range or RANGES["3h" if in_trouble else "24h"]
        fleet = Fleet(
            now,
            chosen,
            services,
            incidents,
            self._windows(),
            sort=query.sort,
            wanted=query.wanted,
            group=query.group,
            info=self._info,
            is_public=not viewer.is_signed_in,
            not_shown=viewer.not_shown,
            t=t,
        )
        await _leave()
        if (past := await self._past_of(fleet)) is not None:
            if fleet.is_public and past.public is None:
                past.public = await public_timeline(past.timeline, self._slices)
            fleet.add(past)
        incident = fleet.worst_incident
        await _leave()
        listing = overview.list_services(fleet)
        await _leave()
        first = dict(await self._slices.collect(summary.summarise(fleet)))
        lead = languages.paragraph(await self._slices.collect(summary.lead(fleet)))
        happened = await self._activity(fleet)
        rows = await self._slices.collect(overview.row(fleet, view) for view in listing.rows)
        make: Callable[[Fleet, ServiceView], Row | BriefRow] = overview.brief_row if listing.is_folded else overview.row
        calm = await self._slices.collect(make(fleet, view) for view in listing.quiet)
        quiet = overview.sections(fleet, listing.quiet, calm)
        return {
            **first,
            "lead": lead,
            "viewer": viewer,
            "incident": incident,
            "muted": incident_words.muted(incident, fleet.local_now, t) if incident is not None else [],
            "names": wording.choices([view.name for view in services]) if viewer.may_act else [],
            "proposed": [view.name for view in listing.rows],
            "icon": icon(first["state"].tone),
            "title": self._info.heading(first["headline"].rstrip(".")),
            "now": now,
            "until": fleet.axis.end,
            "at": f"{fleet.local_now:%H:%M}",
            "range": chosen,
            "ranges": list(RANGES.values()),
            "sort": query.sort,
            "wanted": query.wanted,
            "groups": await self._slices.collect(overview.groups(fleet)),
            "more_groups": max(len(self._info.groups) - overview.MOST_GROUPS, 0),
            "group": query.group,
            "sections": [*([Section("", rows)] if rows else []), *([] if listing.is_folded else quiet)],
            "more": await self._slices.collect(overview.brief_row(fleet, view) for view in listing.more),
            "quiet": quiet if listing.is_folded else [],
            "quiet_count": len(listing.quiet) + listing.left_out,
            "left_out": listing.left_out,
            "opens": not in_trouble,
            "count": len(services),
            "days": activity.by_day(happened, self._info.zone),
            "is_past_known": fleet.timeline is not None,
            "canvas": f"0 0 {WIDTH} {HEIGHT}",
            "usual_y": USUAL_Y,
            "windows": [summary.window_row(one, fleet.local_now, t) for one in fleet.windows[: summary.MOST_WINDOWS]],
            "more_windows": len(fleet.windows[summary.MOST_WINDOWS :]),
            "more_incidents": max(len([one for one, _ in incidents if one.is_open]) - activity.MOST_INCIDENTS, 0)
            + self._not_listed(),
            "warnings": warning_rows.open_lines(
                fleet.past.warnings, {view.name for view in services}, t, fleet.local_now, is_public=fleet.is_public
            ),
            "database": self._store_problem(),
            "served": summary.served_row(self._served(), fleet.local_now, t) if viewer.is_signed_in else None,
            "version": __version__,
            "uptime": t.duration((now - self._started_at()).total_seconds()),
        }

    async def _activity(self, fleet: Fleet) -> list[activity.Entry]:
        found = fleet.timeline or Timeline()
        notes = {incident.id: noted for incident, noted in fleet.incidents}
        known = {one.id: one for one in found.incidents} | {one.id: one for one, _ in fleet.incidents}
        incidents = [(one, notes.get(one.id, ())) for one in known.values()]
        changes_without_incident = await self._slices.collect(
            activity.changes_without_incident(known.values(), found.changes, fleet.now)
        )
        await _leave()
        return activity.listed(
            incidents,
            chain.from_iterable(changes_without_incident),
            found.events,
            fleet.now - timedelta(seconds=fleet.range.seconds),
            fleet.local_now,
            fleet.t,
        )

    async def _past_of(self, fleet: Fleet) -> Past | None:
        """What the database says of a fleet; None where it cannot be read.

        What is read depends on no filter and no order: each of those that somebody makes up would be one more read.
        """
        worst = [view for view in fleet.worst[:1] if view.state in wording.TROUBLES]
        failing = tuple([(view.name, self._began(fleet, view)) for view in worst])
        await _leave()
        return await self._past.read((fleet.range.key, failing), lambda: self._read_past(fleet, failing))

    async def _read_past(self, fleet: Fleet, failing: tuple[tuple[str, datetime], ...]) -> Past:
        usual_order = overview.list_services(replace(fleet, sort="state", wanted="", group=""))
        await _leave()
        rows = (*usual_order.rows, *([] if usual_order.is_folded else usual_order.quiet), *fleet.services)
        detailed = tuple(dict.fromkeys(view.name for view in rows))[:_MOST_DETAILED]
        names = tuple(dict.fromkeys((*detailed, *(view.name for view in fleet.services))))[: overview.MOST_LISTED]
        until = int(fleet.now.timestamp())
        wanted = TimelineRequest(fleet.axis.since, until + 1, fleet.range.span, names, detailed, failing)
        return Past(
            await self._store.timeline(wanted),
            await self._store.past(until, names[:_MOST_PASTS]),
            await self._store.recent(until, names[:_MOST_PASTS]),
            await self._usual(until),
            await self._warnings(None),
        )

    def _began(self, fleet: Fleet, view: ServiceView) -> datetime:
        known = fleet.open_incident(view.name)
        return view.since if known is None else known[0].started_at
