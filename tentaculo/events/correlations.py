"""`GET /debug/events/correlations`: which events belong together, by what their producers state, and by statistics.

A stated edge is a fact that two events share: a `correlation_id`, a trace, a parent, or the same value of a key that
names a thing, such as `spawn_id`. A statistical edge leads to the opening of an incident, from the last event before it
of a type that comes before the incidents of that service more often than by chance. It has the numbers that say so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain, islice, pairwise
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from tentaculo.events.replay import LogReader
from tentaculo.events.schemas import canonical_type
from tentaculo.model.event import Event, EventFilter
from tentaculo.model.health import GATEWAY_NAME
from tentaculo.model.precursor import DEFAULT_DAYS, MOST_DAYS, PrecursorReport, ReadPrecursors
from tentaculo.server.native_routes import Slices, json_response, raw_json
from tentaculo.server.query_parameters import check_names, number_parameter, read_number

HOURS = number_parameter("hours", "Only events received in the last hours.", default=1, most=24)
LIMIT = number_parameter("limit", "Only the newest events, up to this number.", default=500, most=2000)
DAYS = number_parameter(
    "days", "Incidents of the last days, for statistical edges.", default=DEFAULT_DAYS, most=MOST_DAYS
)
PARAMETERS = (HOURS, LIMIT, DAYS)
_AT_ONCE = 250
MOST_SHARING = 50
"""A value that more events share joins none of them: it names no single thing."""
MOST_EDGES = 5000
"""Edges of one response."""
MOST_RELATED = 50
"""Entries of one `related_events` that are looked at."""
OPENED = "gateway.incident.opened"
"""The type of the event that records the opening of an incident."""
_SHORTEST_NAME = 3
_SMALLEST_NUMBER, _GREATEST_NUMBER = 1000, 2**64
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_NO_TRACE = "0" * 32


class Edge(NamedTuple):
    """Two events that belong together, the earlier one first."""

    source: int
    target: int
    strength: float
    by: str
    """The fact that says so."""


def identity(value: object) -> str | None:
    """The value as a name of one thing; None where it is too common to name one: short texts and small numbers."""
    if isinstance(value, str) and len(value.strip()) >= _SHORTEST_NAME:
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool) and _SMALLEST_NUMBER <= value < _GREATEST_NUMBER:
        return str(value)
    return None


def facts_of(event: Event, keys: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """What an event shares with others: the kind of fact, its value, and the name of the member that states it.

    Members are looked for in the payload and then in the metadata; `payload.id` of `keys` is `id` of the payload alone.
    """
    if (value := identity(_member(event, "correlation_id"))) is not None:
        yield "correlation_id", value, "correlation_id"
    traceparent = _member(event, "traceparent")
    trace = _TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    if trace is not None and trace[1] != _NO_TRACE:
        yield "traceparent", trace[1], "traceparent"
    for key in keys:
        if (value := identity(_member(event, key))) is not None:
            yield "key", value, key


def _member(event: Event, name: str) -> object:
    if name.startswith("payload."):
        return event.payload.get(name.removeprefix("payload."))
    value = event.payload.get(name)
    # Many producers write null for what they do not have.
    return event.metadata.get(name) if value is None else value


def _strength(value: object) -> float:
    """The strength that an event states, 1 where it states none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1e9 else 1.0  # type: ignore[operator, arg-type]


def _names_of(event: Event) -> Iterator[str]:
    """By what other events may name this one."""
    yield str(event.id)
    for value in (event.key, event.payload.get("id")):
        if (name := identity(value)) is not None:
            yield name


def has_correlation(event: Event, value: str, keys: Sequence[str]) -> bool:
    """Whether `value` is one of the facts that an event shares, names it, or names its parent."""
    facts = (found for _, found, _ in facts_of(event, keys))
    return value in facts or value in _names_of(event) or identity(_member(event, "parent_id")) == value


