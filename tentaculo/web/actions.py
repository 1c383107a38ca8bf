"""`POST /status/actions`: what a person who has signed in can do on the pages, by plain forms.

Each form has the fields `form` (the form token), `action` and `next`, the page to which the response leads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any, Final, Protocol

from aiohttp import web
from multidict import MultiDict

from tentaculo.model.failure import Failure, Problem
from tentaculo.model.incident import (
    Acknowledgement,
    InvalidInputError,
    MaintenanceWindow,
    Note,
    check_acknowledgement,
    check_note,
    check_window,
)
from tentaculo.server.caller import Audit, name_of, no_audit, note_action
from tentaculo.server.request_body import expect_later
from tentaculo.web.acknowledgements import MOST_ID
from tentaculo.web.forms import own_page, read_own_form, see_other

AUTHOR: Final = "signed in"
"""Of what nobody with a name has done."""
_UNTIL_IT_ENDS: Final = "end"
_MOST_MINUTES: Final = 366 * 24 * 60


class Books(Protocol):
    """Who keeps incidents and maintenance. Each raises `Problem` (503) without a database."""

    async def add_note(self, number: int, author: str, text: str) -> Note | None:
        """Add a note; None where there is no such incident."""

    async def acknowledge(self, number: int, author: str, note: str) -> Acknowledgement | None:
        """Acknowledge an incident; None where there is no such one. Raises `Problem` (409) if it is over."""

    async def mute(self, number: int, author: str, minutes: float | None) -> Any:
        """Mute its alerts for so many minutes, or until it ends; as above."""

    async def add_window(self, window: MaintenanceWindow) -> MaintenanceWindow:
        """Plan a maintenance window."""


class Actions:
    """The handler."""

    def __init__(
        self,
        books: Books,
        names: Mapping[str, str],
        zone: tzinfo,
        now: Callable[[], datetime],
        audit: Audit = no_audit,
    ) -> None:
        """`names` maps each name and alias of a service to its name; times of forms are those of `zone`."""
        self._books = books
        self._names = names
        self._zone = zone
        self._now = now
        self._audit = audit

    async def submit(self, request: web.Request) -> web.Response:
        """Do what a form says. Raises `Problem`: 400, 403, 404, 409, 503; else `HTTPSeeOther` to the page it came from."""
        fields = await read_own_form(request)
        by = name_of(request) or AUTHOR
        what: dict[str, object] = {}
        try:
            match fields.get("action"):
                case "note":
                    # Browsers send the lines of a text with both characters.
                    author, text = check_note(by, fields.get("text", "").replace("\r\n", "\n"))
                    done: Any = await self._books.add_note(_number(fields), author, text)
                case "acknowledge":
                    author, note = check_acknowledgement(by, fields.get("note", ""))
                    done = await self._books.acknowledge(_number(fields), author, note)
                case "mute":
                    done = await self._books.mute(_number(fields), by, _minutes(fields, "until"))
                case "maintain":
                    done = await self._books.add_window(self._window(fields, by))
                    what = {"maintenance": done.id, "services": list(done.services)}
                case _:
                    raise Problem(Failure.BAD_REQUEST, "The form says nothing that can be done.")
        except InvalidInputError as error:
            raise Problem(Failure.BAD_REQUEST, f"{error}.") from None
        if done is None:
            raise Problem(Failure.NOT_FOUND, "There is no such incident.")
        note_action(request)
        self._audit(request, fields["action"], **(what or {"incident": _number(fields)}))
        raise see_other(own_page(fields.get("next", "")))

    def _window(self, fields: MultiDict[str], author: str) -> MaintenanceWindow:
        begins = fields.get("starts", "")
        try:
            starts_at = datetime.fromisoformat(begins).replace(tzinfo=self._zone) if begins else None
        except ValueError:
            raise InvalidInputError("starts", "must be a time, or empty for now") from None
        return check_window(
            fields.getall("services", []),
            fields.get("reason", ""),
            names=self._names,
            now=self._now(),
            starts_at=starts_at,
            minutes=_minutes(fields, "minutes") or 0,
            author=author,
        )


def _number(fields: MultiDict[str]) -> int:
    value = fields.get("incident", "")
    if not (value.isascii() and value.isdigit()) or len(value) > 16 or int(value) > MOST_ID:
        raise Problem(Failure.NOT_FOUND, "There is no such incident.")
    return int(value)


def _minutes(fields: MultiDict[str], name: str) -> int | None:
    """The minutes of a field, None for until it ends."""
    value = fields.get(name, "")
    if value == _UNTIL_IT_ENDS:
        return None
    if not (value.isascii() and value.isdigit()) or len(value) > 6 or int(value) > _MOST_MINUTES:
        raise InvalidInputError(name, "must be a number of minutes")
    return int(value)


def routes(
    books: Books, names: Mapping[str, str], zone: tzinfo, now: Callable[[], datetime], audit: Audit = no_audit
) -> list[web.RouteDef]:
    """The route `/status/actions`."""
    return [web.post("/status/actions", Actions(books, names, zone, now, audit).submit, expect_handler=expect_later)]
