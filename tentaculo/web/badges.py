"""The badges of the fleet and of each service, for pages elsewhere."""

from __future__ import annotations

import asyncio
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from aiohttp import hdrs, web

from tentaculo.model.failure import Failure, Problem
from tentaculo.model.health import ServiceView
from tentaculo.model.history import DAY, HOUR, HistorySummary, Period, uptime_share
from tentaculo.model.page import PageInfo
from tentaculo.model.service_rates import RecentRates
from tentaculo.model.text import printable
from tentaculo.server.content_negotiation import LANGUAGE_PARAMETER, asked_language
from tentaculo.server.native_routes import Slices
from tentaculo.web import overview, wording
from tentaculo.web.documents import Document
from tentaculo.web.languages import Language, language
from tentaculo.web.past_reader import PastReader

MOST_LABEL: Final = 40
MOST_MESSAGE: Final = 60
"""Characters that are shown."""
_HEIGHT: Final = 20
_SIZE: Final = 11
_MARGIN: Final = 6
"""Pixels: the height, the size of the letters, and the space beside each text."""
_LABEL_COLOUR: Final = "#3b4148"
_COLOURS: Final = {"up": "#17784a", "slow": "#8f5300", "down": "#bd2518", "plan": "#3352c8", "off": "#5b616a"}
"""By tone, as on the pages. White letters on each have a contrast of 5 to 1 at least."""
_WIDTHS: Final = (
    *(32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34),
    *(64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34, 84, 84, 84, 53),
    *(100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79),
    *(60, 79, 69, 63, 61, 73, 68, 99, 69, 61, 69, 39, 34, 39, 84, 50),
    *(50, 61, 63, 55, 63, 62, 35, 63, 63, 28, 28, 58, 28, 97, 63, 61),
    *(63, 63, 41, 52, 39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84),
)
"""Widths of the ASCII characters from the space on in DejaVu Sans, which are those of Verdana, in hundredths of the size."""


class Badge(NamedTuple):
    """What a badge says."""

    label: str
    message: str
    tone: str
    """Names its colour. The message says the same in words."""
    is_error: bool = False
    """Whether there is nothing to show."""

    @property
    def text(self) -> str:
        """The whole text, for those who do not see it."""
        return f"{self.label}: {self.message}"


def made(label: str, message: str, tone: str, *, is_error: bool = False) -> Badge:
    """A badge of texts of any length and content."""
    return Badge(printable(label, MOST_LABEL), printable(message, MOST_MESSAGE), tone, is_error)


def text_width(text: str) -> float:
    """About how many pixels `text` is wide. A viewer's font may differ; the SVG fits the text into this width."""
    return sum(map(_width, text)) * _SIZE / 100


def _width(character: str) -> int:
    place = ord(character) - 32
    if 0 <= place < len(_WIDTHS):
        return _WIDTHS[place]
    if unicodedata.combining(character):
        return 0
    return 100 if unicodedata.east_asian_width(character) in "WF" else 64


def svg(badge: Badge) -> str:
    """The picture. It has no script, no style sheet and no font of its own, and needs nothing else."""
    label, message = text_width(badge.label), text_width(badge.message)
    left = round(label + 2 * _MARGIN)
    whole = left + round(message + 2 * _MARGIN)
    said = escape(badge.text)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="{_HEIGHT}" role="img" aria-label="{said}">'
        f"<title>{said}</title>"
        f'<rect width="{whole}" height="{_HEIGHT}" rx="3" fill="{_COLOURS[badge.tone]}"/>'
        f'<path d="M3 0H{left}V{_HEIGHT}H3a3 3 0 0 1-3-3V3a3 3 0 0 1 3-3Z" fill="{_LABEL_COLOUR}"/>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="{_SIZE}">'
        f"{_text(badge.label, _MARGIN, label)}{_text(badge.message, left + _MARGIN, message)}</g></svg>"
    )


def _text(text: str, x: int, width: float) -> str:
    return f'<text x="{x}" y="14" textLength="{width:.1f}" lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'


def shields(badge: Badge) -> dict[str, Any]:
    """The form of https://shields.io/badges/endpoint-badge."""
    found: dict[str, Any] = {
        "schemaVersion": 1,
        "label": badge.label,
        "message": badge.message,
        "color": _COLOURS[badge.tone],
        "labelColor": _LABEL_COLOUR,
    }
    return {**found, "isError": True} if badge.is_error else found


MAX_AGE: Final = 30
"""Seconds for which a badge may be kept by others. GitHub and other caches show it that much later."""
SHOWS: Final = ("state", "uptime", "p95")
RANGES: Final = ("24h", "7d", "90d")
_MOST_WAITING: Final = 20
"""Requests that wait for the database at once."""


class BadgeQueries(Protocol):
    """What the badges read from the database. Each may fail or hang without harm."""

    async def past(self, now: int, services: Sequence[str], /) -> Mapping[str, HistorySummary]:
        """The summaries of the history of services, by name."""
        ...

    async def recent(self, now: int, services: Sequence[str], /) -> Mapping[str, RecentRates]:
        """The rates of services in the last minutes, by name."""
        ...

    async def history(self, service: str, span: int, since: int, until: int, /) -> Sequence[Period]:
        """The periods of a service."""
        ...


@dataclass(frozen=True, slots=True)
class _Past:
    """What the database said of one service."""

    uptime: Mapping[str, float | None]
    """The share of the time in which it was available, by range."""
    p95: float | None
    """Seconds."""


