"""Acknowledgements of incidents, as JSON, and the endpoint that takes them."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from aiohttp import web

from tentaculo.model import access
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.incident import Acknowledgement, InvalidInputError, check_acknowledgement
from tentaculo.server.caller import Audit, no_audit
from tentaculo.server.native_routes import NativeRoute, json_response
from tentaculo.server.request_body import read_json_body
from tentaculo.tasks import TaskGroup


def acknowledgement_shape(acknowledgement: Acknowledgement) -> dict[str, Any]:
    """One acknowledgement."""
    return {
        "id": acknowledgement.id,
        "at": acknowledgement.at,
        "author": acknowledgement.author,
        "note": acknowledgement.note or None,
    }


class TakesAcknowledgements(Protocol):
    """Who keeps the acknowledgements."""

    async def acknowledge(self, number: int, author: str, note: str) -> Acknowledgement | None:
        """Store one; None where there is no such incident. Raises `Problem`: 409 if it is over, 503 without a database."""


class AcknowledgementBody(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /vx11/incidents/{id}/acknowledgements` takes."""

    author: str
    note: str = ""


def routes(books: TakesAcknowledgements, tasks: TaskGroup, audit: Audit = no_audit) -> list[NativeRoute]:
    """The route `/vx11/incidents/{id}/acknowledgements`. Each is stored and recorded by one of `tasks`, to its end."""

    async def acknowledge(request: web.Request) -> web.Response:
        body = await read_json_body(request, AcknowledgementBody)
        try:
            author, note = check_acknowledgement(body.author, body.note)
        except InvalidInputError as error:
            raise Problem(Failure.BAD_REQUEST, f"{error}.") from None
        number = incident_id(request)

        async def add() -> Acknowledgement:
            made = await books.acknowledge(number, author, note)
            if made is None:
                raise Problem(Failure.NOT_FOUND, "There is no such incident.")
            audit(request, "acknowledge", incident=number)
            return made

        made = await tasks.finish(add(), "acknowledgement", expected=Problem)
        return json_response(acknowledgement_shape(made), 201)

    return [NativeRoute("POST", "/vx11/incidents/{id}/acknowledgements", acknowledge, access.INCIDENTS, None)]


MOST_ID = 2**53
"""The greatest id of an incident."""


def incident_id(request: web.Request, most: int = MOST_ID) -> int:
    """The id in the path of a request. Raises `Problem` (404) for anything else than a number up to `most`."""
    value = request.match_info["id"]
    if not (value.isascii() and value.isdigit()) or len(value) > 16 or int(value) > most:
        raise Problem(Failure.NOT_FOUND)
    return int(value)
