"""The one thread that uses the database. It survives every failure of the database and reconnects by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from threading import Thread
from time import monotonic
from typing import Any

import structlog
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from tentaculo.model.event import StoreOutcome
from tentaculo.model.health import ServiceView
from tentaculo.store.database import Database
from tentaculo.store.errors import describe, is_data_error
from tentaculo.store.history import HistoryRow, RollUpRequest
from tentaculo.store.lease import LeaseLost
from tentaculo.store.work_queue import PendingWork, Work, WorkQueue, complete

log = structlog.get_logger(__name__)

BATCH = 1024
"""Events, or rows of history, committed together at most: a commit costs as much as the rows of 200 events."""
CHECK_EVERY = 5.0
"""Seconds between checks of a database without other work, so that its loss is known before it is needed."""
FIRST_RETRY, LAST_RETRY = 0.25, 5.0
"""Seconds between attempts to get a lost database back; doubled each time."""
EVENT_RETRY = 0.5
"""Most seconds between two attempts while an event waits."""
STEADY = 30.0
"""Seconds that a database must work before its next loss is retried as quickly as the first one."""


_OVER = object()


class StoreThread(Thread):
    """Takes the work that waits in the queue, commits it as a group, and completes the futures of the callers.

    `problem` is None while the database works, else the reason; it changes only here, and only after work has
    succeeded or failed. `services_problem` is why the rows of services alone cannot be written. `now` gives the time of new rows.
    """

    def __init__(self, database: Database, queue: WorkQueue, now: Callable[[], datetime]) -> None:
        super().__init__(name="tentaculo-writer", daemon=True)
        self.problem: str | None = None
        self.services_problem: str | None = None
        self.is_known = False
        """Whether the database has been tried."""
        self._database = database
        self._queue = queue
        self._now = now
        self._delay = FIRST_RETRY
        self._regained_at: float | None = None
        self._refused: set[str] = set()
        self._requested: RollUpRequest | None = None
        self._steps: Iterator[None] = iter(())
        self._trimming: Iterator[None] | None = None
        self._was_away = True

    @property
    def url(self) -> URL:
        """The address of the database."""
        return self._database.url

    @property
    def is_readable(self) -> bool:
        """Whether the database can be read, as far as known, though it may have a `problem`."""
        return self._database.is_readable

    @property
    def log_name(self) -> str:
        """The random name of the log of events; empty until the database was opened."""
        return self._database.log_name

    def run(self) -> None:
        """Work until the queue is closed and empty, or closed and the database lost."""
        while (work := self._next()) is not None:
            try:
                self._database.ready()
                if not work and not self._has_upkeep:
                    self._database.cut_log()
                self._serve(work)
                if self._has_upkeep or work.roll_up is not None or work.trim is not None:
                    self._roll_up(work)
                    self._trim(work)
            # The thread's outermost frame: an error of a driver must cost this work only, never the thread.
            except Exception as error:  # noqa: BLE001
                self._lose(work, error)
                if self._queue.is_closed:
                    break
            else:
                self._regain()
        self._refuse(self._queue.take_asks(), "The gateway is stopping.")
        self._database.close()

    def _next(self) -> Work | None:
        if self.problem is None:
            # Between two steps of the upkeep all waiting work comes first.
            return self._queue.take(0 if self._has_upkeep else CHECK_EVERY, BATCH)
        self._queue.pause(self._delay, EVENT_RETRY)
        self._delay = min(self._delay * 2, LAST_RETRY)
        return self._queue.take(0, BATCH)

    def _serve(self, work: Work) -> None:
        # A caller that gave up has reported the event as not stored, so it must not be stored.
        work.events = [ask for ask in work.events if not ask.answer.done()]
        if work.events:
            self._store_events(work)
        if work.views:
            self._write_views(list(work.views.values()))
            work.views = {}
        if work.history:
            self._add_history(work.history)
        while work.reads:
            ask = work.reads[0]
            try:
                complete([ask], [None if ask.answer.cancelled() else self._database.read(ask.what)])
            except (TypeError, ValueError):
                # A row that another program wrote may be unreadable: that costs this query only.
                self._refuse([ask], "The database holds rows that cannot be read.")
            except LeaseLost as lost:
                complete([ask], [None], lost)
            except SQLAlchemyError as error:
                if not is_data_error(error):
                    raise
                self._refuse([ask], "The database refuses this.")
            del work.reads[0]

    def _store_events(self, work: Work) -> None:
        """Store what waits in one transaction, and complete what is stored."""
        rows = [row for ask in work.events for row in ask.what]
        try:
            results = self._database.append_events(rows)
        except SQLAlchemyError as error:
            if not is_data_error(error):
                raise
            results = self._database.append_each_event(rows)
            self._queue.count_dropped(sum(result.outcome is StoreOutcome.REFUSED for result in results))
        found = iter(results)
        complete(work.events, [list(islice(found, len(ask.what))) for ask in work.events])
        work.events = []

    def _write_views(self, views: Sequence[ServiceView]) -> None:
        try:
            is_written = self._database.write_services(views, self._now())
        except SQLAlchemyError as error:
            if not is_data_error(error):
                raise
            if len(views) > 1:
                for view in views:
                    self._write_views([view])
            else:
                self._queue.count_dropped(1)
                if views[0].name not in self._refused:
                    self._refused.add(views[0].name)
                    log.warning("service row refused", service=views[0].name, error=type(error).__name__)
        else:
            self._refused.difference_update(view.name for view in views)
            self._queue.count_dropped(0 if is_written else len(views))
        self._note_services_problem()

    def _note_services_problem(self) -> None:
        before, self.services_problem = self.services_problem, self._database.services_problem
        if self.services_problem is not None and self.services_problem != before:
            log.warning("service rows not written", problem=self.services_problem)
        elif before is not None and self.services_problem is None:
            log.info("service rows written again")

    def _add_history(self, rows: list[HistoryRow]) -> None:
        """Store `rows`, and remove those that are stored: the rows that are left after a loss have not been counted."""
        try:
            self._database.add_history(rows)
        except SQLAlchemyError as error:
            if not is_data_error(error):
                raise
        else:
            rows.clear()
        while rows:
            try:
                self._database.add_history(rows[:1])
            except SQLAlchemyError as error:
                if not is_data_error(error):
                    raise
                self._queue.count_dropped(1)
                log.warning("history row refused", service=rows[0]["service"], error=type(error).__name__)
            del rows[0]

    def _roll_up(self, work: Work) -> None:
        """Do one step of the roll-up of history that is under way or requested now."""
        if work.roll_up is not None:
            # After the start and after a loss any hour may be incomplete; later only those that have just ended.
            self._steps = self._database.roll_up_history(work.roll_up, thorough=self._was_away)
            self._requested, work.roll_up, self._was_away = work.roll_up, None, False
        try:
            next(self._steps)
        except StopIteration:
            self._requested = None
        except SQLAlchemyError as error:
            if not is_data_error(error):
                raise
            # The next hour tries again; until then it must not block other work.
            self._requested, self._steps = None, iter(())
            log.warning("history roll-up failed", error=type(error).__name__)

    @property
    def _has_upkeep(self) -> bool:
        return self._requested is not None or self._trimming is not None

    def _trim(self, work: Work) -> None:
        """Do one step of the deletion of events that is under way or requested now."""
        if work.trim is not None and self._trimming is None:
            self._trimming = self._database.trim_events(work.trim)
        if self._trimming is not None and next(self._trimming, _OVER) is _OVER:
            self._trimming = None

    def _lose(self, work: Work, error: Exception) -> None:
        reason = describe(error, self._database.url)
        if reason != self.problem:
            log.warning("database unavailable", problem=reason, error=type(error).__name__)
        self.problem, self.is_known = reason, True
        self._database.close(after=error)
        if self._regained_at is not None and monotonic() - self._regained_at >= STEADY:
            self._delay = FIRST_RETRY
        self._regained_at = None
        work.roll_up = work.roll_up or self._requested
        # The next request of the gateway deletes events again.
        self._requested, self._steps, self._trimming, self._was_away = None, iter(()), None, True
        self._queue.put_back(work)
        # Events wait, until their callers do no longer.
        self._refuse([*work.reads, *self._queue.take_reads()], reason)

    def _regain(self) -> None:
        if self.problem is not None:
            log.info("database available again", dropped=self._queue.dropped)
        self.problem, self.is_known = None, True
        self._regained_at = self._regained_at or monotonic()

    def _refuse(self, asks: Sequence[PendingWork[Any]], reason: str) -> None:
        # Queries are not counted, and callers that gave up have been counted already.
        rows = (len(ask.what) for ask in asks if not callable(ask.what) and not ask.answer.done())
        self._queue.count_dropped(sum(rows))
        complete(asks, [None] * len(asks), reason)