class Graph:
    """The edges among some events, which are added in the order in which they happened."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys
        self._sharing: dict[tuple[str, str], list[tuple[int, str]]] = {}
        self._named: dict[str, int] = {}
        self._links: list[tuple[str, int, float, str]] = []

    def __repr__(self) -> str:
        return f"<Graph: {len(self._sharing)} facts>"

    def add(self, event: Event) -> None:
        """Take what an event states."""
        for kind, value, member in facts_of(event, self._keys):
            found = self._sharing.setdefault((kind, value), [])
            if len(found) <= MOST_SHARING and (not found or found[-1][0] != event.id):
                found.append((event.id, member))
        for name in _names_of(event):
            self._named.setdefault(name, event.id)
        if (parent := identity(_member(event, "parent_id"))) is not None:
            self._links.append((parent, event.id, 1.0, "parent_id"))
        related = event.payload.get("related_events")
        if isinstance(related, list):
            strength = _strength(event.payload.get("strength"))
            for entry in related[:MOST_RELATED]:
                if (related_name := identity(entry)) is not None:
                    self._links.append((related_name, event.id, strength, "related_events"))

    def edges(self) -> Iterator[Edge]:
        """All edges, one for each pair of events; a value that several share makes a chain in the order of time."""
        found: set[tuple[int, int]] = set()
        for edge in self._all():
            pair = (edge.source, edge.target)
            if edge.source != edge.target and pair not in found:
                found.add(pair)
                yield edge

    def _all(self) -> Iterator[Edge]:
        for name, target, strength, by in self._links:
            if (source := self._named.get(name)) is not None:
                yield Edge(source, target, strength, by)
        for sharing in self._sharing.values():
            if len(sharing) > MOST_SHARING:
                continue
            for (source, first), (target, second) in pairwise(sharing):
                yield Edge(source, target, 1.0, first if first == second else f"{first} = {second}")


def _time_of(event: Event) -> tuple[int, int]:
    """The order of events in time; of those with the same one, that of the log."""
    return event.happened_ms, event.id


def node_shape(event: Event) -> dict[str, Any]:
    """An event as a node. `timestamp` is in milliseconds of our own clock: corrected where it can be, else of the receipt."""
    schema = canonical_type(event.type)
    shape = {
        "id": event.id,
        "type": event.type,
        "source": event.source,
        "timestamp": event.happened_ms,
        "clock": "received" if event.corrected is None else "corrected",
        "severity": event.severity,
        "nature": None if schema is None else schema.nature.value,
    }
    if event.corrected is not None:
        shape["width_ms"] = event.corrected.width_ms
    return shape


class EventCorrelations:
    """The handler. `keys` name the members of events whose equal values join them."""

    def __init__(
        self,
        reader: LogReader,
        precursors: ReadPrecursors,
        slices: Slices,
        keys: Sequence[str],
        now: Callable[[], datetime],
    ) -> None:
        self._reader = reader
        self._precursors = precursors
        self._slices = slices
        self._keys = keys
        self._now = now

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The graph of the newest events of the last hours. Raises `Problem`: 400, or 503 while the database is away."""
        check_names(request.query, PARAMETERS)
        hours, limit = read_number(request.query, HOURS), read_number(request.query, LIMIT)
        days = read_number(request.query, DAYS)
        events = await self._newest(self._now() - timedelta(hours=hours), limit)
        graph = Graph(self._keys)
        nodes = await self._slices.collect(self._nodes(events, graph))
        stated, found = map(_stated_edge, graph.edges()), list[dict[str, Any]]()
        opened = [one.received_at for one in events if one.source == GATEWAY_NAME and one.type == OPENED]
        if opened:
            report = await self._precursors(days, max(opened))
            found = statistical_edges(report, {event.id for event in events})
        edges = await self._slices.collect(map(raw_json, islice(chain(found, stated), MOST_EDGES)))
        shape = {"nodes": nodes, "edges": edges, "total_nodes": len(nodes), "total_edges": len(edges)}
        return json_response({"status": "ok", "timestamp": self._now(), "graph": shape})

    async def _newest(self, since: datetime, limit: int) -> list[Event]:
        """The newest events of the log, in the order in which they happened."""
        found: list[Event] = []
        before: int | None = None
        while len(found) < limit:
            wanted = min(_AT_ONCE, limit - len(found))
            part = await self._reader.read(EventFilter(since=since), before=before, limit=wanted, newest_first=True)
            found += part.events
            if part.reached is None and len(part.events) < wanted:
                break
            before = part.reached or found[-1].id
        return sorted(found, key=_time_of)

    @staticmethod
    def _nodes(events: Sequence[Event], graph: Graph) -> Iterator[msgspec.Raw]:
        for event in events:
            graph.add(event)
            yield raw_json(node_shape(event))


def _stated_edge(edge: Edge) -> dict[str, Any]:
    return {**edge._asdict(), "kind": "stated"}


def statistical_edges(report: PrecursorReport, nodes: Collection[int]) -> list[dict[str, Any]]:
    """The edges that `report` claims, between events whose ids are in `nodes`."""
    return [
        {
            "source": last,
            "target": opening,
            "strength": len(one.before) / len(service.incidents),
            "by": f"before incidents of {service.service}",
            "kind": "statistical",
            "incidents_with": len(one.before),
            "incidents": len(service.incidents),
            "other_windows_with": one.others_with,
            "other_windows": service.others,
            "p": one.p,
            "q": one.q,
            "sentence": service.sentence(one),
        }
        for service in report.services.values()
        for one in service.precursors
        if one.is_claimed
        for incident, last in one.before.items()
        if last in nodes and (opening := report.openings.get(incident)) in nodes
    ]
