"""`GET /events`: the stored events, page by page in both directions."""

from __future__ import annotations

from time import monotonic
from typing import Any

import msgspec
from aiohttp import hdrs, web
from multidict import MultiDict
from yarl import URL

from tentaculo.events.hub import to_json
from tentaculo.events.query import (
    FILTER,
    PAGE_FILTER,
    POSITION_SCHEMA,
    SINCE,
    Position,
    cursor,
    find_position,
    parse_page_filter,
)
from tentaculo.events.replay import LogReader
from tentaculo.model.event import MAX_EVENT_ID, Event, EventFilter
from tentaculo.model.failure import Failure, Problem
from tentaculo.server.content_negotiation import weight_of, weights
from tentaculo.server.native_routes import BodyResponse, Slices
from tentaculo.server.query_parameters import Parameter, check_names, number_parameter, read_number

LIMIT = number_parameter("limit", "Events of one page. A page also ends before 1 MiB.", default=100, most=1000)
ORDERS = ("newest", "oldest")
PARAMETERS = (
    *FILTER,
    *PAGE_FILTER,
    LIMIT,
    Parameter("order", "Which event is first.", {"enum": ORDERS, "default": ORDERS[0]}),
    Parameter("before", "Only events below this position: a cursor, or an `event_id`.", POSITION_SCHEMA),
    Parameter("after", "Only events above this position.", POSITION_SCHEMA),
    SINCE._replace(description="The same as `after`, which counts more."),
)
PAGE_BYTES = 1024 * 1024
"""A page ends before it has more, unless its first event alone has."""
SEARCH_SECONDS = 0.08
"""Seconds after which no further rows are read. One read takes 0.2 s at most, so that a page takes less than 0.3 s."""
_AT_ONCE = 128
"""Rows read at once."""
NDJSON = "application/x-ndjson"
_JSON = "application/json"
_NDJSON_NAMES = (NDJSON, "application/ndjson", "application/jsonl")


def event_shape(event: Event) -> dict[str, Any]:
    """One event as readers of the log get it. `timestamp` is the producer's own, `corrected` the same by our own clock."""
    shape: dict[str, Any] = {
        "event_id": event.id,
        "source": event.source,
        "type": event.type,
        "severity": event.severity,
        "payload": event.payload,
        "metadata": event.metadata,
        "broadcast": event.broadcast,
        "canonical": event.canonical,
        "received_at": event.received_at,
    }
    if event.stated_ms is not None:
        shape["timestamp"] = event.stated_ms
    if event.corrected is not None:
        shape["corrected"] = event.corrected._asdict()
    if event.key is not None:
        shape["key"] = event.key
    return shape


class PageRequest(msgspec.Struct, frozen=True):
    """The page that a client asks for."""

    wanted: EventFilter
    limit: int
    after: int | None
    before: int | None
    is_newest_first: bool
    """The order in the response."""

    @property
    def reads_down(self) -> bool:
        """Whether it is read from the greatest id to lower ones: from the position that was given, if there is one."""
        if (self.after is None) == (self.before is None):
            return self.is_newest_first
        return self.before is not None


class Page(msgspec.Struct, frozen=True):
    """A page that was read, in the order in which it was."""

    events: list[tuple[int, bytes]]
    """Ids, and the events as JSON."""
    position: int | None
    """Where the next page in this direction begins; None where there is none."""


