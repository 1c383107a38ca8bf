"""The state of the fleet in the form of Statuspage's public API, version 2, which many programs read.

Each document is made at most once a second. It has what everybody may know: states, incidents with their public reason, and maintenance. No address, nothing that a
service said, and no name of a person.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from tentaculo.model.health import DegradedKind, Health, ServiceView, state_name
from tentaculo.model.incident import Incident, MaintenanceWindow, Note
from tentaculo.model.page import PRODUCT, PageInfo
from tentaculo.model.text import printable
from tentaculo.server.native_routes import Slices, raw_json
from tentaculo.web import incident_words, wording
from tentaculo.web.documents import Document
from tentaculo.web.past_reader import PastReader
from tentaculo.web.wording import ENGLISH

MOST_INCIDENTS: Final = 50
"""Incidents of a document, and maintenance windows."""
MOST_AFFECTED: Final = 50
"""Components that one incident names."""
Shape = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Published:
    """All that the documents are made of."""

    now: datetime
    services: Sequence[ServiceView]
    incidents: Sequence[Incident]
    """The newest first."""
    windows: Sequence[MaintenanceWindow]
    info: PageInfo
    url: str
    """Of the overview."""


def stable_id(kind: str, name: str) -> str:
    """An id that depends on nothing else: twelve lower-case letters and digits, as Statuspage's are."""
    return base64.b32encode(sha256(f"{kind}:{name}".encode()).digest())[:12].decode().lower()


def component_status(view: ServiceView) -> str:
    """The status of one service. The form has no word for one that is off, nor for one that is not checked yet."""
    if view.is_cut_off:
        return "partial_outage"
    match view.health:
        case Health.DOWN:
            return "major_outage"
        case Health.DEGRADED:
            return "partial_outage" if view.kind is DegradedKind.FAILING else "degraded_performance"
        case Health.MAINTENANCE | Health.OFF:
            return "under_maintenance"
        case Health.UP | Health.UNKNOWN:
            return "operational"


_WORST_FIRST: Final = ("major_outage", "partial_outage", "degraded_performance", "under_maintenance", "operational")


def indicator(services: Sequence[ServiceView]) -> str:
    """How bad it is: critical if every service is down, major if one is, minor if one is degraded. What is intended is none."""
    found = [status for status in map(component_status, services) if status != "under_maintenance"]
    if not found or set(found) == {"operational"}:
        return "none"
    if "major_outage" not in found:
        return "minor"
    return "critical" if set(found) == {"major_outage"} else "major"


def page(source: Published) -> Shape:
    """The member `page` of every document."""
    moments = [
        *(view.since for view in source.services),
        *(_updated_at(one) for one in source.incidents),
        *(one.starts_at for one in source.windows if one.holds(source.now)),
    ]
    return {
        "id": stable_id("page", source.url),
        "name": printable(source.info.title or PRODUCT, 60),
        "url": source.url,
        "time_zone": str(source.info.zone),
        "updated_at": max(moments, default=source.now),
    }


def status(source: Published) -> Iterator[tuple[str, str]]:
    """The member `status`: the indicator, and the headline of the overview."""
    yield "indicator", indicator(source.services)
    yield "description", printable(wording.headline(source.services, ENGLISH), 160).rstrip(".")


def components(source: Published) -> Iterator[Shape]:
    """Every service, and every group as a component that names its members."""
    page_id, groups = stable_id("page", source.url), source.info.groups
    members: dict[str, list[ServiceView]] = {}
    for view in source.services:
        members.setdefault(source.info.of(view.name).group, []).append(view)
        yield component(source, view, page_id, len(members[source.info.of(view.name).group]))
    for position, group in enumerate((group for group in groups if group in members), 1):
        found = members[group]
        since = max(view.since for view in found)
        yield {
            **_component("group", group, "", min(map(component_status, found), key=_WORST_FIRST.index), since, page_id),
            "position": position,
            "group": True,
            "components": [stable_id("service", view.name) for view in found],
        }


def component(source: Published, view: ServiceView, page_id: str, position: int) -> Shape:
    """One service."""
    info = source.info.of(view.name)
    return {
        **_component("service", view.name, info.about, component_status(view), view.since, page_id),
        "position": position,
        "group_id": stable_id("group", info.group) if info.group else None,
    }


def _component(kind: str, name: str, about: str, state: str, since: datetime, page_id: str) -> Shape:
    return {
        "id": stable_id(kind, name),
        "name": printable(name, 80),
        "description": about or None,
        "status": state,
        # The gateway knows when the state changed, and not when the service was configured.
        "created_at": since,
        "updated_at": since,
        "start_date": None,
        "position": 1,
        "showcase": False,
        "only_show_if_degraded": False,
        "group": False,
        "group_id": None,
        "page_id": page_id,
    }


