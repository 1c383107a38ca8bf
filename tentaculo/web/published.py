"""What other programs read of the status pages: documents in Statuspage's form. Each is made at most once a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from tentaculo.model.health import ServiceView
from tentaculo.model.incident import Incident, MaintenanceWindow, Note
from tentaculo.model.page import PageInfo
from tentaculo.server.native_routes import Slices, raw_json
from tentaculo.web import statuspage
from tentaculo.web.documents import Document
from tentaculo.web.past_reader import PastReader
from tentaculo.web.statuspage import MOST_INCIDENTS, Published, Shape

_KEPT: Final = 1.0
"""Seconds for which a document is reused."""


class StatuspageApi:
    """The documents of `/status/api/v2/`.

    `views`, `incidents`, `windows`, `store_problem`, `now` and `clock` are those of the overview. `stored` reads so many
    of the newest incidents. `url` is that of the overview. Programs of other sites may read public documents.
    """

    def __init__(
        self,
        *,
        views: Callable[[], Iterable[ServiceView]],
        incidents: Callable[[], Sequence[tuple[Incident, Sequence[Note]]]],
        stored: Callable[[int], Awaitable[Sequence[Incident]]],
        windows: Callable[[], Sequence[MaintenanceWindow]],
        store_problem: Callable[[], str | None],
        info: PageInfo,
        url: Callable[[], str],
        now: Callable[[], datetime],
        slices: Slices,
        is_public: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._views = views
        self._incidents = incidents
        self._stored = stored
        self._windows = windows
        self._info = info
        self._url = url
        self._now = now
        self._slices = slices
        self._clock = clock
        self._past = PastReader[Sequence[Incident]](store_problem, clock)
        self._making = {name: asyncio.Lock() for name in DOCUMENTS}
        self._documents: dict[str, tuple[float, Document]] = {}
        self._headers: dict[str, str] = {
            hdrs.CONTENT_TYPE: "application/json; charset=utf-8",
            hdrs.CACHE_CONTROL: "no-cache" if is_public else "no-cache, private",
            **({hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*"} if is_public else {}),
        }

    def __repr__(self) -> str:
        return f"<StatuspageApi: {len(self._documents)} documents>"

    async def show(self, name: str, request: web.Request) -> web.Response:
        """The document `name`, one of `DOCUMENTS`. No parameter changes it."""
        async with self._making[name]:
            made_at, document = self._documents.get(name, (float("-inf"), None))
            if document is None or self._clock() - made_at >= _KEPT:
                document = await self._make(name)
                self._documents[name] = self._clock(), document
        return document.respond(request, self._headers)

    async def _make(self, name: str) -> Document:
        services = await self._slices.collect(self._views())
        known = {one.id: one for one, _ in self._incidents()}
        if name == "incidents":
            # Memory has all that are open, and the last changes of the others.
            found = await self._past.read(name, lambda: self._stored(MOST_INCIDENTS))
            known = {one.id: one for one in found or ()} | known
        newest = sorted((one for one in known.values() if one.part_of is None), key=lambda one: one.id, reverse=True)
        source = Published(self._now(), services, newest, self._windows()[:MOST_INCIDENTS], self._info, self._url())
        members: dict[str, Any] = {"page": statuspage.page(source)}
        if name in ("summary", "status"):
            members["status"] = dict(await self._slices.collect(statuspage.status(source)))
        for member, shapes in DOCUMENTS[name].items():
            members[member] = await self._slices.collect(map(raw_json, shapes(source)))
        # Compressing a large one takes long, and needs nothing else.
        return await asyncio.to_thread(lambda: Document.of(msgspec.json.encode(members)))


def _all_incidents(source: Published) -> Iterator[Shape]:
    return (statuspage.incident(source, one) for one in source.incidents[:MOST_INCIDENTS])


def _open_incidents(source: Published) -> Iterator[Shape]:
    found = [one for one in source.incidents if one.is_open]
    return (statuspage.incident(source, one) for one in found[:MOST_INCIDENTS])


def _maintenances(source: Published) -> Iterator[Shape]:
    return (statuspage.maintenance(source, one) for one in source.windows)


def _upcoming(source: Published) -> Iterator[Shape]:
    return (statuspage.maintenance(source, one) for one in source.windows if not one.holds(source.now))


def _active(source: Published) -> Iterator[Shape]:
    return (statuspage.maintenance(source, one) for one in source.windows if one.holds(source.now))


DOCUMENTS: Final[Mapping[str, Mapping[str, Callable[[Published], Iterator[Shape]]]]] = {
    "summary": {
        "components": statuspage.components,
        "incidents": _open_incidents,
        "scheduled_maintenances": _maintenances,
    },
    "status": {},
    "components": {"components": statuspage.components},
    "incidents": {"incidents": _all_incidents},
    "unresolved": {"incidents": _open_incidents},
    "maintenances": {"scheduled_maintenances": _maintenances},
    "upcoming": {"scheduled_maintenances": _upcoming},
    "active": {"scheduled_maintenances": _active},
}
"""The lists of each document, by the name of their member."""
