"""The page of one service: its latency, requests and states on one axis, and what is known of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from aiohttp import web

from tentaculo import __version__
from tentaculo.model.early_warning import EarlyWarning
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.health import (
    BreakerState,
    ConcurrencyView,
    EndpointView,
    ProbeResult,
    SeenCertificate,
    ServiceView,
)
from tentaculo.model.history import DAY, HistorySummary, Period, RouteCount, uptime_share
from tentaculo.model.incident import Incident, Note
from tentaculo.model.page import PageInfo, RouteRules
from tentaculo.model.request_phases import Phases
from tentaculo.model.service_rates import RecentRates, UsualRates
from tentaculo.model.target_group import GroupView, TargetView
from tentaculo.model.text import printable
from tentaculo.model.timeline import Timeline, TimelineRequest
from tentaculo.web import activity, incident_words, overview, service_probes, timeline, warning_rows, wording
from tentaculo.web.languages import Language, Sentence
from tentaculo.web.latency_chart import COUNTS, HEIGHT, latency_chart
from tentaculo.web.limit_rows import limit_rows
from tentaculo.web.past_reader import PastReader
from tentaculo.web.rendering import Renderer, icon
from tentaculo.web.summary import Button, switched_rows
from tentaculo.web.timeline import RANGES, WIDTH, Axis, Range
from tentaculo.web.viewer import Viewer, public_incidents, public_timeline, public_view

_DAYS = 90
_MOST_ROUTES = 100
"""Routes of which the page says where the time goes, those with the most requests."""


class ServiceQueries(Protocol):
    """What the page reads from the database. Each may fail or hang without harm."""

    async def timeline(self, wanted: TimelineRequest, /) -> Timeline:
        """States, latencies, incidents and events."""
        ...

    async def past(self, now: int, services: Sequence[str], /) -> Mapping[str, HistorySummary]:
        """The summaries of the history of services, by name."""
        ...

    async def recent(self, now: int, services: Sequence[str], /) -> Mapping[str, RecentRates]:
        """The rates of services in the last minutes, by name."""
        ...

    async def history(self, service: str, span: int, since: int, until: int, /) -> Sequence[Period]:
        """The periods of a service."""
        ...

    async def routes(self, service: str, span: int, since: int, until: int, /) -> Mapping[str, RouteCount]:
        """The requests of each route of a service in these periods."""
        ...


@dataclass(frozen=True, slots=True)
class Past:
    """What the database said of one service."""

    timeline: Timeline
    summary: HistorySummary
    rates: RecentRates | None
    usual: UsualRates | None
    days: Sequence[Period]
    routes: Mapping[str, RouteCount]
    warnings: Sequence[EarlyWarning]


class ProbeRecords(Protocol):
    """What the last probes of each service found."""

    def probes(self, service: str, /) -> Sequence[ProbeResult]:
        """The last probes of a service, the latest first."""
        ...

    def certificates(self, service: str, /) -> Sequence[SeenCertificate]:
        """The last certificate of each of its addresses."""
        ...


class Fact(NamedTuple):
    """A number and what it is compared with."""

    name: str
    value: str
    tone: str
    more: str | Sentence


class Day(NamedTuple):
    """One day of the strip of 90 days."""

    key: str
    x: str
    text: str


class ServicePage:
    """The pages of the services.

    `view` gives one by name, `dependencies` the names of those that it depends on, and `certificate_days` for how many
    days its certificate should be valid.
    """

    def __init__(
        self,
        *,
        view: Callable[[str], ServiceView],
        dependencies: Mapping[str, Sequence[str]],
        records: ProbeRecords,
        certificate_days: Mapping[str, int],
        concurrency: Callable[[str], ConcurrencyView | None],
        phases: Callable[[str], Mapping[str, tuple[int, Phases]]],
        store: ServiceQueries,
        warnings: Callable[[Sequence[str] | None], Awaitable[Sequence[EarlyWarning]]],
        usual: Callable[[int], Awaitable[Mapping[str, UsualRates]]],
        incidents: Callable[[], Sequence[tuple[Incident, Sequence[Note]]]],
        store_problem: Callable[[], str | None],
        now: Callable[[], datetime],
        renderer: Renderer,
        info: PageInfo,
        viewer: Callable[[web.Request], Viewer],
        groups: Callable[[], Sequence[GroupView]] = tuple,
        clock: Callable[[], float] = time.monotonic,
        worker: int | None = None,
        rules: Callable[[str], Sequence[RouteRules]] = lambda _: (),
    ) -> None:
        """`worker` is the number of this process, where there are several. `incidents`, `store_problem`, `viewer` and `clock` are those of the overview."""
        self._past = PastReader[Past](store_problem, clock)
        self._info = info
        self._viewer = viewer
        self._groups, self._rules = groups, rules
        self._view = view
        self._dependencies = dependencies
        self._records = records
        self._certificate_days = certificate_days
        self._concurrency = concurrency
        self._phases = phases
        self._worker = worker
        self._store = store
        self._warnings = warnings
        self._usual = usual
        self._incidents = incidents
        self._store_problem = store_problem
        self._now = now
        self._renderer = renderer

    async def show(self, name: str, request: web.Request) -> web.StreamResponse:
        """The page of the service `name`. Raises `Problem` (400) for a range that is none."""
        key = request.query.get("range", "3h")
        if key not in RANGES:
            raise Problem(Failure.BAD_REQUEST, f"range may be {', '.join(RANGES)}.")
        viewer = self._viewer(request)
        return await self._renderer.respond(
            request, (viewer, name, key), "service.html", lambda: self._context(viewer, name, RANGES[key])
        )

    def _buttons(self, name: str, incidents: Sequence[Incident], t: Language) -> Iterator[Button]:
        yield Button(t("common.all_services"), "/status")
        if incidents:
            yield Button(t("summary.incident"), incident_words.path(incidents[0].id))
        if runbook := self._info.of(name).runbook:
            yield Button(t("common.runbook"), runbook)

    async def _context(self, viewer: Viewer, name: str, chosen: Range) -> dict[str, Any]:
        view, now, t = self._view(name), self._now(), viewer.texts
        if not viewer.is_signed_in:
            view = public_view(view)
        until, end = int(now.timestamp()), chosen.end(now)
        axis = Axis(end - chosen.seconds, end, self._info.zone)
        failing = ((name, view.since),) if view.state in wording.TROUBLES else ()
        past = await self._past.read(
            (name, chosen.key, failing), lambda: self._read_past(name, chosen, axis, until, failing)
        )
        found = past.timeline if past is not None else Timeline()
        state = wording.state(view.state, t)
        warnings = warning_rows.shown_to(past.warnings if past else (), is_public=not viewer.is_signed_in)
        own = [(one, notes) for one, notes in self._incidents() if name in one.services]
        if not viewer.is_signed_in:
            found, own = await public_timeline(found, self._renderer.slices), public_incidents(own)
        known = {one.id: one for one in found.incidents if name in one.services} | {one.id: one for one, _ in own}
        notes = {one.id: noted for one, noted in own}
        incident = next((one for one, _ in own if one.is_open and one.root == name), None)
        addresses = service_probes.addresses(view, viewer)
        since = now - timedelta(seconds=chosen.seconds)
        entries = activity.entries(
            [(one, notes.get(one.id, ())) for one in known.values()],
            {name: found.changes.get(name, ())},
            [event for event in found.events if event.source == name],
            since,
            self._info.local(now),
            t,
        )
        # The percentiles of a week of hours take 10 ms.
        chart = await asyncio.to_thread(latency_chart, axis, chosen.span, found.periods.get(name, ()), t)
        headline = t("headline.sentence", names=name, is_so=wording.predicate(state.key, 1, t))
        return {
            "viewer": viewer,
            "incident": incident,
            "muted": incident_words.muted(incident, self._info.local(now), t) if incident is not None else [],
            "name": name,
            "state": state,
            "title": self._info.heading(headline.rstrip(".")),
            "headline": headline,
            "info": self._info.of(name),
            "switched": switched_rows(self._info, self._info.local(now), t, name),
            "icon": icon(state.tone),
            "since": view.since,
            "lasted": t.duration((now - view.since).total_seconds()),
            "buttons": list(self._buttons(name, [one for one, _ in own if one.is_open], t)),
            "reason": wording.reason(view, t, 300),
            "root": view.root,
            "now": now,
            "at": f"{self._info.local(now):%H:%M}",
            "range": chosen,
            "ranges": list(RANGES.values()),
            "ticks": axis.ticks(chosen.tick, t),
            "bars_of": timeline.bars(axis, found.changes.get(name, ()), view.health, view.since),
            "chart": chart,
            "pin": timeline.pin(axis, found.just_before.get(name), t),
            "canvas": f"0 0 {WIDTH} {HEIGHT}",
            "counts_canvas": f"0 0 {WIDTH} {COUNTS}",
            "bands": [
                (timeline.state_key(one.severity), axis.percent(one.started_at), axis.width(one.started_at, ended))
                for one in known.values()
                if (ended := one.ended_at or axis.end) >= since
            ],
            "facts": [
                *(_facts(past, view, t) if past is not None else ()),
                *concurrency_facts(self._concurrency(name), self._worker, t),
            ],
            "days": list(_days(past.days, until, t)) if past is not None else [],
            "endpoints": [_endpoint(one, addresses[one.upstream], t) for one in view.upstreams],
            "routes": _routes(past, t) if past is not None else [],
            "groups": [_group(one, t) for one in self._groups() if one.service == name],
            "limits": limit_rows(self._rules(name), self._worker, t) if viewer.is_signed_in else [],
            "times": time_rows(self._phases(name), self._worker, t),
            "warnings": warning_rows.rows(warnings, t, self._info.local(now)),
            "warnings_tally": warning_rows.tally(warnings, t),
            "dependencies": self._dependencies.get(name, ()),
            "dependents": [other for other, needed in self._dependencies.items() if name in needed],
            "probes": service_probes.probe_rows(view, self._records.probes(name), viewer, self._info.zone),
            "certificates": service_probes.certificate_rows(
                view, self._records.certificates(name), self._certificate_days.get(name, 0), viewer, now
            ),
            "activity": activity.by_day(entries, self._info.zone),
            "is_past_known": past is not None,
            "database": self._store_problem(),
            "version": __version__,
        }

    async def _read_past(
        self, name: str, chosen: Range, axis: Axis, until: int, failing: tuple[tuple[str, datetime], ...]
    ) -> Past:
        wanted = TimelineRequest(axis.since, until + 1, chosen.span, (name,), (name,), failing)
        return Past(
            await self._store.timeline(wanted),
            (await self._store.past(until, [name])).get(name, HistorySummary()),
            (await self._store.recent(until, [name])).get(name),
            (await self._usual(until)).get(name),
            await self._store.history(name, DAY, until - until % DAY - (_DAYS - 1) * DAY, until + 1),
            await self._store.routes(name, chosen.span, axis.since - axis.since % chosen.span, until + 1),
            await self._warnings([name]),
        )


def _facts(past: Past, view: ServiceView, t: Language) -> Iterable[Fact]:
    if past.rates is not None:
        yield from _recent_facts(past.rates, past.usual, view, t)
    day = uptime_share(past.summary.hours)
    yield Fact(t("service.up_24h"), t.share(day.share), "", "")
    quarter = past.summary.quarter
    since = past.summary.since
    first = t.short_date(datetime.fromtimestamp(since, UTC), year=True) if since is not None else ""
    more = (t("service.since", date=first) if first else "", "" if quarter.by_time else t("service.by_probes"))
    yield Fact(t("service.up_90d"), t.share(quarter.share), "", ", ".join(filter(None, more)))


def _recent_facts(rates: RecentRates, usual: UsualRates | None, view: ServiceView, t: Language) -> Iterable[Fact]:
    asked = rates.requests.ok + rates.requests.failed
    expected = t("service.a_minute")
    if usual is not None:
        expected = t("service.a_minute_usually", rate=t.rate(usual.requests_per_minute))
    yield Fact(t("service.requests_5min"), t.rate(rates.per_minute(asked)), "", expected)
    failed, worst = rates.requests.failed, rates.worst
    shown = t.failed_share(failed / asked if asked else None)
    at_worst = t("service.worst_minute", share=t.failed_share(worst.failed_share)) if worst else ""
    more = "; ".join(filter(None, (t.failed_interval(failed, asked), at_worst)))
    yield Fact(t("service.failed_5min"), shown, "down" if failed else "", more)
    is_asked = bool(rates.requests.ok)
    latencies = (rates.requests if is_asked else rates.probes).latency
    p50, p95, p99 = (t.latency(one) for one in latencies.percentiles(0.5, 0.95, 0.99))
    more = t("service.percentiles_requests" if is_asked else "service.percentiles_probes", p50=p50, p99=p99)
    more = more if is_asked or rates.probes.ok else ""
    base = overview.usual_p95(rates, usual)
    if base is not None and more:
        more = t("service.usually_and", value=t.latency(base), more=more)
    yield Fact(t("service.p95"), p95, "slow" if view.state == "slow" else "", more)


def concurrency_facts(found: ConcurrencyView | None, worker: int | None, t: Language) -> Iterable[Fact]:
    """What is in flight, and how much of it may be. Each worker limits by itself, and this one says so."""
    if found is None:
        return
    limit = t("service.no_limit") if found.limit is None else t("service.at_most", limit=found.limit)
    more = t("service.limit_and_shed", limit=limit, shed=t("service.shed", count=found.recently_shed))
    if worker is not None:
        more = t("service.of_worker", number=worker, what=more)
    yield Fact(t("service.in_flight"), t.number(found.in_flight), "down" if found.recently_shed else "", more)


def time_rows(found: Mapping[str, tuple[int, Phases]], worker: int | None, t: Language) -> list[dict[str, str]]:
    """Where the time of each route's requests goes: the average, and the share of each phase, the largest first.

    `found` has the requests of the last minutes and their phases, by route. Each worker counts by itself, and this one
    says so.
    """
    rows = []
    for route, (requests, phases) in sorted(found.items(), key=lambda one: (-one[1][0], one[0]))[:_MOST_ROUTES]:
        total = sum(phases)
        shares = {name: round(100 * took / total) for name, took in phases._asdict().items()} if total else {}
        largest = sorted(shares.items(), key=lambda one: -one[1])
        parts = ", ".join(t(f"service.phase_{name}", share=share) for name, share in largest if share)
        said = t("service.time_on_average", average=t.latency(total / requests), parts=parts)
        if worker is not None:
            said = t("service.of_worker", number=worker, what=said)
        rows.append({"prefix": printable(route, 120), "said": said})
    return rows


def _days(days: Sequence[Period], until: int, t: Language) -> Iterable[Day]:
    """Each of the 90 days, in the colour of the time in which the service was not available."""
    known = {period.start: uptime_share([period]).share for period in days}
    first = until - until % DAY - (_DAYS - 1) * DAY
    for place in range(_DAYS):
        start = first + place * DAY
        share = known.get(start)
        key = "none" if share is None else "up" if share >= 0.9999 else "slow" if share >= 0.99 else "down"
        date = t.short_date(datetime.fromtimestamp(start, UTC))
        said = (
            t("service.day_unknown", date=date)
            if share is None
            else t("service.day_up", date=date, share=t.share(share))
        )
        yield Day(key, f"{place * 100 / _DAYS:.2f}%", said)


def _endpoint(view: EndpointView, address: str, t: Language) -> dict[str, Any]:
    state = wording.state_of(view.health, t=t)
    return {
        "address": address,
        "state": state,
        "breaker": wording.breaker(view.breaker, t),
        "is_tripped": view.breaker.state is not BreakerState.CLOSED,
        "counts": ", ".join(
            filter(
                None,
                (
                    wording.counted(view.probes, "common.probes", t),
                    wording.counted(view.traffic, "common.requests", t),
                ),
            )
        ),
    }


def _routes(past: Past, t: Language) -> list[dict[str, str]]:
    found = sorted(past.routes.items(), key=lambda one: (-one[1].ok - one[1].failed, one[0]))
    return [
        {
            "prefix": printable(prefix, 120),
            "counts": t(
                "common.of_them_failed",
                counted=t("common.requests", count=count.ok + count.failed),
                count=count.failed,
            ),
        }
        for prefix, count in found
    ]


def _group(group: GroupView, t: Language) -> dict[str, str]:
    """What was learned of the targets of a route, in one sentence."""
    known = sorted((one for one in group.targets if one.mean is not None), key=lambda one: -(one.mean or 0))
    said = t("service.targets_unknown")
    if known:
        best = known[0]
        others = ", ".join(f"{one.name}: {_reward(one, t)}" for one in known[1:])
        said = t(
            "service.targets_known" if others else "service.targets_one",
            count=best.recent,
            target=best.name,
            reward=_reward(best, t, is_whole=True),
            others=others,
            share=f"{round(best.probability * 100)} %",
        )
    return {"route": printable(group.route, 120), "said": said}


def _reward(target: TargetView, t: Language, *, is_whole: bool = False) -> str:
    """The mean reward of a target, and with `is_whole` how sure it is."""
    mean = t.number(target.mean or 0.0, 2)
    return f"{mean} ± {t.number(target.margin, 2)}" if is_whole and target.margin is not None else mean
