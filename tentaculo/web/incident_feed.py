"""The incidents as an Atom feed (RFC 4287): what everybody may see of the open ones and of the last that ended.

Readers know an entry by its id. It is made of the name of the log and the number of the incident, so that neither another
address of the gateway nor another language changes it, and no other gateway has it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

from aiohttp import hdrs, web

from tentaculo import __version__
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.incident import Incident
from tentaculo.model.page import PRODUCT, PageInfo
from tentaculo.model.text import printable
from tentaculo.web import incident_words, wording
from tentaculo.web.languages import Language, language_of
from tentaculo.web.rendering import Renderer
from tentaculo.web.viewer import Viewer

MEDIA_TYPE: Final = "application/atom+xml; charset=utf-8"
_NEVER: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""When a feed without entries last changed."""
_IDS: Final = UUID("6f1c0e1e-6f0b-5d1c-9d59-1d4e3f6a7b20")
"""The namespace of the ids (RFC 9562, section 6.5). It never changes, so that no entry gets another id."""


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
    """The feed. `incidents` gives those that it has, `page` the URL of the status page, and `log_name` the name of the log,
    which is empty while the database has not been read yet."""

    def __init__(
        self,
        *,
        incidents: Callable[[], Awaitable[Iterable[Incident]]],
        page: Callable[[], str],
        log_name: Callable[[], str],
        renderer: Renderer,
        info: PageInfo,
    ) -> None:
        self._incidents = incidents
        self._page = page
        self._log_name = log_name
        self._renderer = renderer
        self._info = info

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The handler of `GET /status/incidents.atom`. Raises `Problem` (503) while the log is not known."""
        if not self._log_name():
            detail = "The database has not responded yet."
            raise Problem(Failure.STORE_UNAVAILABLE, detail, headers={hdrs.RETRY_AFTER: "5"})
        viewer = Viewer(language=language_of(request))
        return await self._renderer.respond(
            request, viewer, "incidents.atom", lambda: self._context(viewer), media_type=MEDIA_TYPE
        )

    async def _context(self, viewer: Viewer) -> dict[str, Any]:
        page, log_name, t = self._page(), self._log_name(), viewer.texts
        found = sorted(await self._incidents(), key=lambda one: one.changed_at, reverse=True)
        return {
            "viewer": viewer,
            "id": _id(log_name, "incidents"),
            "title": printable(self._info.heading(t("incidents.title")), 200),
            "product": PRODUCT,
            "version": __version__,
            "updated": _moment(max((one.changed_at for one in found), default=_NEVER)),
            "own": f"{page}/incidents.atom",
            "alternate": f"{page}/incidents",
            "entries": [entry(one, page, log_name, t) for one in found],
        }


def entry(incident: Incident, page: str, log_name: str, t: Language) -> Entry:
    """`incident` without anything that not everybody may see. Its id never changes, and `updated` never goes back."""
    lasted = incident_words.lasted(incident, incident.started_at, t)
    parts = (
        incident_words.sentence(incident_words.reason(incident, t, is_private=False)),
        incident_words.failed_with(incident, t),
        "" if incident.is_open else t("feed.lasted", duration=lasted),
        incident_words.ending(incident, t, is_private=False),
        incident_words.reopened(incident, t),
        t("feed.acknowledged") if incident.acknowledged is not None and incident.is_open else "",
    )
    what = incident_words.what_failed(incident, t)
    return Entry(
        id=_id(log_name, f"incidents/{incident.id}"),
        title=what if incident.is_open else t("feed.over", what=what),
        href=f"{page}/incidents/{incident.id}",
        published=_moment(incident.started_at),
        updated=_moment(incident.changed_at),
        category="open" if incident.is_open else "over",
        summary=wording.plain(" ".join(filter(None, parts))) or f"{what}.",
    )


def _id(log_name: str, name: str) -> str:
    """The URN of something of a gateway (RFC 9562, section 4): it needs no name that a registry has given to somebody."""
    return uuid5(_IDS, f"{log_name}/{name}").urn


def _moment(moment: datetime) -> str:
    """As RFC 3339 has it."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
