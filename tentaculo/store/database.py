"""One connection to the database, for one thread. It never creates a database, and notices when its file is replaced."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    create_engine,
    event,
    inspect,
    literal_column,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from tentaculo.config.environment import sqlite_file, with_driver
from tentaculo.model.event import StoredEvent, StoreOutcome
from tentaculo.model.health import ServiceView
from tentaculo.store import events, tables
from tentaculo.store.errors import (
    NOT_MIGRATED,
    StoreUnavailable,
    describe,
    disk_full,
    is_data_error,
    is_disk_full,
    table_fault,
)
from tentaculo.store.history import HistoryRow, RollUpRequest, add_history, roll_up_history
from tentaculo.store.log_identity import LogMemory, home_of
from tentaculo.store.route_history import add_routes, roll_up_routes
from tentaculo.store.runtime_table import RuntimeTable, Written
from tentaculo.store.sqlite_file import LOG_LIMIT, FrozenFile, choose_journal, has_log, open_file

T = TypeVar("T")

LOCK_WAIT = 2.0
"""Seconds to wait for another process's lock."""
SERVER_WAIT = 5.0
"""Seconds a database server may take to connect and to finish a statement."""
LEAST_FREE = 256 * 1024
"""Bytes that must be free on the disk before a file is used again that could not grow. A small write may fit before."""
CHECK_EVERY = 1.0
"""Seconds between two looks at the tables of an open connection. Work that meets a lost database fails by itself."""
SERVICES_RETRY = 30.0
"""Seconds after which a services' table that could not be written is tried again."""


_ONLY_READS = {
    "sqlite": "PRAGMA query_only = ON",
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
}


def parse_url(url: str) -> URL:
    """Parse a database URL and set its driver. Raises `sqlalchemy.exc.ArgumentError` for text that is no URL."""
    return make_url(with_driver(url))


def database_file(url: URL) -> Path | None:
    """The SQLite file of `url`; None for a server and for a database in memory."""
    return sqlite_file(url.database) if url.get_backend_name() == "sqlite" else None


