"""Computes what came before the incidents, and keeps the result for a while.

`report_steps` decides what is read next and returns it; who calls it reads. So the gateway reads on its read-only thread and
a command on its own connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from tentaculo.config.schema import Config
from tentaculo.incidents.precursors import (
    LEAST_MARGIN,
    Opening,
    Span,
    Watched,
    Window,
    WindowCounts,
    chosen_services,
    margin_of,
    plan_windows,
    with_q,
)
from tentaculo.model.failure import Problem
from tentaculo.model.incident import Incident
from tentaculo.model.precursor import DEFAULT_DAYS, Precursor, PrecursorReport, ServicePrecursors
from tentaculo.server.native_routes import SLICE_SECONDS
from tentaculo.store import incidents as stored_incidents
from tentaculo.store import precursors as store
from tentaculo.store.events import Query
from tentaculo.tasks import TaskGroup

MOST_INCIDENTS = 500
"""Incidents that are looked at, the newest ones."""
MOST_ROWS = 2_000_000
"""Events that one report reads. What is left then is not counted."""
MOST_TESTED = 10_000
"""Tests from which on no further service is looked at."""
_WINDOWS_AT_ONCE = 100
MAX_AGE, LEAST_AGE = 600.0, 30.0
"""Seconds for which a report is kept, and those for which it is kept although an incident has opened since."""
_STORED = timedelta(seconds=10)
"""After which an incident and the event of its opening are stored, while the database is there."""
_MOST_KEPT = 4

Steps = Generator[Query | None, Any, PrecursorReport]
"""Yields a query and is sent its result, or yields None where others may run."""


def report_steps(margins: Mapping[str, float], now: datetime, days: int) -> Steps:
    """Compute the report of the last `days` at `now`. `margins` has the seconds that are left out for each service."""
    since = now - timedelta(days=days)
    incidents: list[Incident] = yield partial(stored_incidents.newest, limit=MOST_INCIDENTS)
    if len(incidents) == MOST_INCIDENTS:
        # When there were earlier incidents is not known, so nothing earlier is compared.
        since = max(since, min(one.started_at for one in incidents))
    incidents = [one for one in incidents if one.ended_at is None or one.ended_at >= since]
    found: dict[int, tuple[int, datetime]] = yield partial(store.openings, numbers=[one.id for one in incidents])
    openings = {number: Opening(*opening) for number, opening in found.items()}
    first: datetime | None = yield partial(store.first_event, since=since)
    budget, tested, counted = MOST_ROWS, list[float](), list[ServicePrecursors]()
    for service in chosen_services(incidents) if first is not None else ():
        watched = yield from _watched(service, max(since, first or since), now)
        margin = margins.get(service, LEAST_MARGIN)
        windows = plan_windows(service, incidents, openings, margin, watched)
        yield None
        counts = WindowCounts(service, margin)
        budget = yield from _count(counts, windows, budget)
        precursors = list[Precursor]()
        for precursor in counts.precursors():
            precursors.append(precursor)
            yield None
        tested += [one.p for one in precursors if one.p is not None]
        counted.append(counts.result(precursors))
        if len(tested) >= MOST_TESTED:
            break
    ids = {number: opening.id for number, opening in openings.items()}
    return PrecursorReport(since, now, len(tested), ids, {one.service: one for one in with_q(counted, tested)})


def _watched(service: str, since: datetime, until: datetime) -> Generator[Query, Any, Watched]:
    """The time in which `service` was watched."""
    changes: list[tuple[datetime, bool]] = yield partial(store.maintenance_of, service=service)
    hours: set[int] = yield partial(store.watched_hours, service=service, since=since)
    # Where the first change that is known is an end, the maintenance began before.
    maintenance, began = list[Span](), since.timestamp() if changes and not changes[0][1] else None
    for at, is_begin in changes:
        if is_begin:
            began = at.timestamp()
        elif began is not None:
            maintenance.append(Span(began, at.timestamp()))
            began = None
    if began is not None:
        maintenance.append(Span(began, until.timestamp()))
    return Watched(since.timestamp(), until.timestamp(), maintenance, hours or None)


def _count(counts: WindowCounts, windows: list[Window], budget: int) -> Generator[Query | None, Any, int]:
    """Count the events of `windows`, while the rows read are not more than `budget`; returns what is left of it."""
    place = 0
    while place < len(windows) and budget > 0:
        some = [store.EventWindow(*one[:2], one.before_id) for one in windows[place : place + _WINDOWS_AT_ONCE]]
        found: list[store.WindowTypes] = yield partial(store.read_windows, windows=some)
        for window, came in zip(windows[place:], found, strict=False):
            budget -= came.rows
            if came.types is not None:
                counts.add(window, came.types)
            yield None
        place += len(found)
    return budget


def margins_of(config: Config) -> dict[str, float]:
    """The seconds before a detection that are left out, for each service."""
    return {name: margin_of(service.probe) for name, service in config.services.items()}


def compute_report(connection: Connection, config: Config, now: datetime, days: int = DEFAULT_DAYS) -> PrecursorReport:
    """The report, all at once: for a command."""
    steps = report_steps(margins_of(config), now, days)
    result: Any = None
    while True:
        try:
            query = steps.send(result)
        except StopIteration as stop:
            report: PrecursorReport = stop.value
            return report
        result = query(connection) if query is not None else None


class PrecursorReports:
    """Reports, computed by one task at a time in short slices, and kept for a while."""

    def __init__(
        self,
        config: Config,
        read: Callable[[Query], Awaitable[Any]],
        tasks: TaskGroup,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._margins = margins_of(config)
        self._read = read
        self._tasks = tasks
        self._now = now
        self._clock = clock
        self._kept: dict[int, tuple[float, PrecursorReport]] = {}
        self._computing: dict[int, asyncio.Task[PrecursorReport | Problem]] = {}
        self._free = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<PrecursorReports: {len(self._kept)} kept, {len(self._computing)} computing>"

    async def report(self, days: int, opened: datetime) -> PrecursorReport:
        """As `ReadPrecursors`. Raises `StoreUnavailable` while the database is away."""
        kept = self._kept.get(days)
        if kept is not None:
            has_incident = opened + _STORED <= kept[1].until
            if self._clock() < kept[0] + (MAX_AGE if has_incident else LEAST_AGE):
                return kept[1]
        task = self._computing.get(days)
        if task is None:
            # A client that leaves does not end what the next one waits for.
            task = self._computing[days] = self._tasks.start(self._compute(days), "precursors")
        found = await asyncio.shield(task)
        if isinstance(found, Problem):
            raise found
        return found

    async def _compute(self, days: int) -> PrecursorReport | Problem:
        try:
            async with self._free:
                report = await self._run(report_steps(self._margins, self._now(), days))
        except Problem as problem:
            return problem
        finally:
            del self._computing[days]
        self._kept.pop(days, None)
        self._kept[days] = (self._clock(), report)
        while len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        return report

    async def _run(self, steps: Steps) -> PrecursorReport:
        result: Any = None
        end = time.perf_counter() + SLICE_SECONDS
        while True:
            try:
                query = steps.send(result)
            except StopIteration as stop:
                report: PrecursorReport = stop.value
                return report
            result = None
            if query is not None:
                result = await self._read(query)
                end = time.perf_counter() + SLICE_SECONDS
            elif time.perf_counter() >= end:
                await asyncio.sleep(0)
                end = time.perf_counter() + SLICE_SECONDS
