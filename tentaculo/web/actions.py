"""`POST /status/actions`: what a person who has signed in can do on the pages, by plain forms.

Each form has the fields `form` (the form token), `action` and `next`, the page to which the response leads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, tzinfo
from hashlib import sha256
from typing import Any, Final, Protocol

from aiohttp import web
from multidict import MultiDict

from tentaculo.model import access
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.incident import (
    EVERY,
    Acknowledgement,
    InvalidInputError,
    MaintenanceWindow,
    Note,
    check_acknowledgement,
    check_note,
    check_window,
)
from tentaculo.server.caller import Audit, name_of, no_audit, note_action, session_of
from tentaculo.server.native_routes import NativeRoute
from tentaculo.tasks import TaskGroup
from tentaculo.web.acknowledgements import MOST_ID
from tentaculo.web.confirmation import confirm_later
from tentaculo.web.forms import MAX_TEXT_BYTES, SignedOutError, own_page, read_own_form, see_other

AUTHOR: Final = "signed in"
"""Of what nobody with a name has done."""
_UNTIL_IT_ENDS: Final = "end"
_MOST_MINUTES: Final = 366 * 24 * 60
_REPEATED_WITHIN: Final = 10.0
"""Seconds within which the last form of a session, sent again, is the same click."""
_MOST_REMEMBERED: Final = 100
"""Sessions of which the last form is remembered."""


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

    async def windows(self) -> tuple[list[MaintenanceWindow], str | None]:
        """The open and planned maintenance windows, and why some may be missing."""
        ...

    async def change_window(self, window: MaintenanceWindow) -> MaintenanceWindow | None:
        """Change a window by its number; None where it is over, or there is none."""

    async def end_window(self, number: int) -> MaintenanceWindow | None:
        """End a window, or cancel one that has not begun; as above."""


SignedOut = Callable[[web.Request, Mapping[str, str]], Awaitable[web.StreamResponse]]
"""Gives the response to a form, with these fields, of a page whose sign-in has ended."""


class _LastForm:
    """The last form of a session that was done."""

    __slots__ = ("at", "digest", "done", "lock")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        """Held while a form of the session is done."""
        self.digest = b""
        self.at = 0.0
        self.done: Any = None

    def __repr__(self) -> str:
        return f"<_LastForm of {self.at:.0f} s>"


class Actions:
    """The handler."""

    def __init__(
        self,
        books: Books,
        names: Mapping[str, str],
        zone: tzinfo,
        now: Callable[[], datetime],
        tasks: TaskGroup,
        signed_out: SignedOut,
        audit: Audit = no_audit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`names` maps each name and alias of a service to its name; times of forms are those of `zone`.

        What a form says is done by one of `tasks`, to its end: a browser closes the connection of the first click where a
        person clicks twice. `clock` is monotonic.
        """
        self._books = books
        self._names = names
        self._zone = zone
        self._now = now
        self._tasks = tasks
        self._signed_out = signed_out
        self._audit = audit
        self._clock = clock
        self._last: dict[str, _LastForm] = {}

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """Do what a form says. Raises `Problem`: 400, 403, 404, 409, 503; else `HTTPSeeOther` to the page it came from."""
        try:
            fields = await read_own_form(request, MAX_TEXT_BYTES)
        except SignedOutError as error:
            return await self._signed_out(request, error.fields)
        done = await self._tasks.finish(self._act_once(request, fields), "form", expected=Problem)
        leads = see_other(own_page(fields.get("next", "")))
        if (session := session_of(request)) is not None:
            confirm_later(request, session.form_token, leads, *self._confirmed(fields["action"], done))
        raise leads

    async def _act_once(self, request: web.Request, fields: MultiDict[str]) -> Any:
        """What came of a form, which is done and recorded unless it is the last one of its session, sent again."""
        digest, last = sha256(repr(sorted(fields.items())).encode()).digest(), self._last_of(fields["form"])
        async with last.lock:
            # A finger that taps twice sends a form twice, and the browser shows the second response.
            if last.digest != digest or self._clock() - last.at > _REPEATED_WITHIN:
                done = last.done = await self._act(fields, name_of(request) or AUTHOR)
                last.digest, last.at = digest, self._clock()
                is_window = isinstance(done, MaintenanceWindow)
                about = (
                    {"maintenance": done.id, "services": list(done.services)}
                    if is_window
                    else {"incident": _number(fields)}
                )
                self._audit(request, fields["action"], **about)
            note_action(request)
            return last.done

    def _last_of(self, session: str) -> _LastForm:
        """What is remembered of a session, by the token of its forms."""
        last = self._last[session] = self._last.pop(session) if session in self._last else _LastForm()
        if len(self._last) > _MOST_REMEMBERED:
            del self._last[next(iter(self._last))]
        return last

    async def _act(self, fields: MultiDict[str], by: str) -> Any:
        """Do what a form says, and return what came of it. Raises `Problem`."""
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
                case "change_maintenance":
                    window = await self._changed(fields)
                    done = None if window is None else await self._books.change_window(window)
                case "end_maintenance":
                    done = await self._books.end_window(_number(fields, "window"))
                case _:
                    raise Problem(Failure.BAD_REQUEST, "The form says nothing that can be done.")
        except InvalidInputError as error:
            raise Problem(Failure.BAD_REQUEST, f"{error}.") from None
        if done is None:
            raise _unknown("window" if "window" in fields else "incident")
        return done

    def _confirmed(self, action: str, done: Any) -> tuple[str, datetime | None]:
        """What the next page confirms, and its time."""
        match action:
            case "note":
                return "noted", None
            case "acknowledge":
                return "acknowledged", None
            case "mute":
                is_over = done.until is not None and done.until <= self._now()
                return ("unmuted" if is_over else "muted_until" if done.until else "muted"), done.until
            case "maintain" if done.holds(self._now()):
                return "begun", done.ends_at
            case "maintain":
                return "planned", done.starts_at
            case "change_maintenance":
                return "changed", None
        return ("ended" if done.ends_at <= self._now() else "cancelled"), None

    def _window(self, fields: MultiDict[str], author: str) -> MaintenanceWindow:
        return check_window(
            [name for value in fields.getall("services", []) for name in value.replace(",", " ").split()],
            fields.get("reason", ""),
            names=self._names,
            now=self._now(),
            starts_at=self._moment(fields, "starts"),
            minutes=_minutes(fields, "minutes") or 0,
            author=author,
        )

    async def _changed(self, fields: MultiDict[str]) -> MaintenanceWindow | None:
        """The window of `fields` with what they change. One that holds keeps its beginning. None where there is none."""
        number, now = _number(fields, "window"), self._now()
        known = next((one for one in (await self._books.windows())[0] if one.id == number), None)
        if known is None:
            return None
        changed = check_window(
            known.services or [EVERY],
            fields.get("reason", ""),
            names={name: name for name in known.services},
            now=now,
            starts_at=known.starts_at if known.holds(now) else self._moment(fields, "starts") or now,
            ends_at=self._moment(fields, "ends") or now,
            author=known.author,
        )
        return replace(changed, id=number)

    def _moment(self, fields: MultiDict[str], name: str) -> datetime | None:
        """A time of the page's zone; None where the field is empty."""
        value = fields.get(name, "")
        try:
            return datetime.fromisoformat(value).replace(tzinfo=self._zone) if value else None
        except ValueError:
            raise InvalidInputError(name, "must be a time, or empty for now") from None


