"""The list of incidents: the open ones, then those that ended, by month, below a strip of 90 days."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol

from aiohttp import web

from tentaculo import __version__
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.health import Health
from tentaculo.model.history import DAY
from tentaculo.model.incident import Incident, Note
from tentaculo.model.incident_past import FoundIncidents, IncidentDay, IncidentSearch, IncidentSummary, IncidentTotals
from tentaculo.model.page import PageInfo
from tentaculo.model.text import printable
from tentaculo.web import incident_words, wording
from tentaculo.web.acknowledgements import MOST_ID
from tentaculo.web.incident_words import SaidNote
from tentaculo.web.languages import Language, Piece, Sentence, paragraph
from tentaculo.web.past_reader import PastReader
from tentaculo.web.rendering import Renderer, icon
from tentaculo.web.timeline import RANGES
from tentaculo.web.viewer import Viewer

DAYS: Final = 90
"""Days of the strip."""
MOST_OPEN: Final = 50
"""Open incidents that are listed, the newest ones."""
_DEFAULT = "90d"
_SPANS: Final[Mapping[str, int | None]] = {**{key: one.seconds for key, one in RANGES.items()}, "all": None}
_MOST_NOTES, _NOTE_LENGTH = 3, 300
"""Notes that are shown with an incident of the list, the newest ones, and their characters."""


class IncidentQueries(Protocol):
    """What the pages of the incidents read from the database. Each may fail or hang without harm."""

    async def search(self, wanted: IncidentSearch, /) -> FoundIncidents:
        """A part of the incidents that are looked for."""
        ...

    async def summarise(
        self, since: datetime | None, service: str | None, first_day: int, now: datetime, /
    ) -> IncidentSummary:
        """The incidents since a time, and each day since one, counted from 1970; of one service or of all."""
        ...


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What the query string asks for."""

    range: str
    service: str | None
    before: int | None

    @classmethod
    def read(cls, query: Mapping[str, str], names: Mapping[str, str]) -> ListQuery:
        """Raises `Problem` (400) for a value that is none. `names` maps each name and alias of a service to its name."""
        key, service, before = query.get("range", _DEFAULT), query.get("service", ""), query.get("before", "")
        if key not in _SPANS:
            raise Problem(Failure.BAD_REQUEST, f"range may be {', '.join(_SPANS)}.")
        if service and service not in names:
            raise Problem(Failure.BAD_REQUEST, "service may be the name of a service.")
        if before and not (before.isascii() and before.isdigit() and len(before) <= 16 and int(before) <= MOST_ID):
            raise Problem(Failure.BAD_REQUEST, f"before may be a number up to {MOST_ID}.")
        return cls(key, names[service] if service else None, int(before) if before else None)


@dataclass(frozen=True, slots=True)
class Row:
    """One incident, ready to be shown."""

    href: str
    state: wording.State
    root: str
    phrase: str
    text: str
    notes: Sequence[SaidNote]
    at: datetime
    day: str
    lasted: str


class Day(NamedTuple):
    """One day of the strip."""

    key: str
    x: str
    text: str


