"""The one thread that talks to the database. It outlives every fault of it and comes back by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from threading import Thread
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from tentaculo.model.health import ServiceView
from tentaculo.store.database import Database
from tentaculo.store.errors import StoreUnavailable, describe, is_data_error
from tentaculo.store.events import EventRow
from tentaculo.store.history import HistoryRow, RollUpRequest
from tentaculo.store.work_queue import PendingWork, Work, WorkQueue

log = structlog.get_logger(__name__)

BATCH = 256
"""Events, or rows of history, committed together at most."""
CHECK_EVERY = 5.0
"""Seconds between looks at a database that nobody uses, so that its loss is known before it is felt."""
FIRST_RETRY, LAST_RETRY = 0.25, 5.0
"""Seconds between attempts to get a lost database back; doubled each time."""


class StoreThread(Thread):
    """Takes what waits in the inbox, commits it as a group, and answers those who wait.

    `problem` is None while the database serves, else why it does not; it changes only here, and only after work has
    succeeded or failed. `services_problem` is why the rows of services alone cannot be written. `now` gives the time of new rows.
    """

    def __init__(self, database: Database, inbox: WorkQueue, now: Callable[[], datetime]) -> None:
        super().__init__(name="tentaculo-writer", daemon=True)
        self.problem: str | None = None
        self.services_problem: str | None = None
        self._database = database
        self._inbox = inbox
        self._now = now
        self._delay = FIRST_RETRY
        self._tending: RollUpRequest | None = None
        self._upkeep: Iterator[None] = iter(())
        self._was_away = True

    def run(self) -> None:
        """Serve until the inbox is closed and empty, or closed and the database lost."""
        while (work := self._next()) is not None:
            try:
                self._database.ready()
                if not work and self._tending is None:
                    self._database.cut_log()
                self._serve(work)
                self._tend(work)
            # The thread's outermost frame: whatever a driver raises must cost this work only, never the thread.
            except Exception as error:  # noqa: BLE001
                self._lose(work, error)
                if self._inbox.is_closed:
                    break
            else:
                self._regain()
        self._refuse(self._inbox.take_asks(), "The gateway is stopping.")
        self._database.close()

    def _next(self) -> Work | None:
        if self.problem is None:
            # Between two pieces of upkeep whatever waits comes first.
            return self._inbox.take(CHECK_EVERY if self._tending is None else 0, BATCH)
        self._inbox.pause(self._delay)
        self._delay = min(self._delay * 2, LAST_RETRY)
        return self._inbox.take(0, BATCH)

    def _serve(self, work: Work) -> None:
        # Who gave up waiting was told that the event is not stored; so it must not be.
        work.events = [ask for ask in work.events if not ask.answer.cancelled()]
        if work.events:
            self._store_events(work.events)
            work.events = []
        if work.views:
            self._write_views(list(work.views.values()))
            work.views = {}
        if work.history:
            self._add_history(work.history)
        while work.reads:
            ask = work.reads[0]
            try:
                _answer([ask], [None if ask.answer.cancelled() else self._database.read(ask.what)])
            except (TypeError, ValueError):
                # What another hand wrote into the table is not what we would have: that costs this answer only.
                self._refuse([ask], "The database holds rows that cannot be read.")
            except SQLAlchemyError as error:
                if not is_data_error(error):
                    raise
                self._refuse([ask], "The database refuses this.")
            del work.reads[0]

    def _store_events(self, asks: Sequence[PendingWork[EventRow]]) -> None:
        try:
            ids = self._database.append_events([ask.what for ask in asks])
        except SQLAlchemyError as error:
            if not is_data_error(error):
                raise
            if len(asks) > 1:
                for ask in asks:
                    self._store_events([ask])
            else:
                self._refuse(asks, "The database refuses this event.")
        else:
            _answer(asks, ids)

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
                self._inbox.count_dropped(1)
                log.warning("service row refused", service=views[0].name, error=type(error).__name__)
        else:
            self._inbox.count_dropped(0 if is_written else len(views))
        self._note_services_problem()

    def _note_services_problem(self) -> None:
        before, self.services_problem = self.services_problem, self._database.services_problem
        if self.services_problem is not None and self.services_problem != before:
            log.warning("service rows not written", problem=self.services_problem)
        elif before is not None and self.services_problem is None:
            log.info("service rows written again")

    def _add_history(self, rows: list[HistoryRow]) -> None:
        """Store `rows`, and take out what is done: of what a loss leaves in it nothing has been counted yet."""
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
                self._inbox.count_dropped(1)
                log.warning("history row refused", service=rows[0]["service"], error=type(error).__name__)
            del rows[0]

    def _tend(self, work: Work) -> None:
        """Do one piece of the upkeep of history, that which is under way or that which is asked for now."""
        if work.tending is not None:
            # After the start and after a loss anything may be left undone; later only what has just ended.
            self._upkeep = self._database.tend_history(work.tending, thorough=self._was_away)
            self._tending, work.tending, self._was_away = work.tending, None, False
        try:
            next(self._upkeep)
        except StopIteration:
            self._tending = None
        except SQLAlchemyError as error:
            if not is_data_error(error):
                raise
            # The next hour tries again; until then it must not be in the way of everything else.
            self._tending, self._upkeep = None, iter(())
            log.warning("history roll-up failed", error=type(error).__name__)

    def _lose(self, work: Work, error: Exception) -> None:
        reason = describe(error, self._database.url)
        if reason != self.problem:
            log.warning("database unavailable", problem=reason, error=type(error).__name__)
        self.problem = reason
        self._database.close()
        work.tending = work.tending or self._tending
        self._tending, self._upkeep, self._was_away = None, iter(()), True
        self._inbox.put_back(work)
        self._refuse([*work.events, *work.reads, *self._inbox.take_asks()], reason)

    def _regain(self) -> None:
        if self.problem is not None:
            log.info("database available again", dropped=self._inbox.dropped)
        self.problem = None
        self._delay = FIRST_RETRY

    def _refuse(self, asks: Sequence[PendingWork[Any]], reason: str) -> None:
        # Queries are not counted, and who gave up waiting has been already.
        self._inbox.count_dropped(sum(1 for ask in asks if not callable(ask.what) and not ask.answer.done()))
        _answer(asks, [None] * len(asks), reason)


def _answer(asks: Sequence[PendingWork[Any]], results: Sequence[object], reason: str | None = None) -> None:
    """Answer each on its own loop with its result, or all with `StoreUnavailable` for `reason`."""
    if not asks:
        return

    def answer() -> None:
        for ask, result in zip(asks, results, strict=True):
            if ask.answer.done():
                continue
            if reason is None:
                ask.answer.set_result(result)
            else:
                ask.answer.set_exception(StoreUnavailable(reason))

    try:
        asks[0].answer.get_loop().call_soon_threadsafe(answer)
    except RuntimeError:
        # The loop is closed: nobody waits any more.
        pass