def _number(fields: MultiDict[str], name: str = "incident") -> int:
    value = fields.get(name, "")
    if not (value.isascii() and value.isdigit()) or len(value) > 16 or int(value) > MOST_ID:
        raise _unknown(name)
    return int(value)


def _unknown(name: str) -> Problem:
    """What a form acts on, by the field that names it, is not there."""
    return Problem(
        Failure.NOT_FOUND,
        "There is no such incident."
        if name == "incident"
        else "There is no such maintenance, or it is over, or the configuration says it.",
    )


def _minutes(fields: MultiDict[str], name: str) -> int | None:
    """The minutes of a field, None for until it ends."""
    value = fields.get(name, "")
    if value == _UNTIL_IT_ENDS:
        return None
    if not (value.isascii() and value.isdigit()) or len(value) > 6 or int(value) > _MOST_MINUTES:
        raise InvalidInputError(name, "must be a number of minutes")
    return int(value)


def routes(
    books: Books,
    names: Mapping[str, str],
    zone: tzinfo,
    now: Callable[[], datetime],
    tasks: TaskGroup,
    signed_out: SignedOut,
    audit: Audit = no_audit,
) -> list[NativeRoute]:
    """The route `/status/actions`."""
    actions = Actions(books, names, zone, now, tasks, signed_out, audit)
    return [NativeRoute("POST", "/status/actions", actions.submit, access.PAGE_FORMS, None)]
