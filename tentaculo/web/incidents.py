"""Incidents and planned maintenance as JSON, for the endpoints and the commands, and as rows of the status page.

The endpoints are `/vx11/incidents…` and `/vx11/maintenance…` (docs/api.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn, Protocol

import msgspec
from aiohttp import web

from tentaculo.model import access
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.incident import (
    EVERY,
    DeliveryRecord,
    Incident,
    InvalidInputError,
    MaintenanceWindow,
    Note,
    check_note,
    check_window,
)
from tentaculo.model.precursor import DEFAULT_DAYS, MOST_DAYS, PrecursorReport, ReadPrecursors
from tentaculo.model.reason import coded
from tentaculo.server.caller import Audit, no_audit
from tentaculo.server.native_routes import NativeRoute, Slices, json_response, raw_json
from tentaculo.server.query_parameters import Parameter, check_names, number_parameter, read_number
from tentaculo.server.request_body import read_json_body
from tentaculo.tasks import TaskGroup
from tentaculo.web.acknowledgements import MOST_ID, acknowledgement_shape, incident_id
from tentaculo.web.history import ReadsHistory, recent_shape


def incident_shape(incident: Incident, notes: Sequence[Note] | None = None) -> dict[str, Any]:
    """One incident; with `notes`, those too."""
    shape = {
        "id": incident.id,
        "open": incident.is_open,
        "root": incident.root,
        "services": incident.services,
        "severity": incident.severity.value,
        "reason": incident.reason,
        **coded("reason", incident.cause),
        "started_at": incident.started_at,
        "seen_at": incident.seen_at,
        "ended_at": incident.ended_at,
        "ending": incident.ending or None,
        **coded("ending", incident.ending_cause),
        "peak_error_rate": incident.peak_error_rate,
        "reopened": incident.reopened,
        "reopened_at": incident.reopened_at,
        "failed_requests": incident.failed_requests,
        "counted_until": incident.counted_until,
        "part_of": incident.part_of,
        "muted": None if incident.muted is None else {"at": incident.muted.at, "until": incident.muted.until},
        "acknowledged": acknowledgement_shape(incident.acknowledged) if incident.acknowledged is not None else None,
        "alerted_at": incident.alerted_at,
        "notified": [delivery_shape(one) for one in incident.delivery_log],
    }
    return shape if notes is None else {**shape, "notes": [note_shape(note) for note in notes]}


def delivery_shape(delivery: DeliveryRecord) -> dict[str, Any]:
    """What one channel did with a message, or with several of one kind and outcome in a row."""
    return {
        "channel": delivery.channel or None,
        "kind": delivery.kind,
        "outcome": delivery.outcome.value,
        "first_at": delivery.first_at,
        "at": delivery.at,
        "messages": delivery.messages,
        "attempts": delivery.attempts,
        "error": delivery.error or None,
    }


def note_shape(note: Note) -> dict[str, Any]:
    """One note."""
    return {"id": note.id, "at": note.at, "author": note.author or None, "text": note.text}


def before_shape(incident: Incident, report: PrecursorReport) -> dict[str, Any] | None:
    """What came before the incidents of the root of `incident`; None where the report does not have the root."""
    found = report.services.get(incident.root)
    if found is None:
        return None
    return {
        "service": found.service,
        "since": report.since,
        "until": report.until,
        "within_seconds": found.within,
        "left_out_seconds": found.margin,
        "incidents": len(found.incidents),
        "other_windows": found.others,
        "counted": incident.id in found.incidents,
        "types": [
            {
                "source": one.source,
                "type": one.type,
                "here": incident.id in one.before,
                "incidents_with": len(one.before),
                "other_windows_with": one.others_with,
                "p": one.p,
                "q": one.q,
                "claimed": one.is_claimed,
                "sentence": found.sentence(one),
            }
            for one in found.precursors
        ],
    }


def window_shape(window: MaintenanceWindow, now: datetime) -> dict[str, Any]:
    """One maintenance."""
    return {
        "id": window.id,
        "services": list(window.services) or [EVERY],
        "reason": window.reason,
        "starts_at": window.starts_at,
        "ends_at": window.ends_at,
        "holds": window.holds(now),
        "author": window.author or None,
        "source": "configuration" if window.id is None else "database",
    }


LIMIT = number_parameter("limit", "Incidents of one page.", default=50, most=200)
PARAMETERS = (
    Parameter("open", "Only incidents that are open, or that are over.", {"enum": ["true", "false"]}),
    LIMIT,
    Parameter("before", "Only incidents with lower ids: `next` of a page.", {"type": "integer", "maximum": MOST_ID}),
)
"""What the list of incidents takes."""
_MOST_WINDOW_ID = 2**31 - 1


class IncidentPage(Protocol):
    """Incidents that were looked for."""

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """The newest first."""

    @property
    def problem(self) -> str | None:
        """Why there may be more; None where these are all."""


class ListsIncidents(Protocol):
    """Who knows of incidents and maintenance. What needs the database may raise a 503 `Problem`."""

    async def find(self, *, limit: int, before: int | None = None, is_open: bool | None = None) -> IncidentPage:
        """Incidents, the newest first."""
        ...

    async def get(self, number: int) -> tuple[Incident, tuple[Note, ...]] | None:
        """One incident with its notes."""

    async def add_note(self, number: int, author: str, text: str) -> Note | None:
        """Note something; None where there is no such incident."""

    async def windows(self) -> tuple[list[MaintenanceWindow], str | None]:
        """What holds or is to come, and why there may be more."""
        ...

    async def add_window(self, window: MaintenanceWindow) -> MaintenanceWindow:
        """Plan a maintenance."""
        ...

    async def end_window(self, number: int) -> MaintenanceWindow | None:
        """End one now, or take it back; None where there is none."""


class NoteBody(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /vx11/incidents/{id}/notes` takes."""

    text: str
    author: str = ""