class IncidentList:
    """The list of incidents. `listed` gives the open ones and the last that ended from memory, with their notes."""

    def __init__(
        self,
        *,
        names: Mapping[str, str],
        store: IncidentQueries,
        listed: Callable[[], Sequence[tuple[Incident, Sequence[Note]]]],
        store_problem: Callable[[], str | None],
        now: Callable[[], datetime],
        renderer: Renderer,
        info: PageInfo,
        viewer: Callable[[web.Request], Viewer],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`names` maps each name and alias of a service to its name. The others are those of the overview."""
        self._names = names
        self._store = store
        self._listed = listed
        self._store_problem = store_problem
        self._now = now
        self._renderer = renderer
        self._info = info
        self._viewer = viewer
        self._parts = PastReader[FoundIncidents](store_problem, clock)
        self._summaries = PastReader[IncidentSummary](store_problem, clock)

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The handler of `GET /status/incidents`."""
        query, viewer = ListQuery.read(request.query, self._names), self._viewer(request)
        return await self._renderer.respond(
            request, (viewer, query), "incidents.html", lambda: self._context(viewer, query)
        )

    async def newest(self) -> tuple[Incident, ...]:
        """The open incidents, and the last that ended; those in memory alone while the database cannot be read."""
        query, wanted = ListQuery("all", None, None), IncidentSearch(None)
        found = await self._parts.read(query, lambda: self._store.search(wanted))
        whole = self._with_memory(found or FoundIncidents(), wanted)
        return (*whole.open, *whole.ended)

    async def _context(self, viewer: Viewer, query: ListQuery) -> dict[str, Any]:
        now, t = self._info.local(self._now()), viewer.texts
        seconds = _SPANS[query.range]
        since = None if seconds is None else now - timedelta(seconds=seconds)
        summary, found, following = await self._read(query, since, now)
        still_open = 0 if query.before is not None or summary is None else summary.totals.open
        worst = min((one.severity for one in found.open), key=_SEVERITIES.index, default=None)
        state = incident_words.over(t) if worst is None else wording.state_of(worst, t=t)
        return {
            "viewer": viewer,
            "title": self._info.heading(t("incidents.title")),
            "icon": icon(state.tone),
            "now": now,
            "at": f"{now:%H:%M}",
            "lead": lead(summary.totals, query.range, t) if summary is not None else [],
            "ranges": tuple(_SPANS),
            "range": query.range,
            "service": query.service,
            "services": wording.choices(self._names.values()),
            "proposed": sorted({one.root for one in (*found.open, *found.ended)} & set(self._names.values())),
            "before": query.before,
            "strip": list(strip(summary.days, t)) if summary is not None else [],
            "open": [self._row(one, found, viewer, now) for one in found.open],
            "more_open": max(still_open - len(found.open), 0),
            "months": by_month([(one, self._row(one, found, viewer, now)) for one in found.ended], now, t),
            "next": following,
            "is_known": summary is not None,
            "database": self._store_problem(),
            "version": __version__,
        }

    async def _read(
        self, query: ListQuery, since: datetime | None, now: datetime
    ) -> tuple[IncidentSummary | None, FoundIncidents, int | None]:
        """What the database has, with what is in memory: None and what is in memory alone while it cannot be read.

        Then the id before which the next part of the list begins; None where there is none.
        """
        first_day = int(now.timestamp()) // DAY - DAYS + 1
        summary = await self._summaries.read(
            (query.range, query.service), lambda: self._store.summarise(since, query.service, first_day, now)
        )
        wanted = IncidentSearch(since, query.service, query.before)
        found = await self._parts.read(query, lambda: self._store.search(wanted)) if summary is not None else None
        # Memory may have one that ended just now and belongs to a later part, which must not skip those before it.
        following = found.ended[-1].id if found is not None and found.has_more else None
        return (None if found is None else summary), self._with_memory(found or FoundIncidents(), wanted), following

    def _with_memory(self, found: FoundIncidents, wanted: IncidentSearch) -> FoundIncidents:
        """`found` as it is in memory, which is newer than what was read; only on the first part of the list."""
        if wanted.before is not None:
            return found
        known = {one.id: one for one in (*found.open, *found.ended)}
        known |= {one.id: one for one, _ in self._listed() if _fits(one, wanted)}
        newest = sorted(known.values(), key=lambda one: one.id, reverse=True)
        return replace(
            found,
            open=tuple(one for one in newest if one.is_open)[:MOST_OPEN],
            ended=tuple(one for one in newest if not one.is_open),
            notes={**found.notes, **{one.id: tuple(notes) for one, notes in self._listed() if notes}},
        )

    def _row(self, incident: Incident, found: FoundIncidents, viewer: Viewer, now: datetime) -> Row:
        t = viewer.texts
        parts = (
            incident_words.sentence(incident_words.reason(incident, t, is_private=viewer.is_signed_in)),
            incident_words.failed_with(incident, t),
            incident_words.lost(incident, t),
            incident_words.reopened(incident, t),
        )
        lasted = incident_words.lasted(incident, now, t)
        noted = found.notes.get(incident.id, ())[-_MOST_NOTES:] if viewer.is_signed_in else ()
        return Row(
            incident_words.path(incident.id),
            incident_words.state(incident, t),
            printable(incident.root, 80),
            incident_words.predicate(incident, t),
            " ".join(filter(None, parts)),
            [incident_words.said(one, now, t, _NOTE_LENGTH) for one in noted],
            incident.started_at,
            t.clock(incident.started_at, now),
            t("incidents.so_far", duration=lasted) if incident.is_open else lasted,
        )


_SEVERITIES = (Health.DOWN, Health.DEGRADED)


def _fits(incident: Incident, wanted: IncidentSearch) -> bool:
    ended = incident.ended_at
    is_recent = ended is None or wanted.since is None or ended >= wanted.since
    of_service = wanted.service is None or wanted.service in incident.services
    return incident.part_of is None and is_recent and of_service


def lead(totals: IncidentTotals, range_key: str, t: Language) -> Sentence:
    """`4 in the last 90 days, 1 h 24 min in all. 1 is open. The longest took 41 min.`"""
    during = t(f"incidents.in_{range_key}") if range_key in RANGES else ""
    if not totals.count:
        return t.sentence("incidents.none_during", during=during) if during else t.sentence("incidents.none_known")
    number = t.number(totals.count)
    total = Piece(t("incidents.in_all", duration=t.duration(totals.seconds, 2)), is_strong=True)
    if during:
        found = [t.sentence("incidents.count_during", number=number, during=during, total=total)]
    else:
        found = [t.sentence("incidents.count", number=number, total=total)]
    if totals.open:
        found.append(t.sentence("incidents.are_open", totals.open))
    if totals.count > 1:
        found.append(t.sentence("incidents.longest", duration=t.duration(totals.longest, 2)))
    return paragraph(found)


def by_month(rows: Iterable[tuple[Incident, Row]], now: datetime, t: Language) -> list[tuple[str, list[Row]]]:
    """The rows, in order, by the month of the zone of `now` in which their incidents began."""
    months: dict[str, list[Row]] = {}
    for incident, row in rows:
        started = incident.started_at.astimezone(now.tzinfo)
        month = t.month(started, year=started.year != now.year)
        months.setdefault(month[:1].upper() + month[1:], []).append(row)
    return list(months.items())


_DAY_TEXTS: Final = {
    "plan": "incidents.day_maintenance",
    "up": "incidents.day_up",
    "none": "incidents.day_unknown",
}
_DAY_KEYS: Final = {Health.DOWN: "down", Health.DEGRADED: "slow", Health.MAINTENANCE: "plan"}


def strip(days: Sequence[IncidentDay], t: Language) -> Iterator[Day]:
    """Each day in the colour of the worst that it saw."""
    for place, day in enumerate(days):
        key = "none" if day.worst is None and not day.is_known else "up" if day.worst is None else _DAY_KEYS[day.worst]
        said = t("incidents.day_count", count=day.incidents) if day.incidents else t(_DAY_TEXTS[key])
        date = t.short_date(datetime.fromtimestamp(day.number * DAY, UTC))
        yield Day(key, f"{place * 100 / len(days):.2f}%", t("incidents.day", date=date, said=said))
