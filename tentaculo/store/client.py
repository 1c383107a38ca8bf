"""The event loop's access to the database. It never blocks the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import structlog
from msgspec.structs import replace
from sqlalchemy import URL, Connection
from sqlalchemy.exc import ArgumentError

from tentaculo.model.event import Event, EventFilter, FoundEvents, StoredEvent
from tentaculo.model.health import ServiceView
from tentaculo.model.history import HistorySummary, Period, RouteCount
from tentaculo.model.service_rates import RecentRates, UsualRates
from tentaculo.model.text import utc_now
from tentaculo.model.timeline import Timeline, TimelineRequest
from tentaculo.store import event_queries, events, history, rates
from tentaculo.store.database import Database, parse_url
from tentaculo.store.errors import StoreUnavailable, describe
from tentaculo.store.events import EventRetention, EventRow, Query
from tentaculo.store.history import Retention, RollUpRequest
from tentaculo.store.lease import Fence, LeaseLost, require_lease
from tentaculo.store.notifications import listen
from tentaculo.store.read_thread import SEARCH_NICENESS, ReadThread
from tentaculo.store.route_history import read_routes
from tentaculo.store.timeline import read_timeline
from tentaculo.store.work_queue import PendingWork, WorkQueue
from tentaculo.store.worker_thread import StoreThread
from tentaculo.tasks import TaskGroup

log = structlog.get_logger(__name__)

T = TypeVar("T")

OPEN_WAIT = 0.5
"""Seconds that `start` waits for the first result of the database."""
STORE_WAIT = 15.0
"""Seconds that an event waits for the database, where the caller gives no other limit."""
READ_WAIT = 2.0
"""Seconds until a query without a result is given up."""
ROWS_AT_ONCE = 250
"""Rows of events that are made in one turn of the event loop."""
CLOSE_WAIT = 5.0
"""Seconds that the stop waits for what is queued."""
LATE = "The database did not respond in time."
_NO_JSON = "The event cannot be written as JSON."


class _Waiting(NamedTuple):
    """Events that wait for the database."""

    until: float
    """When they wait no longer, by the clock of the loop."""
    answer: asyncio.Future[list[StoredEvent]]
    rows: int


class StoreClient:
    """Stores events, history and the services' rows through one writer thread behind a bounded queue.

    Everything here runs on the event loop and returns at once or waits a bounded time. A database that cannot be
    opened, is locked, full, not migrated or lost is described by `problem`, and used again as soon as it works.
    """

    def __init__(
        self,
        url: str,
        *,
        now: Callable[[], datetime] = utc_now,
        event_wait: float = STORE_WAIT,
        survives_power_cut: bool = True,
        only_reads: bool = False,
        max_events: int = 1024,
        max_services: int = 4096,
        max_history: int = 4096,
    ) -> None:
        """`url` is a SQLAlchemy address; `problem` describes a faulty one. `max_*` limit the work that waits.

        `event_wait` is how many seconds an event waits for a database that is locked, full or away.
        `survives_power_cut` says whether a commit to a file of SQLite waits for the disk. With `only_reads` no work can
        write, and opening the database changes nothing in it.
        """
        self.fence: Fence | None = None
        """The lease of this machine; None while it holds none."""
        self._queue = WorkQueue(max_events, max_services, max_history)
        self._thread: StoreThread | None = None
        self._reader: ReadThread | None = None
        self._searcher: ReadThread | None = None
        self._fault: str | None = None
        self._tasks = TaskGroup("store")
        self._event_wait = event_wait
        self._waiting: deque[_Waiting] = deque()
        self._limit: asyncio.TimerHandle | None = None
        try:
            if parse_url(url).database not in (None, "", ":memory:"):
                self._reader = ReadThread(Database(url, only_reads=True))
                self._searcher = ReadThread(
                    Database(url, only_reads=True), "tentaculo-search", niceness=SEARCH_NICENESS
                )
            self._thread = StoreThread(
                Database(url, survives_power_cut=survives_power_cut, only_reads=only_reads), self._queue, now
            )
        except ArgumentError as error:
            self._fault = describe(error, URL.create("sqlite"))
            self._queue.close()

    def __repr__(self) -> str:
        return f"<StoreClient: {self.problem or 'available'}, {self._queue!r}, {self.dropped} dropped>"

    @property
    def may_be_shared(self) -> bool:
        """Whether gateways on several machines may use this database, so that one of them needs the lease."""
        return self._thread is not None and self._thread.url.get_backend_name() == "postgresql"

    @property
    def problem(self) -> str | None:
        """Why the database cannot be used, in one sentence without secrets; None while it can."""
        return self._fault or (self._thread.problem if self._thread else None)

    @property
    def shown_problem(self) -> str | None:
        """`problem`, or a sentence while the database has not responded since the start."""
        if self._thread is not None and not self._thread.is_known:
            return "The database has not responded yet."
        return self.problem

    @property
    def services_problem(self) -> str | None:
        """Why the rows of services cannot be written, though the database can; None while they can."""
        return self._thread.services_problem if self._thread else None

    @property
    def dropped(self) -> int:
        """How many events were refused, and how many states of services and rows of history were not stored."""
        return self._queue.dropped

    def launch(self) -> None:
        """Start the thread. Never waits for the database."""
        if self._thread is not None:
            self._thread.start()
        if self._reader is not None:
            self._reader.start()

    async def start(self) -> None:
        """Start the thread, and wait a moment for the first result of the database. Never raises for a bad one."""
        self.launch()
        if self._thread is None:
            return
        try:
            await self._ask(self._queue.put_read, lambda _connection: None, OPEN_WAIT)
        except StoreUnavailable:
            # `problem` has the reason, and the thread has logged it. A slow database continues in its thread.
            pass

    async def close(self) -> None:
        """Write the waiting work, within a bounded time, and end the thread."""
        self._queue.close()
        readers = [thread for thread in (self._reader, self._searcher) if thread is not None]
        for reader in readers:
            reader.close()
        threads = [thread for thread in (self._thread, *readers) if thread is not None and thread.is_alive()]
        for thread in threads:
            await asyncio.to_thread(thread.join, CLOSE_WAIT)
            if thread.is_alive():
                log.warning("database still busy at the stop", waited=CLOSE_WAIT)

    def store_events(self, new: Sequence[Event]) -> asyncio.Future[list[StoredEvent]]:
        """Store events in one transaction; the future gets the result for each, once they are committed.

        The id of each is greater than that of every event before it, and at least its `id`. While the database is locked,
        full or away they wait. The future gets `StoreUnavailable` if it is so for too long, or if too many events wait.
        They are then not stored, unless the time ends during the commit itself.
        """
        answer: asyncio.Future[list[StoredEvent]] = asyncio.get_running_loop().create_future()
        if len(new) > ROWS_AT_ONCE:
            self._tasks.start(self._put_many(new, answer), "many events")
            return answer
        try:
            self._put_events(events.event_rows(new), answer)
        except events.UNWRITABLE:
            answer.set_exception(self._refused(_NO_JSON, len(new)))
        return answer

    async def _put_many(self, new: Sequence[Event], answer: asyncio.Future[list[StoredEvent]]) -> None:
        made = list[EventRow]()
        try:
            for start in range(0, len(new), ROWS_AT_ONCE):
                made += events.event_rows(new[start : start + ROWS_AT_ONCE])
                await asyncio.sleep(0)
        except events.UNWRITABLE:
            answer.set_exception(self._refused(_NO_JSON, len(new)))
        else:
            self._put_events(made, answer)

    def _put_events(self, rows: Sequence[EventRow], answer: asyncio.Future[list[StoredEvent]]) -> None:
        if not self._queue.put_events(PendingWork(rows, answer)):
            answer.set_exception(self._refused(self._fault or self._queue.no_room, len(rows)))
            return
        loop, waiting = asyncio.get_running_loop(), self._waiting
        while waiting and waiting[0].answer.done():
            waiting.popleft()
        waiting.append(_Waiting(loop.time() + self._event_wait, answer, len(rows)))
        if self._limit is None:
            # One timer serves all of them, since all wait equally long.
            self._limit = loop.call_later(self._event_wait, self._end_waits)

    def _end_waits(self) -> None:
        loop, waiting = asyncio.get_running_loop(), self._waiting
        while waiting and (waiting[0].answer.done() or waiting[0].until <= loop.time()):
            one = waiting.popleft()
            if not one.answer.done():
                one.answer.set_exception(self._refused(self.problem or LATE, one.rows))
        self._limit = loop.call_at(waiting[0].until, self._end_waits) if waiting else None

    def log_name(self) -> str:
        """The random name of the log of events; empty until the database has responded."""
        return self._thread.log_name if self._thread is not None else ""

    async def notify(self, on_events: Callable[[], None], on_fleet: Callable[[], None] = lambda: None) -> None:
        """Call `on_events` when another machine has stored events, and `on_fleet` when it has changed the fleet's state.

        Runs until cancelled. Returns at once on SQLite.
        """
        if self._thread is not None and self.may_be_shared:
            await listen(self._thread.url, on_events, on_fleet)

    async def store_fleet_events(self, new: Sequence[Event]) -> list[StoredEvent]:
        """As `store_events`, for events that only the holder of the lease may store: they get `epoch`, that of the lease.

        Raises `LeaseLost` for others.
        """
        if not self.may_be_shared:
            return await self.store_events(new)
        if self.fence is None:
            raise LeaseLost
        epoch = self.fence.epoch
        rows = events.event_rows([replace(one, payload={**one.payload, "epoch": epoch}) for one in new])
        results: list[StoredEvent] = await self.run_as_holder(lambda connection: events.append_events(connection, rows))
        return results

    def trim_events(self, kept: EventRetention) -> None:
        """Delete the events that `kept` does not keep, in the background. Never waits."""
        self._queue.put_trim(kept)

    async def last_event_id(self) -> int:
        """The greatest id that an event ever had, 0 where there was none. Raises `StoreUnavailable` as `run` does."""
        last: int = await self._read_log(events.last_event_id)
        return last

    async def read_events(
        self,
        wanted: EventFilter,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int,
        newest_first: bool = False,
    ) -> FoundEvents:
        """Up to `limit` events that `wanted` selects, by id: those greater than `after` and less than `before`.

        A search that takes longer than `event_queries.SEARCH_SECONDS` ends, and says how far it got. Raises
        `StoreUnavailable` as `read` does.
        """
        read = self.search if wanted.is_search else self.read
        found: FoundEvents = await read(
            lambda connection: event_queries.read_events(
                connection, wanted, after=after, before=before, limit=limit, newest_first=newest_first
            )
        )
        return found

    async def next_events(self, after: int, limit: int) -> list[Event]:
        """The next `limit` events after an id, by id. For the tail of the log: no search delays it.

        Raises `StoreUnavailable` as `run` does.
        """
        found: FoundEvents = await self._read_log(
            lambda connection: event_queries.read_events(connection, EventFilter(), after=after, limit=limit)
        )
        return found.events

    async def _read_log(self, query: Query) -> Any:
        # The writer sees what it has committed at once. A database that cannot be written has other readers only.
        return await (self.run(query) if self.problem is None else self.read(query))

    async def read(self, query: Query) -> Any:
        """The result of `query`, which may take long and cannot write. No commit waits for it.

        It works too while the database can only be read. Raises `StoreUnavailable` if the database is lost or refuses it, at the latest after `READ_WAIT`.
        """
        if self._reader is None:
            return await self.run(query)
        self._check_readable()
        return await self._ask(self._reader.put, query, READ_WAIT)

    async def search(self, query: Query) -> Any:
        """As `read`, for queries that read many rows. No other query waits for it.

        Its thread starts with the first one, since few gateways ever need it.
        """
        if self._searcher is None:
            return await self.run(query)
        self._check_readable()
        if self._searcher.ident is None and not self._queue.is_closed:
            self._searcher.start()
        return await self._ask(self._searcher.put, query, READ_WAIT)

    def _check_readable(self) -> None:
        problem = self.problem
        # One that is full, locked for writing or read-only can still be read.
        if problem is not None and (self._thread is None or not self._thread.is_readable):
            raise StoreUnavailable(problem)

    async def run(self, work: Query) -> Any:
        """The result of `work` in a transaction of its own, on the thread's connection.

        Raises `StoreUnavailable` if the database is lost or refuses it, at the latest after `READ_WAIT`. The work is then
        undone, unless the time limit ended: such work may still be done.
        """
        if self.problem is not None:
            raise StoreUnavailable(self.problem)
        return await self._ask(self._queue.put_read, work, READ_WAIT)

    async def run_as_holder(self, work: Query) -> Any:
        """As `run`, for what only the holder of the lease may write. Raises `LeaseLost` where another one holds it now."""
        if not self.may_be_shared:
            return await self.run(work)
        fence = self.fence
        if fence is None:
            raise LeaseLost

        def fenced(connection: Connection) -> Any:
            require_lease(connection, fence)
            return work(connection)

        return await self.run(fenced)

    async def history(self, service: str, span: int, since: int, until: int) -> list[Period]:
        """The counts of `service` in periods of `span` seconds that begin from `since` to before `until`.

        Both are seconds since 1970, `since` a multiple of `span`. Raises `StoreUnavailable` as `read` does.
        """
        periods: list[Period] = await self.read(
            lambda connection: history.read_history(connection, span, since, until, [service])
        )
        return periods

    async def past(self, now: int, services: Sequence[str]) -> dict[str, HistorySummary]:
        """The summary of each service's history. Raises `StoreUnavailable` as `read` does."""
        past: dict[str, HistorySummary] = await self.read(
            lambda connection: history.read_past(connection, now, services)
        )
        return past

    async def recent(self, now: int, services: Sequence[str]) -> dict[str, RecentRates]:
        """The recent rates of each service at `now`, seconds since 1970. Raises `StoreUnavailable` as `read` does."""
        found: dict[str, RecentRates] = await self.read(lambda connection: rates.read_recent(connection, now, services))
        return found

    async def usual(self, hour: int, services: Sequence[str]) -> dict[str, UsualRates]:
        """What is usual for each service in the hour that begins at `hour`. Raises `StoreUnavailable` as `read` does."""
        found: dict[str, UsualRates] = await self.read(lambda connection: rates.read_usual(connection, hour, services))
        return found

    async def routes(self, service: str, span: int, since: int, until: int) -> dict[str, RouteCount]:
        """The requests of each route of `service` in the periods that `history` would give for the same arguments."""
        found: dict[str, RouteCount] = await self.read(
            lambda connection: read_routes(connection, service, span, since, until)
        )
        return found

    async def timeline(self, wanted: TimelineRequest) -> Timeline:
        """The part of the past that the status page draws. Raises `StoreUnavailable` as `read` does."""
        found: Timeline = await self.read(lambda connection: read_timeline(connection, wanted))
        return found

    def record_services(self, views: Sequence[ServiceView]) -> None:
        """Update the services' rows soon. Never waits and never raises."""
        self._queue.put_views(views)

    def record_history(self, periods: Iterable[Period]) -> None:
        """Add the counts to the history soon; they must not change any more. Never waits and never raises."""
        self._queue.put_history(periods)

    def roll_up_history(self, now: int, kept: Retention | None) -> None:
        """Compute hours and days, and delete rows older than `kept`, in the background. Never waits."""
        self._queue.put_roll_up(RollUpRequest(now, kept))

    async def _ask(self, put: Callable[[PendingWork[T]], bool], what: T, wait: float) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not put(PendingWork(what, answer)):
            raise self._refused(self._queue.no_room, 0)
        try:
            async with asyncio.timeout(wait):
                return await answer
        except TimeoutError:
            raise self._refused(self.problem or LATE, 0) from None

    def _refused(self, reason: str, rows: int) -> StoreUnavailable:
        self._queue.count_dropped(rows)
        return StoreUnavailable(reason)
