"""Incidents and planned maintenance as JSON: `/vx11/incidents…` and `/vx11/maintenance…` (docs/api.md)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import NoReturn, Protocol

import msgspec
from aiohttp import web

from tentaculo.model.failure import Failure, Problem
from tentaculo.model.incident import Incident, InvalidInputError, MaintenanceWindow, Note, check_note, check_window
from tentaculo.server.native_routes import Slices, json_response, raw_json
from tentaculo.server.request_body import expect_later, read_json_body
from tentaculo.web.incident_views import incident_shape, note_shape, window_shape

PAGE, MOST = 50, 200
"""Incidents in one answer: where nothing is asked for, and at most."""
_MOST_ID, _MOST_WINDOW_ID = 2**53, 2**31 - 1


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
    books: ListsIncidents, names: Mapping[str, str], now: Callable[[], datetime], slices: Slices
) -> list[web.RouteDef]:
    """The routes. `names` maps each name and alias of a service to its name; `now` is the time in UTC."""

    async def find(request: web.Request) -> web.Response:
        query = _query(request, {"open", "limit", "before"})
        is_open = {"true": True, "false": False, "": None}.get(query.get("open", ""), ...)
        if is_open is ...:
            _refuse("open", "must be true or false")
        limit = _number("limit", query.get("limit", str(PAGE)), MOST)
        before = _number("before", query["before"], _MOST_ID) if "before" in query else None
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
        found = await books.get(_id(request))
        if found is None:
            raise Problem(Failure.NOT_FOUND, "There is no such incident.")
        return json_response(incident_shape(*found))

    async def add_note(request: web.Request) -> web.Response:
        body = await read_json_body(request, NoteBody)
        try:
            author, text = check_note(body.author, body.text)
        except InvalidInputError as error:
            _refuse(error.field, error.words)
        note = await books.add_note(_id(request), author, text)
        if note is None:
            raise Problem(Failure.NOT_FOUND, "There is no such incident.")
        return json_response(note_shape(note), 201)

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
        return json_response(window_shape(await books.add_window(window), now()), 201)

    async def end_window(request: web.Request) -> web.Response:
        window = await books.end_window(_id(request, _MOST_WINDOW_ID))
        if window is None:
            raise Problem(
                Failure.NOT_FOUND, "There is no such maintenance, or it is over, or the configuration says it."
            )
        return json_response(window_shape(window, now()))

    return [
        web.get("/vx11/incidents", find),
        web.get("/vx11/incidents/{id}", get),
        web.post("/vx11/incidents/{id}/notes", add_note, expect_handler=expect_later),
        web.get("/vx11/maintenance", windows),
        web.post("/vx11/maintenance", add_window, expect_handler=expect_later),
        web.delete("/vx11/maintenance/{id}", end_window),
    ]


def _refuse(name: str, words: str) -> NoReturn:
    raise Problem(Failure.BAD_REQUEST, f"{name} {words}.")


def _query(request: web.Request, known: Collection[str]) -> Mapping[str, str]:
    if unknown := set(request.query) - set(known):
        _refuse("The query", f"has an unknown parameter; it takes {', '.join(sorted(known))}, not {len(unknown)} other")
    return request.query


def _number(name: str, value: str, most: int) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 16 or not 1 <= int(value) <= most:
        _refuse(name, f"must be a whole number from 1 to {most}")
    return int(value)


def _id(request: web.Request, most: int = _MOST_ID) -> int:
    value = request.match_info["id"]
    if not (value.isascii() and value.isdigit()) or len(value) > 16 or int(value) > most:
        raise Problem(Failure.NOT_FOUND)
    return int(value)