class Database:
    """The connection of the database thread: opened when first needed, checked before each use.

    Every method may raise any error of SQLAlchemy and the driver; `describe` turns it into a sentence. After an error,
    call `close`, and `ready` before the next use.
    """

    def __init__(self, url: str, *, survives_power_cut: bool = True, only_reads: bool = False) -> None:
        """`url` is a SQLAlchemy address. Raises `sqlalchemy.exc.ArgumentError` where it is none.

        `survives_power_cut` says whether a commit to a file of SQLite waits for the disk. `only_reads` opens a connection
        that cannot write.
        """
        self._survives_power_cut = survives_power_cut
        self._only_reads = only_reads
        self.log_name = ""
        """The random name of the log of events; empty until the database was opened by one that may write."""
        self.is_readable = False
        """Whether the last attempt to open it got as far as finding the gateway's tables."""
        self._last_id = 0
        self._uncertain: list[tuple[events.EventRow, StoredEvent]] = []
        """Rows of a commit that has not responded, with what it would have responded; also those that were there before."""
        self.url = parse_url(url)
        self._file = database_file(self.url)
        self._log_memory = LogMemory(self._file)
        self._file_id: tuple[int, int] | None = None
        self._connection: Connection | None = None
        self._is_frozen = False
        """Whether the connection takes the file for one that nobody writes."""
        self._services: RuntimeTable | None = None
        self._services_due = 0.0
        self._was_full = False
        self._check_due = 0.0
        self.services_problem: str | None = None
        """Why the rows of services cannot be written, though the database can; one sentence."""

    def __repr__(self) -> str:
        return f"<Database {self.url.get_backend_name()}: {'closed' if self._connection is None else 'open'}>"

    @property
    def driver_connection(self) -> Any:
        """The driver's own connection, None while there is none."""
        return None if self._connection is None else self._connection.connection.driver_connection

    def ready(self) -> None:
        """Open the connection, or check that it still leads to a migrated database."""
        if self._is_frozen and self._file is not None and has_log(self._file):
            # A process has opened the file since.
            self.close()
        if self._connection is None:
            self._open()
        else:
            self._check()

    def cut_log(self) -> None:
        """Cut a large write-ahead log back, unless a reader still needs it. For times without other work."""
        if self._connection is None or self._file is None:
            return
        log = self._file.with_name(f"{self._file.name}-wal")
        if not log.exists() or log.stat().st_size <= LOG_LIMIT:
            return
        connection = self.driver_connection
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(LOCK_WAIT * 1000)}")

    def close(self, after: Exception | None = None) -> None:
        """Close the connection, however broken it is; `after` is the error that it had."""
        self._was_full = after is not None and (self._was_full or is_disk_full(after))
        connection, self._connection = self._connection, None
        if self._last_id:
            self._log_memory.remember(self.log_name, self._last_id)
        if connection is not None:
            try:
                connection.close()
            # A driver may raise any error while it closes a dead connection, and nothing is left to save.
            except Exception:  # noqa: BLE001
                connection.invalidate()

    def append_events(self, rows: Sequence[events.EventRow]) -> list[StoredEvent]:
        """Store events in one transaction; returns the result for each.

        After an error the same rows can be passed again. A row is stored once, also where the connection was lost while
        an earlier commit of it was under way.
        """
        return self._append(rows, events.append_events)

    def append_each_event(self, rows: Sequence[events.EventRow]) -> list[StoredEvent]:
        """As `append_events`, where the database refuses the values of a row: that costs this row only."""
        return self._append(rows, _append_each)

    def _append(
        self,
        rows: Sequence[events.EventRow],
        append: Callable[[Connection, Sequence[events.EventRow]], list[StoredEvent]],
    ) -> list[StoredEvent]:
        with self._write_transaction() as connection:
            known = events.find_appended(connection, self._uncertain) if self._uncertain else {}
            results = append(connection, [row for row in rows if id(row) not in known] if known else rows)
            if known:
                new = iter(results)
                results = [known[id(row)] if id(row) in known else next(new) for row in rows]
            self._uncertain = list(zip(rows, results, strict=True))
        self._uncertain = []
        self._note_stored(results)
        return results

    def _note_stored(self, results: Sequence[StoredEvent]) -> None:
        self._last_id = max(self._last_id, *[id_ for id_, _ in results])
        if monotonic() >= self._log_memory.due:
            self._log_memory.remember(self.log_name, self._last_id)

    def write_services(self, views: Sequence[ServiceView], now: datetime) -> bool:
        """Bring the services' rows up to date in one transaction; False where their table does not allow it.

        The table may be another product's. `services_problem` then says why, and the table is tried again after
        `SERVICES_RETRY` seconds; everything else continues.
        """
        if self._services is None and monotonic() >= self._services_due:
            with self._transaction() as connection:
                self._find_services(connection)
        if self._services is None:
            return False
        try:
            with self._transaction() as connection:
                self._services.write(connection, views, now)
        except SQLAlchemyError as error:
            fault = None if is_data_error(error) else table_fault(error, tables.services.name)
            if fault is None:
                raise
            self._refuse_services(fault)
        return self._services is not None

    def add_history(self, rows: Sequence[HistoryRow]) -> None:
        """Store counts in one transaction, with those of the routes."""
        with self._write_transaction() as connection:
            add_history(connection, rows)
            add_routes(connection, [route for row in rows for route in row.get("routes", ())])

    def roll_up_history(self, request: RollUpRequest, *, thorough: bool) -> Iterator[None]:
        """The roll-up of history, step by step; invalid once the connection has been closed."""
        yield from roll_up_history(self._transaction, request, thorough=thorough)
        yield from roll_up_routes(self._transaction, request, thorough=thorough)

    def trim_events(self, kept: events.EventRetention) -> Iterator[None]:
        """Delete events step by step; invalid once the connection has been closed."""
        return events.trim_events(self._write_transaction, kept)

    def read(self, query: events.Query) -> Any:
        """The result of `query`."""
        with self._transaction() as connection:
            return query(connection)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        assert self._connection is not None
        with self._connection.begin():
            yield self._connection

    @contextmanager
    def _write_transaction(self) -> Iterator[Connection]:
        """A transaction that reads what it then changes: no other process changes it in between."""
        with self._transaction() as connection:
            if connection.dialect.name == "sqlite":
                # The driver would begin with the first change.
                events.run_by_driver(connection, "BEGIN IMMEDIATE")
            yield connection

    def _open(self) -> None:
        if self._was_full and self._file is not None:
            if shutil.disk_usage(self._file.parent).free < LEAST_FREE:
                raise StoreUnavailable(disk_full(self._file))
            self._was_full = False
        try:
            connection, names = self._connect()
        except BaseException:
            self.is_readable = False
            raise
        # Not before: it is read meanwhile, where only writing fails.
        self.is_readable = True
        with connection.begin():
            if self._only_reads:
                connection.exec_driver_sql(_ONLY_READS[connection.dialect.name])
                self.log_name = events.read_log_name(connection, home_of(connection, self._file))
                return
            self._find_services(connection)
        if connection.dialect.name == "sqlite":
            choose_journal(connection, names, survives_power_cut=self._survives_power_cut)
        try:
            _try_writing(connection)
        except SQLAlchemyError:
            # It can still be read, and readers need the name of what they read.
            with connection.begin():
                self.log_name = events.read_log_name(connection, home_of(connection, self._file))
            raise
        home = home_of(connection, self._file)
        connection.rollback()
        with self._write_transaction() as transaction:
            self.log_name = events.name_log(transaction, home, self._log_memory.recall())

    def _connect(self) -> tuple[Connection, set[str]]:
        """A connection to a migrated database, and the names of its tables."""
        connection = self._connection = connect(self.url)
        self._file_id = self._found_file()
        self._is_frozen = isinstance(self.driver_connection, FrozenFile)
        with connection.begin():
            names = set(inspect(connection).get_table_names())
        if not names.issuperset(tables.metadata.tables.keys() - {tables.services.name}):
            raise StoreUnavailable(NOT_MIGRATED)
        return connection, names

    def _find_services(self, connection: Connection) -> None:
        try:
            self._services, self.services_problem = RuntimeTable.find(connection), None
        except StoreUnavailable as error:
            self._refuse_services(error.detail or NOT_MIGRATED)

    def _refuse_services(self, problem: str) -> None:
        self._services, self.services_problem = None, problem
        self._services_due = monotonic() + SERVICES_RETRY

    def _found_file(self) -> tuple[int, int] | None:
        """What identifies the file; zeros where there is none, None for a server."""
        if self._file is None:
            return None
        try:
            status = self._file.stat()
        except OSError:
            return (0, 0)
        return (status.st_dev, status.st_ino)

    def _check(self) -> None:
        # SQLite continues to write into a file that was deleted or replaced, and those rows would be lost.
        if self._found_file() != self._file_id:
            assert self._file is not None
            raise StoreUnavailable(f"The database file {self._file.name} was moved, replaced or deleted.")
        if monotonic() < self._check_due:
            return  # The work itself finds out what the database lacks.
        self._check_due = monotonic() + CHECK_EVERY
        with self._transaction() as connection:
            for table in (tables.events, tables.history):
                connection.execute(select(literal_column("1")).select_from(table).limit(1)).all()