class WindowBody(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /vx11/maintenance` takes."""

    services: list[str]
    reason: str
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    minutes: float | None = None
    author: str = ""


def routes(
    books: ListsIncidents,
    names: Mapping[str, str],
    history: ReadsHistory,
    precursors: ReadPrecursors,
    now: Callable[[], datetime],
    slices: Slices,
    tasks: TaskGroup,
    audit: Audit = no_audit,
) -> list[NativeRoute]:
    """The routes. `names` maps each name and alias of a service to its name; `now` is the time in UTC.

    A change and its record are made by one of `tasks`, to their end: a client that leaves keeps neither from being made.
    """

    async def before_of(incident: Incident, days: int) -> dict[str, Any] | None:
        """What came before the incidents of the root; None where that cannot be read."""
        try:
            return before_shape(incident, await precursors(days, incident.started_at))
        except Problem:
            return None

    async def recent_of(incident: Incident) -> dict[str, Any] | None:
        """The recent rates of the root of an open incident; None where they cannot be read."""
        if not incident.is_open:
            return None
        try:
            rates = await history.recent(int(now().timestamp()), [incident.root])
        except Problem:
            return None
        return recent_shape(rates[incident.root])

    async def find(request: web.Request) -> web.Response:
        query = request.query
        check_names(query, PARAMETERS)
        is_open = {"true": True, "false": False, "": None}.get(query.get("open", ""), ...)
        if is_open is ...:
            _refuse("open", "must be true or false")
        limit = read_number(query, LIMIT)
        before = _number("before", query["before"], MOST_ID) if query.get("before") else None
        found = await books.find(limit=limit, before=before, is_open=is_open)
        more = len(found.incidents) == limit
        return json_response(
            {
                "incidents": await slices.collect(raw_json(incident_shape(one)) for one in found.incidents),
                "next": found.incidents[-1].id if more else None,
                "problem": found.problem,
            }
        )

    async def get(request: web.Request) -> web.Response:
        days = _number("days", request.query.get("days", str(DEFAULT_DAYS)), MOST_DAYS)
        found = await books.get(incident_id(request))
        if found is None:
            raise Problem(Failure.NOT_FOUND, "There is no such incident.")
        recent, before = await recent_of(found[0]), await before_of(found[0], days)
        return json_response({**incident_shape(*found), "recent": recent, "before": before})

    async def add_note(request: web.Request) -> web.Response:
        body = await read_json_body(request, NoteBody)
        try:
            author, text = check_note(body.author, body.text)
        except InvalidInputError as error:
            _refuse(error.field, error.words)
        number = incident_id(request)

        async def add() -> Note:
            note = await books.add_note(number, author, text)
            if note is None:
                raise Problem(Failure.NOT_FOUND, "There is no such incident.")
            audit(request, "note", incident=number)
            return note

        return json_response(note_shape(await tasks.finish(add(), "note", expected=Problem)), 201)

    async def windows(request: web.Request) -> web.Response:
        found, problem = await books.windows()
        moment = now()
        return json_response({"maintenance": [window_shape(one, moment) for one in found], "problem": problem})

    async def add_window(request: web.Request) -> web.Response:
        body = await read_json_body(request, WindowBody)
        try:
            window = check_window(names=names, now=now(), **msgspec.structs.asdict(body))
        except InvalidInputError as error:
            _refuse(error.field, error.words)

        async def add() -> MaintenanceWindow:
            stored = await books.add_window(window)
            audit(request, "maintain", maintenance=stored.id, services=list(stored.services))
            return stored

        return json_response(window_shape(await tasks.finish(add(), "maintenance", expected=Problem), now()), 201)

    async def end_window(request: web.Request) -> web.Response:
        number = incident_id(request, _MOST_WINDOW_ID)

        async def end() -> MaintenanceWindow:
            window = await books.end_window(number)
            if window is None:
                raise Problem(
                    Failure.NOT_FOUND, "There is no such maintenance, or it is over, or the configuration says it."
                )
            audit(request, "end_maintenance", maintenance=window.id, services=list(window.services))
            return window

        return json_response(window_shape(await tasks.finish(end(), "end of maintenance", expected=Problem), now()))

    return [
        NativeRoute("GET", "/vx11/incidents", find, access.INCIDENTS, None),
        NativeRoute("GET", "/vx11/incidents/{id}", get, access.INCIDENTS, None),
        NativeRoute("POST", "/vx11/incidents/{id}/notes", add_note, access.INCIDENTS, None),
        NativeRoute("GET", "/vx11/maintenance", windows, access.INCIDENTS, None),
        NativeRoute("POST", "/vx11/maintenance", add_window, access.INCIDENTS, None),
        NativeRoute("DELETE", "/vx11/maintenance/{id}", end_window, access.INCIDENTS, None),
    ]


def _refuse(name: str, words: str) -> NoReturn:
    raise Problem(Failure.BAD_REQUEST, f"{name} {words}.")


def _number(name: str, value: str, most: int) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 16 or not 1 <= int(value) <= most:
        _refuse(name, f"must be a whole number from 1 to {most}")
    return int(value)
