"""The incidents as an Atom feed (RFC 4287): what everybody may see of the open ones and of the last that ended."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from aiohttp import web

from tentaculo import __version__
from tentaculo.model.incident import Incident
from tentaculo.model.page import PRODUCT, PageInfo
from tentaculo.model.text import printable
from tentaculo.web import incident_words, reasons
from tentaculo.web.languages import language
from tentaculo.web.rendering import Renderer
from tentaculo.web.viewer import Viewer

MEDIA_TYPE: Final = "application/atom+xml; charset=utf-8"
_NEVER: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""When a feed without entries last changed."""
_TAG_DAY: Final = "2026-01-01"
"""The day for which the host of a tag stands (RFC 4151). It never changes, so that no entry gets another id."""
_HOST: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")


class Entry(NamedTuple):
    """One incident."""

    id: str
    title: str
    href: str
    published: str
    updated: str
    category: str
    summary: str


class IncidentFeed:
    """The feed. `incidents` gives those that it has, and `page` the URL of the status page, for links and ids."""

    def __init__(
        self,
        *,
        incidents: Callable[[], Awaitable[Iterable[Incident]]],
        page: Callable[[], str],
        renderer: Renderer,
        info: PageInfo,
    ) -> None:
        self._incidents = incidents
        self._page = page
        self._renderer = renderer
        self._info = info

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The handler of `GET /status/incidents.atom`."""
        return await self._renderer.respond(request, "feed", "incidents.atom", self._context, media_type=MEDIA_TYPE)

    async def _context(self) -> dict[str, Any]:
        page = self._page()
        found = sorted(await self._incidents(), key=lambda one: one.changed_at, reverse=True)
        return {
            "viewer": Viewer(),
            "id": f"{_tag(page)}/incidents",
            "title": printable(self._info.heading("Incidents"), 200),
            "product": PRODUCT,
            "version": __version__,
            "updated": _moment(max((one.changed_at for one in found), default=_NEVER)),
            "own": f"{page}/incidents.atom",
            "alternate": f"{page}/incidents",
            "entries": [entry(one, page) for one in found],
        }


def entry(incident: Incident, page: str) -> Entry:
    """`incident` without anything that not everybody may see. Its id never changes, and `updated` never goes back."""
    t = language("en")
    parts = (
        incident_words.sentence(incident_words.reason(incident, t, is_private=False)),
        incident_words.failed_with(incident, t),
        "" if incident.is_open else f"It lasted {incident_words.lasted(incident, incident.started_at, t)}.",
        incident_words.ending(incident, t, is_private=False),
        incident_words.reopened(incident, t),
        "It is acknowledged." if incident.acknowledged is not None and incident.is_open else "",
    )
    what = incident_words.what_failed(incident, t)
    return Entry(
        id=f"{_tag(page)}/incidents/{incident.id}",
        title=what if incident.is_open else f"Over: {what}",
        href=f"{page}/incidents/{incident.id}",
        published=_moment(incident.started_at),
        updated=_moment(incident.changed_at),
        category="open" if incident.is_open else "over",
        summary=reasons.plain(" ".join(filter(None, parts))) or f"{what}.",
    )


def _tag(page: str) -> str:
    """The beginning of ids as tag URIs (RFC 4151): the host of `page`, which may be an address."""
    host = (urlsplit(page).hostname or "").lower()
    return f"tag:{host if _HOST.fullmatch(host) else 'localhost'},{_TAG_DAY}:tentaculo"


def _moment(moment: datetime) -> str:
    """As RFC 3339 has it."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