def incident(source: Published, one: Incident) -> Shape:
    """One incident, with its updates, the newest first."""
    state = "resolved" if not one.is_open else "identified" if one.acknowledged is not None else "investigating"
    return {
        **_event(
            source,
            str(one.id),
            f"{printable(one.root, 80)} {wording.predicate(state_name(one.severity), 1, ENGLISH)}",
            state,
            one.started_at,
            _updated_at(one),
        ),
        "impact": "major" if one.severity is Health.DOWN else "minor",
        "resolved_at": one.ended_at,
        "shortlink": f"{source.url.removesuffix('/status')}{incident_words.path(one.id)}",
        "incident_updates": list(_updates(one))[::-1],
        "components": _affected(source, one.services),
    }


def maintenance(source: Published, window: MaintenanceWindow) -> Shape:
    """One current or planned maintenance window."""
    known = f"window {window.id}" if window.id is not None else f"{','.join(window.services)} {window.starts_at}"
    number, state = stable_id("maintenance", known), "in_progress" if window.holds(source.now) else "scheduled"
    reason = printable(window.reason, 200)
    return {
        **_event(source, number, reason, state, window.starts_at, window.starts_at),
        "impact": "maintenance",
        "resolved_at": None,
        "shortlink": source.url,
        "scheduled_for": window.starts_at,
        "scheduled_until": window.ends_at,
        "incident_updates": [_update(number, state, reason, window.starts_at)],
        "components": _affected(source, window.services or [view.name for view in source.services]),
    }


def _event(source: Published, number: str, name: str, state: str, started: datetime, updated: datetime) -> Shape:
    return {
        "id": number,
        "name": name,
        "status": state,
        "created_at": started,
        "updated_at": updated,
        "started_at": started,
        "monitoring_at": None,
        "page_id": stable_id("page", source.url),
    }


def _updates(one: Incident) -> Iterator[Shape]:
    """What happened, the oldest first."""
    number = str(one.id)
    yield _update(number, "investigating", _opening(one), one.started_at)
    if one.acknowledged is not None:
        yield _update(number, "identified", "Somebody takes care of it.", one.acknowledged.at)
    if one.ended_at is not None:
        yield _update(
            number, "resolved", wording.plain(incident_words.ending(one, ENGLISH, is_private=False)), one.ended_at
        )


def _opening(one: Incident) -> str:
    reason = wording.plain(incident_words.reason(one, ENGLISH, is_private=False))
    said = incident_words.sentence(f"{_name(one)}: {reason}" if reason else _name(one))
    return f"{said} {incident_words.failed_with(one, ENGLISH)}".rstrip()


def _name(one: Incident) -> str:
    """The same from its beginning to its end."""
    return f"{printable(one.root, 80)} {wording.predicate(state_name(one.severity), 1, ENGLISH)}"


def _update(number: str, state: str, body: str, at: datetime) -> Shape:
    return {
        "id": stable_id("update", f"{number} {state}"),
        "incident_id": number,
        "status": state,
        "body": body,
        "created_at": at,
        "updated_at": at,
        "display_at": at,
        "affected_components": None,
        "deliver_notifications": False,
        "custom_tweet": None,
        "tweet_id": None,
    }


def _updated_at(one: Incident) -> datetime:
    known = (one.started_at, one.acknowledged.at if one.acknowledged is not None else None, one.ended_at)
    return max(moment for moment in known if moment is not None)


def _affected(source: Published, names: Sequence[str]) -> list[Shape]:
    wanted, page_id = set(names[:MOST_AFFECTED]), stable_id("page", source.url)
    return [component(source, view, page_id, 1) for view in source.services if view.name in wanted]


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
        members: dict[str, Any] = {"page": page(source)}
        if name in ("summary", "status"):
            members["status"] = dict(await self._slices.collect(status(source)))
        for member, shapes in DOCUMENTS[name].items():
            members[member] = await self._slices.collect(map(raw_json, shapes(source)))

        def encode() -> Document:
            document = Document.of(msgspec.json.encode(members))
            document.compress()
            return document

        # That of a large one takes long, and needs nothing else.
        return await asyncio.to_thread(encode)


def _all_incidents(source: Published) -> Iterator[Shape]:
    return (incident(source, one) for one in source.incidents[:MOST_INCIDENTS])


def _open_incidents(source: Published) -> Iterator[Shape]:
    found = [one for one in source.incidents if one.is_open]
    return (incident(source, one) for one in found[:MOST_INCIDENTS])


def _maintenances(source: Published) -> Iterator[Shape]:
    return (maintenance(source, one) for one in source.windows)


def _upcoming(source: Published) -> Iterator[Shape]:
    return (maintenance(source, one) for one in source.windows if not one.holds(source.now))


def _active(source: Published) -> Iterator[Shape]:
    return (maintenance(source, one) for one in source.windows if one.holds(source.now))


DOCUMENTS: Final[Mapping[str, Mapping[str, Callable[[Published], Iterator[Shape]]]]] = {
    "summary": {
        "components": components,
        "incidents": _open_incidents,
        "scheduled_maintenances": _maintenances,
    },
    "status": {},
    "components": {"components": components},
    "incidents": {"incidents": _all_incidents},
    "unresolved": {"incidents": _open_incidents},
    "maintenances": {"scheduled_maintenances": _maintenances},
    "upcoming": {"scheduled_maintenances": _upcoming},
    "active": {"scheduled_maintenances": _active},
}
"""The lists of each document, by the name of their member."""
