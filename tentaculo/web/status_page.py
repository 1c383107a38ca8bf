"""The status page: what a person sees of the fleet. It works without JavaScript, and waits for no service."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import structlog
from aiohttp import hdrs, web

from tentaculo import __version__
from tentaculo.model.event import Event
from tentaculo.model.health import BreakerState, Health, ServiceView
from tentaculo.model.history import HistorySummary
from tentaculo.model.incident import Incident, MaintenanceWindow, Note
from tentaculo.model.text import format_duration, printable
from tentaculo.server import templating
from tentaculo.server.native_routes import BodyResponse, Slices
from tentaculo.web import wording
from tentaculo.web.history import HEIGHT, WIDTH, history_row
from tentaculo.web.incidents import MOST_OPEN, MOST_WINDOWS, incident_row, window_row

log = structlog.get_logger(__name__)

_KEPT = 1.0
"""Seconds for which one rendered page is reused. It limits the cost of many requests."""
_EVENTS = 20
_STORE_WAIT = 1.0
"""Seconds that the page waits for the database before it is shown without events or without the past."""
_PAST_KEPT = 30.0
"""Seconds for which the history is reused: it changes once a minute. A failed query is not repeated earlier."""
_MOST_TROUBLES = 5
_MOST_PASTS = 100
"""Services of which the page tells the past: that of a thousand would keep the database busy for seconds."""
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="#fff" stroke-width="2.6" '
    'stroke-linecap="round" stroke-linejoin="round"><circle cx="12" cy="12" r="12" stroke="none" fill="{}"/>{}</svg>'
)
_TICK, _CROSS, _MARK, _DASH = (
    '<path d="m7 12.4 3.4 3.4L17 9"/>',
    '<path d="m8 8 8 8m0-8-8 8"/>',
    '<path d="M12 6.5v6.5m0 4v.1"/>',
    '<path d="M7.5 12h9"/>',
)
_ICONS = {
    "up": ("#0a7548", _TICK),
    "degraded": ("#a86b00", _MARK),
    "down": ("#b3221b", _CROSS),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One service, ready to be shown."""

    anchor: str
    name: str
    addresses: str
    state: wording.State
    since: datetime
    held: str
    port: int
    latency_ms: int | None
    checked_at: datetime | None
    checked: str
    endpoint: str
    code: int | None
    probes: str
    breaker: str
    is_tripped: bool
    requests: str
    root: str
    reason: str
    snippet: str


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event, ready to be shown."""

    type: str
    source: str
    severity: str
    received_at: datetime
    received: str
    payload: str


def row(place: int, view: ServiceView, now: datetime) -> Row:
    """`view` in words, with everything that came from outside cut to size."""
    state = wording.state(view)
    return Row(
        anchor=_anchor(place),
        name=printable(view.name, 80),
        addresses=_addresses(view),
        state=state,
        since=view.since,
        held=format_duration((now - view.since).total_seconds(), units=1),
        port=view.port,
        latency_ms=view.latency_ms,
        checked_at=view.checked_at,
        checked=wording.ago(view.checked_at, now),
        endpoint=printable(view.endpoint or "", 60),
        code=view.code,
        breaker=wording.breaker(view.breaker),
        probes=wording.counted(view.probes, "probe"),
        is_tripped=view.breaker.state is not BreakerState.CLOSED,
        requests=wording.counted(view.traffic, "request"),
        root=printable(view.root or "", 80),
        reason=printable(_reason(view), 160),
        snippet=printable(view.snippet or "", 120),
    )


def _anchor(place: int) -> str:
    return f"service-{place}"


def _reason(view: ServiceView) -> str:
    if wording.is_cut_off(view):
        return view.breaker.reason or view.reason
    return "" if view.health is Health.UP else view.reason


def _addresses(view: ServiceView) -> str:
    if len(view.upstreams) < 2:
        return ""
    usable = sum(one.health.is_healthy and one.breaker.state is not BreakerState.OPEN for one in view.upstreams)
    return f"{usable} of {len(view.upstreams)} addresses healthy"


def event_row(event: Event, now: datetime) -> EventRow:
    """`event` in words, with everything that came from outside cut to size."""
    severity = event.severity or event.payload.get("severity")  # rows of older versions have it in the payload alone
    return EventRow(
        type=printable(event.type, 60),
        source=printable(event.source, 60),
        severity=printable(severity, 20) if isinstance(severity, str) else "",
        received_at=event.received_at,
        received=wording.ago(event.received_at, now),
        payload=printable(json.dumps(event.payload, ensure_ascii=False, default=str), 160),
    )


def icon(mood: wording.State) -> str:
    """The tab's icon, which says how the fleet is by colour and by sign."""
    colour, sign = _ICONS.get(mood.key, ("#5d676d", _DASH))
    return "data:image/svg+xml," + quote(_ICON.format(colour, sign))


