"""The thread of queries that may take long: a connection of its own, so that no search delays a commit."""

from __future__ import annotations

import os
import sqlite3
import sys
from asyncio import Future
from collections import deque
from threading import Condition, Thread, get_native_id
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from tentaculo.store.database import Database
from tentaculo.store.errors import describe
from tentaculo.store.events import Query
from tentaculo.store.work_queue import PendingWork, complete

MOST_WAITING = 256
"""Queries that wait at most."""
STEPS = 250_000
"""Instructions of SQLite between two checks whether the caller still waits: some milliseconds.

Each check needs the interpreter's lock, for which it waits up to 5 ms where the event loop is busy. A caller that gives up
also interrupts SQLite: to look for a text in one row is a single instruction, which takes 50 ms in the worst case.
"""
SEARCH_NICENESS = 10
"""By how much a thread of searches is nicer than the others: on one core it takes a tenth of what they leave."""


class ReadThread(Thread):
    """Runs queries one after the other on a connection that cannot write. It reconnects for each query where it must."""

    def __init__(self, database: Database, name: str = "tentaculo-reader", *, niceness: int = 0) -> None:
        """`niceness` is added to the process's own, on Linux, where each thread has one."""
        super().__init__(name=name, daemon=True)
        self._niceness = niceness
        self._database = database
        self._waiting: deque[PendingWork[Query]] = deque()
        self._changed = Condition()
        self._is_closed = False
        self._in_progress: tuple[Future[Any], sqlite3.Connection] | None = None
        """What waits for the query in progress, and where it runs; None where that is no SQLite."""

    def __repr__(self) -> str:
        return f"<ReadThread: {len(self._waiting)} waiting>"

    def put(self, work: PendingWork[Query]) -> bool:
        """Queue a query; False where too many wait or the thread ends."""
        with self._changed:
            if self._is_closed or len(self._waiting) >= MOST_WAITING:
                return False
            self._waiting.append(work)
            self._changed.notify()
        work.answer.add_done_callback(self._end_query)
        return True

    def _end_query(self, answer: Future[Any]) -> None:
        if not answer.cancelled():
            return
        with self._changed:
            if self._in_progress is not None and self._in_progress[0] is answer:
                self._in_progress[1].interrupt()

    def close(self) -> None:
        """Refuse what waits, and end the thread after the query in progress."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def run(self) -> None:
        """Work until closed."""
        if self._niceness and sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + self._niceness)
        while (work := self._next()) is not None:
            if work.answer.cancelled():
                continue
            try:
                self._read(work)
            # The thread's outermost frame: an error of a driver must cost this query only, never the thread.
            except Exception as error:  # noqa: BLE001
                self._database.close(after=error)
                complete([work], [None], describe(error, self._database.url))
        complete(self._waiting, [None] * len(self._waiting), "The gateway is stopping.")
        self._database.close()

    def _next(self) -> PendingWork[Query] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            return None if self._is_closed else self._waiting.popleft()

    def _read(self, work: PendingWork[Query]) -> None:
        self._database.ready()
        connection: Any = self._database.driver_connection
        is_sqlite = isinstance(connection, sqlite3.Connection)
        if is_sqlite:
            # The limit of a server ends its queries. This one ends when nobody waits for it any more.
            connection.set_progress_handler(work.answer.cancelled, STEPS)
            with self._changed:
                self._in_progress = work.answer, connection
        try:
            complete([work], [self._database.read(work.what)])
        except (TypeError, ValueError):
            # A row that another program wrote may be unreadable: that costs this query only.
            complete([work], [None], "The database holds rows that cannot be read.")
        except SQLAlchemyError:
            if not work.answer.cancelled():
                raise
        finally:
            if is_sqlite:
                with self._changed:
                    self._in_progress = None
                connection.set_progress_handler(None, 0)
