"""The write API, `/tentaculo/admin/…`: reads and changes the configuration while the gateway runs (docs/admin-api.md).

This module knows HTTP and JSON: methods, `If-Match`, bodies, statuses. What a change does to the configuration is the
`Administration`'s.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final, Protocol

from aiohttp import hdrs, web

from tentaculo.model import access
from tentaculo.model.failure import Failure, Problem
from tentaculo.server.native_routes import NativeRoute, json_response
from tentaculo.server.openapi import Operation
from tentaculo.server.request_body import read_json_body

PREFIX: Final = "/tentaculo/admin"
MERGE_PATCH: Final = "application/merge-patch+json"
_DURATION = re.compile(r"([0-9]{1,9})([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_MOST_SECONDS: Final = 366 * 86400
_MOST_REASON: Final = 200
_NO_ITEM: Final = -1
"""The number of no item of a list."""

Place = tuple[str, ...]


class Administration(Protocol):
    """Reads and changes the configuration that is served. Each raises `Problem`."""

    async def view(self) -> tuple[str, dict[str, Any]]:
        """The generation that is served, and the configuration, with masks for secrets."""
        ...

    async def view_service(self, name: str) -> tuple[str, dict[str, Any]]:
        """The same of one service."""
        ...

    async def edit(
        self, action: str, place: Place, *, by: Author, value: Any = None, faults: Mapping[str, str] = {}
    ) -> tuple[str, dict[str, Any]]:
        """Replace, merge, remove, append or take what is at a place; returns the new generation and what changed.

        `faults` are those of the body beside `value`, messages by their paths: all are reported together, once what is to
        be changed is there.
        """
        ...

    async def switch(
        self,
        name: str,
        *,
        by: Author,
        enabled: bool,
        length: timedelta | None,
        reason: str,
        faults: Mapping[str, str] = {},
    ) -> Any:
        """Switch a service on or off, for a time or for good; as above."""

    async def release(self, name: str, *, by: Author) -> Any:
        """End the override of a service; as above."""

    async def undo(self, place: Place, *, by: Author) -> Any:
        """Follow the configuration file again; as above."""


class Author:
    """Who asks for a change, and for which generation."""

    __slots__ = ("name", "tags")

    def __init__(self, name: str, tags: frozenset[str] | None) -> None:
        self.name = name
        """The name of the caller."""
        self.tags = tags
        """The generations for which the change is meant; None for any."""

    def __repr__(self) -> str:
        return f"<Author {self.name}>"


def entity_tag(generation: str) -> str:
    """The entity tag of a generation."""
    return f'"{generation}"'


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(
    administration: Administration, name_of: Callable[[web.Request], str], check_origin: Callable[[web.Request], None]
) -> list[NativeRoute]:
    """The routes. `name_of` gives the name of a caller; `check_origin` raises `Problem` (403) for a foreign page."""

    def author(request: web.Request) -> Author:
        check_origin(request)
        return Author(name_of(request), _if_match(request))

    async def view(_request: web.Request) -> web.Response:
        return _respond(*await administration.view())

    async def view_service(request: web.Request) -> web.Response:
        return _respond(*await administration.view_service(request.match_info["name"]))

    def editor(action: str, place: Callable[[web.Request], Place], status: int = 200) -> Handler:
        has_body = action in ("replace", "merge", "append")

        async def edit(request: web.Request) -> web.Response:
            by = author(request)
            media_types = ("application/json", MERGE_PATCH) if action == "merge" else ("application/json",)
            value: Any = await read_json_body(request, dict[str, Any], media_types) if has_body else None
            return _respond(*await administration.edit(action, place(request), by=by, value=value), status)

        return edit

    async def put_apprise(request: web.Request) -> web.Response:
        by = author(request)
        body = await read_json_body(request, dict[str, Any])
        faults = _unknown_keys(body, "url")
        if (url := body.get("url")) is None:
            faults["url"] = "is required"
        return _respond(*await administration.edit("replace", _apprise(request), by=by, value=url, faults=faults))

    def list_editor(place: Callable[[web.Request], Place]) -> Handler:
        async def edit(request: web.Request) -> web.Response:
            by = author(request)
            value = await read_json_body(request, list[dict[str, Any]])
            return _respond(*await administration.edit("replace", place(request), by=by, value=value))

        return edit

    def taker(place: Callable[[web.Request], Place]) -> Handler:
        async def take(request: web.Request) -> web.Response:
            by = author(request)
            digits = request.match_info["number"]
            number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 6 else _NO_ITEM
            return _respond(*await administration.edit("take", place(request), by=by, value=number))

        return take

    def switcher(*, enabled: bool) -> Handler:
        async def switch(request: web.Request) -> web.Response:
            by = author(request)
            body = await read_json_body(request, dict[str, Any])
            return _respond(
                *await administration.switch(request.match_info["name"], by=by, enabled=enabled, **_switch_body(body))
            )

        return switch

    async def release(request: web.Request) -> web.Response:
        return _respond(*await administration.release(request.match_info["name"], by=author(request)))

    async def undo_service(request: web.Request) -> web.Response:
        return _respond(*await administration.undo(_service(request), by=author(request)))

    async def undo_all(request: web.Request) -> web.Response:
        return _respond(*await administration.undo((), by=author(request)))

    def read(path: str, handler: Handler, id_: str, summary: str, schema: str) -> NativeRoute:
        describe = partial(_describe_read, id_, summary, path, schema)
        return NativeRoute("GET", f"{PREFIX}{path}", handler, access.ADMIN, describe)

    def change(
        method: str, path: str, handler: Handler, id_: str, summary: str, body: str | None = None, status: int = 200
    ) -> NativeRoute:
        """`body` is a key of `admin_openapi.BODIES`."""
        describe = partial(_describe_change, id_, summary, path, body, status)
        return NativeRoute(method, f"{PREFIX}{path}", handler, access.ADMIN, describe)

    def listed(path: str, noun: str, item: str, place: Callable[[web.Request], Place]) -> list[NativeRoute]:
        title = noun.title().replace(" ", "")
        append = editor("append", place, 201)
        return [
            change("PUT", path, list_editor(place), f"replace{title}s", f"Replace all {noun}s.", f"{item}s"),
            change("POST", path, append, f"add{title}", f"Add one to the {noun}s.", item, 201),
            change("DELETE", f"{path}/{{number}}", taker(place), f"remove{title}", f"Remove one of the {noun}s."),
        ]

    service, webhook, apprise = "/services/{name}", "/alerts/webhooks/{name}", "/alerts/apprise/{name}"
    switch_on, switch_off = switcher(enabled=True), switcher(enabled=False)
    put_service, merge_service = editor("replace", _service), editor("merge", _service)
    put_webhook, merge_webhook = editor("replace", _webhook), editor("merge", _webhook)
    remove_service, remove_webhook, remove_apprise = (editor("remove", of) for of in (_service, _webhook, _apprise))
    return [
        read("/config", view, "readConfiguration", "The configuration that is served.", "AdminConfiguration"),
        change("DELETE", "/changes", undo_all, "undoChanges", "Take back all changes."),
        read(service, view_service, "readService", "One service.", "AdminService"),
        change("PUT", service, put_service, "replaceService", "Add or replace a service.", "table"),
        change("PATCH", service, merge_service, "mergeService", "Merge keys into a service (RFC 7396).", "table"),
        change("DELETE", service, remove_service, "removeService", "Remove a service."),
        change("POST", f"{service}/enable", switch_on, "enableService", "Switch a service on.", "switch"),
        change("POST", f"{service}/disable", switch_off, "disableService", "Switch a service off.", "switch"),
        change("DELETE", f"{service}/override", release, "endOverride", "End what was switched for a time."),
        change("POST", f"{service}/undo", undo_service, "undoService", "Take back the changes of a service."),
        *listed(f"{service}/routes", "route", "table", _list_of("routes")),
        *listed(f"{service}/endpoints", "endpoint", "endpoint", _list_of("endpoints")),
        change("PUT", webhook, put_webhook, "replaceWebhook", "Add or replace a receiver of webhooks.", "table"),
        change("PATCH", webhook, merge_webhook, "mergeWebhook", "Merge keys into a receiver of webhooks.", "table"),
        change("DELETE", webhook, remove_webhook, "removeWebhook", "Remove a receiver of webhooks."),
        change("PUT", apprise, put_apprise, "replaceApprise", "Add or replace an Apprise channel.", "apprise"),
        change("DELETE", apprise, remove_apprise, "removeApprise", "Remove an Apprise channel."),
        *listed("/maintenance", "maintenance plan", "table", _maintenance),
    ]


def _describe_read(id_: str, summary: str, path: str, schema: str) -> Operation:
    from tentaculo.web.admin_openapi import read_operation

    return read_operation(id_, summary, path, schema)


def _describe_change(id_: str, summary: str, path: str, body: str | None, status: int) -> Operation:
    from tentaculo.web.admin_openapi import change_operation

    return change_operation(id_, summary, path, body, status)


def _service(request: web.Request) -> Place:
    return "services", request.match_info["name"]


def _webhook(request: web.Request) -> Place:
    return "alerts", "webhooks", request.match_info["name"]


def _apprise(request: web.Request) -> Place:
    return "alerts", "apprise", request.match_info["name"]


def _maintenance(_request: web.Request) -> Place:
    return ("maintenance",)


def _list_of(name: str) -> Callable[[web.Request], Place]:
    return lambda request: (*_service(request), name)


def _if_match(request: web.Request) -> frozenset[str] | None:
    """The generations in If-Match (RFC 9110, section 13.1.1), None for `*`. Raises `Problem` (428) without one.

    A weak tag matches nothing here.
    """
    values = request.headers.getall(hdrs.IF_MATCH, [])
    if not values:
        raise Problem(
            Failure.IF_MATCH_REQUIRED,
            f"Send If-Match with the ETag of GET {PREFIX}/config, or * for any generation.",
        )
    tags = [tag.strip(" \t") for tag in ",".join(values).split(",")]
    if tags == ["*"]:
        return None
    return frozenset(tag[1:-1] for tag in tags if len(tag) > 2 and tag.startswith('"') and tag.endswith('"'))


def _switch_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a body says of a switch: `length`, `reason`, and `faults` by their paths."""
    faults = _unknown_keys(body, "for", "reason")
    length, reason = body.get("for"), body.get("reason", "")
    seconds = _seconds(length)
    if length is not None and seconds is None:
        faults["for"] = 'must be a time from 1 second to 366 days, such as "1h", "30m" or 90'
    if not isinstance(reason, str) or len(reason) > _MOST_REASON or not reason.isprintable():
        faults["reason"] = f"must be a line of text, at most {_MOST_REASON} characters"
    return {"length": None if seconds is None else timedelta(seconds=seconds), "reason": reason, "faults": faults}


def _unknown_keys(body: Mapping[str, Any], *known: str) -> dict[str, str]:
    """A fault for each other key, by its path."""
    return {_printable(name): "unknown key" for name in sorted(body.keys() - {*known})}


def _seconds(value: Any) -> int | None:
    """Seconds of a number, or of text such as "1h"; None where it is neither, or out of bounds."""
    if isinstance(value, int) and not isinstance(value, bool):
        seconds = value
    elif isinstance(value, str) and (found := _DURATION.fullmatch(value)) is not None:
        seconds = int(found[1]) * _UNITS[found[2]]
    else:
        return None
    return seconds if 1 <= seconds <= _MOST_SECONDS else None


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:64]


def _respond(generation: str, members: Mapping[str, Any], status: int = 200) -> web.Response:
    response = json_response({"generation": generation, **members}, status)
    response.headers[hdrs.ETAG] = entity_tag(generation)
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    return response