def _append_each(connection: Connection, rows: Sequence[events.EventRow]) -> list[StoredEvent]:
    results: list[StoredEvent] = []
    for row in rows:
        try:
            with connection.begin_nested():
                results += events.append_events(connection, [row])
        except SQLAlchemyError as error:
            if not is_data_error(error):
                raise
            results.append(StoredEvent(0, StoreOutcome.REFUSED))
    return results


def connect(url: URL) -> Connection:
    """A connection that waits a bounded time for locks and servers, and creates no file."""
    return _engine(url).connect()


def write_services(url: str, views: Sequence[ServiceView], now: datetime) -> Written:
    """Write `views` to the database at `url`, with whatever columns its table has, migrated or not.

    For a command that writes once. Raises `StoreUnavailable`.
    """
    return once(url, lambda connection: RuntimeTable.find(connection).write(connection, views, now))


def once(url: str, work: Callable[[Connection], T]) -> T:
    """The result of `work` in a transaction of its own on the database at `url`. Raises `StoreUnavailable`."""
    address = URL.create("sqlite")
    try:
        address = parse_url(url)
        with closing(connect(address)) as connection, connection.begin():
            return work(connection)
    # A driver may raise its own errors, the system's, or none that is documented: each means the same here.
    except Exception as error:
        raise StoreUnavailable(describe(error, address)) from error


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        file = database_file(url)
        if file is None:
            return create_engine(url, poolclass=NullPool, connect_args={"timeout": LOCK_WAIT})
        return create_engine("sqlite://", poolclass=NullPool, creator=lambda: open_file(file, LOCK_WAIT))
    # pg8000 applies it to connecting and to each read of the socket; the server's own limit should strike first.
    limit = {"timeout": SERVER_WAIT + 1} if url.get_driver_name() == "pg8000" else {}
    engine = create_engine(url, poolclass=NullPool, connect_args={**limit, **encryption(url)})
    # A lost connection cannot be closed in order. The gateway says itself that it was lost, without a traceback.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    event.listen(engine, "connect", _prepare_session)
    return engine


def encryption(url: URL) -> dict[str, Any]:
    """Arguments of the driver: none, but to a Unix socket, where PostgreSQL encrypts nothing.

    pg8000 asks for TLS even there, and reads the system's certificates each time, which takes 50 ms of the processor.
    """
    return {"ssl_context": False} if url.get_driver_name() == "pg8000" and "unix_sock" in url.query else {}


def _prepare_session(connection: Any, _record: object) -> None:
    # UTC, since a naive time written to a column with a zone is read in the session's own.
    cursor = connection.cursor()
    cursor.execute("SET TIME ZONE 'UTC'")
    # The server's own default may be a snapshot from before a lock, which hides what others changed until it was free.
    cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED")
    cursor.execute(f"SET lock_timeout = {int(LOCK_WAIT * 1000)}")
    cursor.execute(f"SET statement_timeout = {int(SERVER_WAIT * 1000)}")
    cursor.close()
    connection.commit()


def _try_writing(connection: Connection) -> None:
    """Raise now if the database cannot be written: a locked or read-only one can still be read."""
    notes = tables.schema_notes
    with connection.begin() as transaction:
        connection.execute(update(notes).values(revision=notes.c.revision))
        transaction.rollback()