class StatusPage:
    """Renders the page, at most once a second however many ask for it, and in slices.

    `views` gives every service, one after the other. `recent_events` gives the newest first, `past` the summaries of the
    services named; both may fail or hang without harm. `incidents` gives the open incidents, then the last that ended,
    each with its notes, and `windows` the current and planned maintenance; both are in memory. `store_problem` is None
    while the database can be written. `now` is the time in UTC, `clock` is monotonic.
    """

    def __init__(
        self,
        *,
        views: Callable[[], Iterable[ServiceView]],
        recent_events: Callable[[int], Awaitable[list[Event]]],
        past: Callable[[Sequence[str]], Awaitable[Mapping[str, HistorySummary]]],
        incidents: Callable[[], Sequence[tuple[Incident, Sequence[Note]]]],
        windows: Callable[[], Sequence[MaintenanceWindow]],
        store_problem: Callable[[], str | None],
        started_at: Callable[[], datetime],
        now: Callable[[], datetime],
        slices: Slices,
        clock: Callable[[], float] = time.monotonic,
        not_listed: Callable[[], int] = int,
    ) -> None:
        """`not_listed` returns how many incidents are open beside those of `incidents`."""
        self._views = views
        self._slices = slices
        self._recent_events = recent_events
        self._ask_past = past
        self._incidents = incidents
        self._windows = windows
        self._not_listed = not_listed
        self._store_problem = store_problem
        self._started_at = started_at
        self._now = now
        self._clock = clock
        self._style = templating.inline("base.css", "status.css")
        self._script = templating.inline("status.js")
        self._policy = templating.content_security_policy(styles=[self._style], scripts=[self._script])
        self._page = b""
        self._made = float("-inf")
        self._past: Mapping[str, HistorySummary] | None = None
        self._past_asked = float("-inf")
        self._making = asyncio.Lock()

    async def show(self, request: web.Request) -> web.Response:
        """The handler of `GET /status`."""
        async with self._making:
            if self._clock() - self._made >= _KEPT:
                template = await asyncio.to_thread(templating.template, "status.html")
                text = "".join(await self._slices.collect(template.generate(await self._context())))
                self._page, self._made = text.encode("utf-8", "replace"), self._clock()
        return BodyResponse(
            body=self._page,
            headers={
                hdrs.CONTENT_TYPE: "text/html; charset=utf-8",
                hdrs.CACHE_CONTROL: "no-store",
                "Content-Security-Policy": self._policy,
            },
        )

    async def _context(self) -> dict[str, Any]:
        """Everything that the template names."""
        deadline = asyncio.get_running_loop().time() + _STORE_WAIT
        events, no_events = await self._events(deadline)
        services = await self._slices.collect(self._views())
        shown = [view.name for view in services[:_MOST_PASTS]]
        past = await self._past_by(deadline, shown)
        now = self._now()
        rows = await self._slices.collect(row(place, view, now) for place, view in enumerate(services))
        pasts = await self._slices.collect(
            history_row(name, past[name], now) for name in shown if past and name in past
        )
        return {
            **dict(await self._slices.collect(self._summary(services, now))),
            "style": self._style.text,
            "script": self._script.text,
            "at": f"{now:%H:%M:%S} UTC",
            "rows": rows,
            "past": pasts,
            "not_listed_pasts": len(services) - len(shown),
            "no_past": "Nothing yet." if past is not None else "It cannot be read now: the database is not available.",
            "canvas": f"0 0 {WIDTH} {HEIGHT}",
            **self._duty(now),
            "events": [event_row(event, now) for event in events],
            "no_events": no_events,
            "database": self._store_problem(),
            "version": __version__,
            "uptime": format_duration((now - self._started_at()).total_seconds(), units=1),
        }

    def _summary(self, services: Sequence[ServiceView], now: datetime) -> Iterator[tuple[str, Any]]:
        """What the page says of all services together, name by name."""
        mood = wording.mood(services)
        yield "mood", mood
        yield "icon", icon(mood)
        headline = wording.headline(services)
        yield "headline", headline
        yield "title", f"{printable(headline.rstrip('.'), 80)} · Tentáculo Link"
        yield "tally", wording.tally(services)
        troubles = wording.troubled(services)
        yield "not_listed", len(troubles[_MOST_TROUBLES:])
        places = {view.name: place for place, view in enumerate(services)}
        yield (
            "troubles",
            [
                {"anchor": _anchor(places[view.name]), "name": view.name, "text": wording.trouble(view, now)}
                for view in troubles[:_MOST_TROUBLES]
            ],
        )

    def _duty(self, now: datetime) -> dict[str, Any]:
        rows = [incident_row(incident, notes, now) for incident, notes in self._incidents()]
        going_on = [one for one in rows if one.is_open]
        windows = self._windows()
        return {
            "going_on": going_on[:MOST_OPEN],
            "more_going_on": len(going_on[MOST_OPEN:]) + self._not_listed(),
            "over": [one for one in rows if not one.is_open],
            "windows": [window_row(one, now) for one in windows[:MOST_WINDOWS]],
            "more_windows": len(windows[MOST_WINDOWS:]),
        }

    async def _events(self, deadline: float) -> tuple[list[Event], str]:
        """The newest events, and what to say where there are none."""
        try:
            async with asyncio.timeout_at(deadline):
                events = await self._recent_events(_EVENTS)
        except Exception as error:  # noqa: BLE001
            # Whatever the store does, and however it fails, the page shows the fleet.
            log.warning("recent events not shown", error=type(error).__name__, problem=self._store_problem())
            return [], "The events cannot be read now: the database is not available."
        return events, "None yet. Services send them to /events/ingest, or over the WebSocket /ws."

    async def _past_by(self, deadline: float, names: Sequence[str]) -> Mapping[str, HistorySummary] | None:
        """The past of the services by name, None where it cannot be read now."""
        if self._clock() - self._past_asked >= _PAST_KEPT:
            self._past_asked = self._clock()
            try:
                async with asyncio.timeout_at(deadline):
                    self._past = await self._ask_past(names)
            except Exception as error:  # noqa: BLE001 - as above
                log.warning("history not shown", error=type(error).__name__, problem=self._store_problem())
                self._past = None
        return self._past


async def lead_here(request: web.Request) -> web.Response:
    """The handler of `GET /`, where no route takes it."""
    return web.Response(status=302, headers={hdrs.LOCATION: "/status"})


def routes(page: StatusPage, *, root: bool) -> list[web.RouteDef]:
    """The route of the page; with `root`, also `/`, which leads there."""
    shown = [web.get("/status", page.show)]
    return [web.get("/", lead_here), *shown] if root else shown