class EventHistory:
    """The handler."""

    def __init__(self, reader: LogReader, slices: Slices, *, ignores_unknown: bool = False) -> None:
        """`ignores_unknown` accepts parameters that are not in `PARAMETERS`."""
        self._reader = reader
        self._slices = slices
        self._ignores_unknown = ignores_unknown

    async def handle(self, request: web.Request) -> web.Response:
        """Respond with one page. Raises `Problem`: 400, 503."""
        if not self._ignores_unknown:
            check_names(request.query, PARAMETERS)
        log = self._reader.name
        asked = parse_page(request, log)
        page = await self._read(asked)
        onward, back = _ends(asked, page)
        is_in_order = asked.reads_down == asked.is_newest_first
        cursors = {
            name: None if id_ is None else cursor(log, id_) for name, id_ in (("next", onward), ("previous", back))
        }
        links = [
            _link(request, "before" if asked.reads_down else "after", cursors["next"]),
            _link(request, "after" if asked.reads_down else "before", cursors["previous"], drops_range=True),
        ]
        if not is_in_order:
            cursors = {"next": cursors["previous"], "previous": cursors["next"]}
            links.reverse()
        events = [text for _, text in (page.events if is_in_order else page.events[::-1])]
        if accepts_ndjson(request.headers.getall(hdrs.ACCEPT, [])):
            body, content_type = b"".join(text + b"\n" for text in events), NDJSON
        else:
            body = b'{"events":[' + b",".join(events) + b"]," + msgspec.json.encode(cursors)[1:]
            content_type = _JSON
        headers = MultiDict({hdrs.VARY: "Accept"})
        for link, relation in zip(links, ("next", "prev"), strict=True):
            if link is not None:
                headers.add(hdrs.LINK, f'<{link}>; rel="{relation}"')
        return BodyResponse(body=body, content_type=content_type, headers=headers)

    async def _read(self, asked: PageRequest) -> Page:
        found, size, started = list[tuple[int, bytes]](), 0, monotonic()
        after, before = asked.after, asked.before
        while True:
            limit = min(_AT_ONCE, asked.limit + 1 - len(found))
            part = await self._reader.read(
                asked.wanted, after=after, before=before, limit=limit, newest_first=asked.reads_down
            )
            texts = await self._slices.collect(to_json(event_shape(event)) for event in part.events)
            for event, text in zip(part.events, texts, strict=True):
                size += len(text)
                if len(found) == asked.limit or (found and size > PAGE_BYTES):
                    return Page(found, found[-1][0])
                found.append((event.id, text))
            if part.reached is not None or len(part.events) < limit:
                return Page(found, part.reached)
            if not asked.wanted.is_indexed and monotonic() - started > SEARCH_SECONDS:
                return Page(found, found[-1][0])
            after, before = (after, found[-1][0]) if asked.reads_down else (found[-1][0], before)


def parse_page(request: web.Request, name: str) -> PageRequest:
    """The page that a request asks of the log `name`. Raises `Problem` (400)."""
    query = request.query
    order = query.get("order", "") or ORDERS[0]
    if order not in ORDERS:
        raise Problem(Failure.BAD_REQUEST, "order must be newest or oldest.")
    after = find_position(query, "after") or find_position(query, "since")
    return PageRequest(
        wanted=parse_page_filter(query),
        limit=read_number(query, LIMIT),
        after=_id_in(after, name),
        before=_id_in(find_position(query, "before"), name),
        is_newest_first=order == ORDERS[0],
    )


def accepts_ndjson(accept: list[str]) -> bool:
    """Whether an Accept field prefers NDJSON (RFC 9110 section 12.5.1). Of equals it is the one that is named first, or JSON."""
    found = weights(",".join(accept))
    ndjson, json = weight_of(found, *_NDJSON_NAMES), weight_of(found, _JSON)
    first = next((name for name in found if name in (*_NDJSON_NAMES, _JSON)), _JSON)
    return ndjson > json or (ndjson == json > 0 and first != _JSON)


def _id_in(position: Position | None, name: str) -> int | None:
    if position is None:
        return None
    if position.name not in (None, name):
        detail = "The cursor is one of another log: this database was restored or replaced. Begin without a cursor."
        raise Problem(Failure.BAD_REQUEST, detail)
    return position.event_id


def _ends(asked: PageRequest, page: Page) -> tuple[int | None, int | None]:
    """The positions of the page after this one and of the page before it, in the order of reading; None where none is."""
    given = asked.before if asked.reads_down else asked.after
    if given is None:
        return page.position, None
    # An empty page leads back to what stands at the position itself.
    beside = max(0, min(given + (-1 if asked.reads_down else 1), MAX_EVENT_ID))
    return page.position, page.events[0][0] if page.events else beside


def _link(request: web.Request, parameter: str, position: str | None, *, drops_range: bool = False) -> URL | None:
    """The address of the page at `position`, None without one. `drops_range` leaves out the other bound of a range."""
    if position is None:
        return None
    gone = {"ticket", parameter} | ({"since"} if parameter == "after" else set())
    if drops_range:
        gone = {"ticket", "after", "before", "since"}
    query = MultiDict((name, value) for name, value in request.query.items() if name not in gone)
    query[parameter] = position
    return URL.build(query=query)