class Badges:
    """The badges. `names` are the services by name and alias; `views`, `view`, `store`, `now` and `clock` are those of the
    pages."""

    def __init__(
        self,
        *,
        names: Mapping[str, str],
        views: Callable[[], Iterable[ServiceView]],
        view: Callable[[str], ServiceView],
        store: BadgeQueries,
        store_problem: Callable[[], str | None],
        info: PageInfo,
        now: Callable[[], datetime],
        slices: Slices,
        is_public: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = names
        self._views = views
        self._view = view
        self._store = store
        self._info = info
        self._now = now
        self._slices = slices
        self._clock = clock
        self._past = PastReader[_Past](store_problem, clock, most=1000)
        self._reading = asyncio.Lock()
        self._waiting = 0
        self._overall: dict[str, tuple[float, Badge]] = {}
        """By language, with the time of the clock at which it was made."""
        self._headers: dict[str, str] = {
            hdrs.CACHE_CONTROL: f"{'public' if is_public else 'private'}, max-age={MAX_AGE}"
        }
        if is_public:
            self._headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"

    def __repr__(self) -> str:
        return f"<Badges: {len(self._names)} names>"

    async def show_overall(self, form: str, request: web.Request) -> web.Response:
        """The badge of the whole fleet: its headline. `form` is `svg` or `json`."""
        t = _language(request)
        if request.query.get("show", "state") != "state":
            return self._respond(request, _invalid(t), form, status=400)
        made_at, badge = self._overall.get(t.code, (float("-inf"), None))
        if badge is None or self._clock() - made_at >= 1:
            services = await self._slices.collect(self._views())
            await asyncio.sleep(0)
            named = wording.worst(services)
            await asyncio.sleep(0)
            tone = wording.state(named[0].state, t).tone if named else "off"
            message = wording.headline(services, t, named).rstrip(".")
            badge = made(self._info.title or t("badge.status"), message, tone)
            self._overall[t.code] = self._clock(), badge
        return self._respond(request, badge, form)

    async def show_service(self, form: str, request: web.Request) -> web.Response:
        """The badge of one service. An unknown one is a 404, and a parameter that is none a 400, with a badge that says so."""
        name = self._names.get(request.match_info["service"])
        shows, span = request.query.get("show", "state"), request.query.get("range", "90d")
        t = _language(request)
        if name is None:
            missing = made(t("badge.service"), t("badge.not_found"), "off", is_error=True)
            return self._respond(request, missing, form, status=404)
        if shows not in SHOWS or span not in RANGES:
            return self._respond(request, _invalid(t), form, status=400)
        view = self._view(name)
        state = wording.state(view.state, t)
        if shows == "state":
            return self._respond(request, made(name, state.word.lower(), state.tone), form)
        past = await self._read(name)
        if past is None:
            return self._respond(request, made(name, t("badge.not_known_now"), "off"), form)
        found = _uptime(name, span, past.uptime[span], t) if shows == "uptime" else _latency(name, state, past.p95, t)
        return self._respond(request, found, form)

    def _respond(self, request: web.Request, found: Badge, form: str, *, status: int = 200) -> web.Response:
        body = msgspec.json.encode(shields(found)) if form == "json" else svg(found).encode()
        kind = "application/json" if form == "json" else "image/svg+xml"
        headers = {**self._headers, hdrs.CONTENT_TYPE: f"{kind}; charset=utf-8"}
        if status != 200:
            headers[hdrs.VARY] = hdrs.ACCEPT_LANGUAGE
            return web.Response(status=status, body=body, headers=headers)
        return Document.of(body).respond(request, headers, vary=(hdrs.ACCEPT_LANGUAGE,))

    async def _read(self, name: str) -> _Past | None:
        """The past of a service; None where it cannot be read. Services are read one after the other."""
        if self._waiting >= _MOST_WAITING:
            raise Problem(Failure.OVERLOADED, "Too many badges are asked for.", headers={hdrs.RETRY_AFTER: "1"})
        self._waiting += 1
        try:
            async with self._reading:
                return await self._past.read(name, lambda: self._query(name))
        finally:
            self._waiting -= 1

    async def _query(self, name: str) -> _Past:
        until = int(self._now().timestamp())
        summary = (await self._store.past(until, [name])).get(name, HistorySummary())
        week = await self._store.history(name, HOUR, until - until % HOUR - 7 * DAY + HOUR, until + 1)
        uptime = {
            "24h": uptime_share(summary.hours).share,
            "7d": uptime_share(week).share,
            "90d": summary.quarter.share,
        }
        return _Past(uptime, overview.recent_p95((await self._store.recent(until, [name])).get(name)))


def _language(request: web.Request) -> Language:
    """`?lang=` of the address, else what the reader's browser asks for. No cookie counts, so that caches can keep badges."""
    accepted = request.headers.get(hdrs.ACCEPT_LANGUAGE, "")
    return language(asked_language(request.query.get(LANGUAGE_PARAMETER, ""), "", accepted))


def _invalid(t: Language) -> Badge:
    return made(t("badge.badge"), t("badge.invalid"), "off", is_error=True)


def _uptime(name: str, span: str, share: float | None, t: Language) -> Badge:
    label = t("badge.up", name=name, range=t(f"range.short_{span}"))
    if share is None:
        return made(label, t("badge.not_known"), "off")
    return made(label, t.share(share), "up" if share >= 0.999 else "slow" if share >= 0.99 else "down")


def _latency(name: str, state: wording.State, seconds: float | None, t: Language) -> Badge:
    label = t("badge.p95", name=name)
    if seconds is None:
        return made(label, t("badge.not_known"), "off")
    return made(label, t.latency(seconds), "slow" if state.key == "slow" else "up")
