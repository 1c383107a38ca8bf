"""The write API, `/tentaculo/admin/…`: reads and changes the configuration while the gateway runs (docs/admin-api.md).

This module knows HTTP and JSON: methods, `If-Match`, bodies, statuses. What a change does to the configuration is the
`Administration`'s.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final, Protocol

from aiohttp import hdrs, web

from tentaculo.model import access
from tentaculo.model.failure import Failure, Problem
from tentaculo.server.native_routes import NativeRoute, json_response
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

    routes_of, endpoints_of = _list_of("routes"), _list_of("endpoints")
    return [
        NativeRoute("GET", "/tentaculo/admin/config", view, access.ADMIN),
        NativeRoute("DELETE", "/tentaculo/admin/changes", undo_all, access.ADMIN),
        NativeRoute("GET", "/tentaculo/admin/services/{name}", view_service, access.ADMIN),
        NativeRoute(
            "PUT", "/tentaculo/admin/services/{name}", editor("replace", _service), access.ADMIN, reads_body=True
        ),
        NativeRoute(
            "PATCH", "/tentaculo/admin/services/{name}", editor("merge", _service), access.ADMIN, reads_body=True
        ),
        NativeRoute("DELETE", "/tentaculo/admin/services/{name}", editor("remove", _service), access.ADMIN),
        NativeRoute(
            "POST", "/tentaculo/admin/services/{name}/enable", switcher(enabled=True), access.ADMIN, reads_body=True
        ),
        NativeRoute(
            "POST", "/tentaculo/admin/services/{name}/disable", switcher(enabled=False), access.ADMIN, reads_body=True
        ),
        NativeRoute("DELETE", "/tentaculo/admin/services/{name}/override", release, access.ADMIN),
        NativeRoute("POST", "/tentaculo/admin/services/{name}/undo", undo_service, access.ADMIN),
        NativeRoute(
            "PUT", "/tentaculo/admin/services/{name}/routes", list_editor(routes_of), access.ADMIN, reads_body=True
        ),
        NativeRoute(
            "POST",
            "/tentaculo/admin/services/{name}/routes",
            editor("append", routes_of, 201),
            access.ADMIN,
            reads_body=True,
        ),
        NativeRoute("DELETE", "/tentaculo/admin/services/{name}/routes/{number}", taker(routes_of), access.ADMIN),
        NativeRoute(
            "PUT",
            "/tentaculo/admin/services/{name}/endpoints",
            list_editor(endpoints_of),
            access.ADMIN,
            reads_body=True,
        ),
        NativeRoute(
            "POST",
            "/tentaculo/admin/services/{name}/endpoints",
            editor("append", endpoints_of, 201),
            access.ADMIN,
            reads_body=True,
        ),
        NativeRoute("DELETE", "/tentaculo/admin/services/{name}/endpoints/{number}", taker(endpoints_of), access.ADMIN),
        NativeRoute(
            "PUT", "/tentaculo/admin/alerts/webhooks/{name}", editor("replace", _webhook), access.ADMIN, reads_body=True
        ),
        NativeRoute(
            "PATCH", "/tentaculo/admin/alerts/webhooks/{name}", editor("merge", _webhook), access.ADMIN, reads_body=True
        ),
        NativeRoute("DELETE", "/tentaculo/admin/alerts/webhooks/{name}", editor("remove", _webhook), access.ADMIN),
        NativeRoute("PUT", "/tentaculo/admin/alerts/apprise/{name}", put_apprise, access.ADMIN, reads_body=True),
        NativeRoute("DELETE", "/tentaculo/admin/alerts/apprise/{name}", editor("remove", _apprise), access.ADMIN),
        NativeRoute("PUT", "/tentaculo/admin/maintenance", list_editor(_maintenance), access.ADMIN, reads_body=True),
        NativeRoute(
            "POST", "/tentaculo/admin/maintenance", editor("append", _maintenance, 201), access.ADMIN, reads_body=True
        ),
        NativeRoute("DELETE", "/tentaculo/admin/maintenance/{number}", taker(_maintenance), access.ADMIN),
    ]


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
