"""The page of one incident: what failed first and why, what it cost, who was notified, and all of it on one axis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol

from aiohttp import web

from tentaculo import __version__
from tentaculo.model.event import Event
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.history import DAY, HOUR, MINUTE
from tentaculo.model.incident import DeliveryOutcome, Incident, Note
from tentaculo.model.incident_past import IncidentContext
from tentaculo.model.page import PageInfo
from tentaculo.model.precursor import DEFAULT_DAYS, ReadPrecursors, ServicePrecursors
from tentaculo.model.text import printable
from tentaculo.model.timeline import Timeline, TimelineRequest
from tentaculo.web import activity, incident_answers, incident_words, overview, precursor_rows, timeline, wording
from tentaculo.web.acknowledgements import incident_id
from tentaculo.web.languages import Language
from tentaculo.web.latency_chart import COUNTS, HEIGHT, latency_chart
from tentaculo.web.past_reader import WAIT, PastReader
from tentaculo.web.rendering import Renderer, icon
from tentaculo.web.summary import Button
from tentaculo.web.timeline import RANGES, WIDTH, Axis, Bar, Range
from tentaculo.web.viewer import Viewer, public_timeline

MOST_ROWS: Final = 20
"""Services of an incident whose states are drawn."""
_MOST_SAID: Final = 5
"""Sentences of the statistics."""
_PADDING: Final = timedelta(minutes=15), timedelta(days=1)
"""How much of the axis lies before and behind an incident: a quarter of its length, within these bounds."""
_TICKS: Final = (60, 120, 300, 600, 900, 1800, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY)
_MOST_TICKS: Final = 8


class IncidentStore(Protocol):
    """What the page reads from the database. Each may fail or hang without harm."""

    async def find(self, number: int, /) -> tuple[Incident, tuple[Note, ...]] | None:
        """One incident with its notes; None where there is none."""

    async def context(self, incident: Incident, /) -> IncidentContext:
        """What it is compared with."""
        ...

    async def timeline(self, wanted: TimelineRequest, /) -> Timeline:
        """States, latencies and events of a span."""
        ...


@dataclass(frozen=True, slots=True)
class Past:
    """What the database said around one incident."""

    timeline: Timeline
    context: IncidentContext


class Row(NamedTuple):
    """One service of an incident on the axis."""

    name: str
    href: str
    is_root: bool
    bars: list[Bar]


class Earlier(NamedTuple):
    """An earlier incident of the same root."""

    href: str
    at: datetime
    day: str
    text: str


def axis_of(incident: Incident, now: datetime) -> tuple[Axis, Range]:
    """The axis of the page, and the range that it is as: its spans and its ticks."""
    end = incident.ended_at or now
    padding = min(max((end - incident.started_at) / 4, _PADDING[0]), _PADDING[1])
    since = int((incident.started_at - padding).timestamp())
    until = max(int((min(end + padding, now)).timestamp()), since + MINUTE)
    seconds = until - since
    span = MINUTE if seconds <= 6 * HOUR else HOUR if seconds <= 7 * DAY else DAY
    tick = next((one for one in _TICKS if seconds / one <= _MOST_TICKS), 30 * DAY)
    return Axis(since, until, now.tzinfo or UTC), Range("", seconds, span, tick)


class IncidentPage:
    """The pages of the incidents. `services` are the names of those that have a page."""

    def __init__(
        self,
        *,
        services: Collection[str],
        store: IncidentStore,
        listed: Callable[[], Sequence[tuple[Incident, Sequence[Note]]]],
        precursors: ReadPrecursors,
        store_problem: Callable[[], str | None],
        now: Callable[[], datetime],
        renderer: Renderer,
        info: PageInfo,
        viewer: Callable[[web.Request], Viewer],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`precursors` may take long, fail or hang without harm. The others are those of the list of incidents."""
        self._services = services
        self._store = store
        self._listed = listed
        self._precursors = precursors
        self._store_problem = store_problem
        self._now = now
        self._renderer = renderer
        self._info = info
        self._viewer = viewer
        self._past = PastReader[Past](store_problem, clock)
        self._reports = PastReader[ServicePrecursors | None](store_problem, clock)

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The handler of `GET /status/incidents/{id}`. Raises `Problem` (404, or 503 without a database)."""
        number, viewer = incident_id(request), self._viewer(request)
        return await self._renderer.respond(
            request, (viewer, "incident", number), "incident.html", lambda: self._context(viewer, number)
        )

    async def _context(self, viewer: Viewer, number: int) -> dict[str, Any]:
        now, t = self._info.local(self._now()), viewer.texts
        incident, notes = await self._find(number)
        axis, chosen = axis_of(incident, now)
        # A mute is on the page as soon as it is set, whatever was read before.
        latest = incident.muted and incident.muted.id
        past = await self._past.read((number, latest), lambda: self._read_past(incident, axis, chosen))
        found = past.timeline if past is not None else Timeline()
        context = past.context if past is not None else IncidentContext()
        if not viewer.is_signed_in:
            incident, notes = incident_words.without_private(incident), ()
            found = await public_timeline(found, self._renderer.slices)
            context = IncidentContext(tuple(map(incident_words.without_private, context.earlier)))
        state, severity = incident_words.state(incident, t), timeline.state_key(incident.severity)
        end = incident.ended_at or now
        mutes = {incident.id: context.mutes}
        entries = activity.entries([(incident, notes)], found.changes, (), _moment(axis.since, now), now, t, mutes)
        # The percentiles of many periods take 10 ms.
        chart = await asyncio.to_thread(latency_chart, axis, chosen.span, found.periods.get(incident.root, ()), t)
        what = incident_words.what_failed(incident, t)
        return {
            "viewer": viewer,
            "incident": incident,
            "muted": incident_words.muted(incident, now, t),
            "root": printable(incident.root, 80),
            "title": self._info.heading(what),
            "icon": icon(state.tone),
            "now": now.astimezone(UTC),
            "at": f"{now:%H:%M}",
            "state": state,
            "headline": f"{what}.",
            "lasted": incident_words.lasted(incident, now, t),
            "lead": incident_answers.lead(incident, now, t),
            "answers": incident_answers.answers(incident, context, viewer, is_known=past is not None, now=now),
            "facts": list(incident_answers.facts(incident, now, t)),
            "range": chosen,
            "until": datetime.fromtimestamp(axis.until, UTC),
            "is_now": incident.is_open,
            "ticks": axis.ticks(chosen.tick, t),
            "band": (severity, axis.percent(incident.started_at), axis.width(incident.started_at, end)),
            "marks": list(_marks(axis, incident, notes, found.events, t)),
            "rows": [self._row(axis, name, incident, found) for name in incident.services[:MOST_ROWS]],
            "more_rows": len(incident.services[MOST_ROWS:]),
            "chart": chart,
            "has_chart": bool(chart.requests or any(chart.lines.values())),
            "is_new": (now - incident.started_at).total_seconds() < HOUR,
            "is_counted": bool(found.periods.get(incident.root)),
            "canvas": f"0 0 {WIDTH} {HEIGHT}",
            "counts_canvas": f"0 0 {WIDTH} {COUNTS}",
            "deliveries": [
                (
                    one.at,
                    t.clock(one.at, now),
                    printable(one.channel, 40) or t("summary.a_channel"),
                    incident_words.attempted(one, t),
                )
                for one in sorted(incident.delivery_log, key=lambda one: one.at, reverse=True)
            ],
            "notes": [incident_words.said(one, now, t) for one in notes],
            "before": [
                (one.received_at, t.clock(one.received_at, now), timeline.event_title(one, t)) for one in context.before
            ],
            "statistics": await self._statistics(incident, t) if viewer.is_signed_in else [],
            "earlier": [_earlier(one, now, t) for one in context.earlier],
            "events_href": _events_path(axis),
            "buttons": list(self._buttons(incident, t)),
            "root_href": overview.service_path(incident.root) if incident.root in self._services else "",
            "days": activity.by_day(entries, self._info.zone),
            "is_past_known": past is not None,
            "database": self._store_problem(),
            "version": __version__,
        }

    async def _find(self, number: int) -> tuple[Incident, Sequence[Note]]:
        """The incident as it is in memory, which is newer, with the notes of the database, where these can be read."""
        known = next((pair for pair in self._listed() if pair[0].id == number), None)
        try:
            async with asyncio.timeout(WAIT):
                found = await self._store.find(number)
        except (Problem, TimeoutError):
            if known is None:
                raise Problem(Failure.STORE_UNAVAILABLE, self._store_problem()) from None
            return known
        if found is None:
            if known is None:
                raise Problem(Failure.NOT_FOUND, "There is no such incident.")
            return known
        if known is None:
            return found
        # An acknowledgement has a row of its own, which memory learns of later.
        return replace(known[0], acknowledged=found[0].acknowledged), found[1]

    async def _read_past(self, incident: Incident, axis: Axis, chosen: Range) -> Past:
        services = incident.services[:MOST_ROWS]
        wanted = TimelineRequest(axis.since, axis.until + 1, chosen.span, services, (incident.root,))
        return Past(await self._store.timeline(wanted), await self._store.context(incident))

    async def _statistics(self, incident: Incident, t: Language) -> list[tuple[str, str]]:
        """What came before the incidents of the root more often than else: sentences, each with its q in words."""
        found = await self._reports.read(incident.id, lambda: self._report(incident))
        if found is None:
            return []
        shown = [one for one in found.precursors if one.is_claimed or incident.id in one.before]
        return [
            (
                precursor_rows.sentence(found, one, t),
                "" if one.q is None else f"q = {precursor_rows.probability(one.q, t)}",
            )
            for one in shown[:_MOST_SAID]
        ]

    async def _report(self, incident: Incident) -> ServicePrecursors | None:
        report = await self._precursors(DEFAULT_DAYS, incident.started_at)
        return report.services.get(incident.root)

    def _buttons(self, incident: Incident, t: Language) -> Iterator[Button]:
        root = printable(incident.root, 80)
        if incident.root in self._services:
            yield Button(t("incident.in_detail", root=root), overview.service_path(incident.root))
            if runbook := self._info.of(incident.root).runbook:
                yield Button(t("common.runbook"), runbook)
        yield Button(t("incidents.all_incidents"), "/status/incidents")

    def _row(self, axis: Axis, name: str, incident: Incident, found: Timeline) -> Row:
        changes = found.changes.get(name, ())
        last = changes[-1] if changes else None
        bars = timeline.bars(axis, changes, last.after, last.at) if last is not None else []
        href = overview.service_path(name) if name in self._services else ""
        return Row(printable(name, 80), href, name == incident.root, bars)


def _moment(seconds: int, now: datetime) -> datetime:
    return datetime.fromtimestamp(seconds, now.tzinfo)


def _events_path(axis: Axis) -> str:
    """Where the log of events has the time of the axis."""
    seconds = axis.until - axis.since
    key = next((one.key for one in RANGES.values() if one.seconds >= seconds), "90d")
    return f"/status/events?range={key}&to={datetime.fromtimestamp(axis.until, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _marks(
    axis: Axis, incident: Incident, notes: Sequence[Note], events: Sequence[Event], t: Language
) -> Iterator[tuple[str, str, str, datetime]]:
    """What lies on the lanes: the kind, the place, the text and the moment of each message, note and event."""
    for delivery in incident.delivery_log:
        if delivery.outcome is DeliveryOutcome.DELIVERED:
            channel = printable(delivery.channel, 40) or t("summary.a_channel")
            yield "message", axis.percent(delivery.at), t("incident.was_notified", channel=channel), delivery.at
    for note in notes:
        author = wording.foreign(note.author, 40) or t("summary.somebody")
        yield "message", axis.percent(note.at), t("incident.wrote_note", author=author), note.at
    taken: set[str] = set()
    for event in events:
        place = axis.percent(event.received_at)
        if place[:-3] not in taken:
            taken.add(place[:-3])
            yield "event", place, wording.plain(timeline.event_title(event, t)), event.received_at


def _earlier(incident: Incident, now: datetime, t: Language) -> Earlier:
    lasted = incident_words.lasted(incident, now, t, units=1)
    text = t("incident.for", duration=lasted)
    if incident.reason:
        reason = wording.said(incident.reason, incident.cause, t, 160)
        text = t("incident.for_because", duration=lasted, reason=reason)
    return Earlier(
        incident_words.path(incident.id),
        incident.started_at,
        t.clock(incident.started_at, now),
        text,
    )
