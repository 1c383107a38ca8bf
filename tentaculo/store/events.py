"""The log of events: appending, reading and deleting rows, on the caller's connection and in the caller's transaction."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain, compress
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    RowMapping,
    cast,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError

from tentaculo.model.event import MAX_EVENT_ID, Event, StoredEvent, StoreOutcome
from tentaculo.model.health import GATEWAY_NAME
from tentaculo.store.tables import aware_utc, event_blocks, event_sequence, events, naive_utc, storable

Query = Callable[[Connection], Any]
Transaction = Callable[[], AbstractContextManager[Connection]]
"""Opens a transaction on the caller's connection."""


class EventRow(NamedTuple):
    """The row of an event: a value for each column, in the order of `INSERT`. A tuple is what the driver takes."""

    id: int
    """The least id that it may get, until it is stored."""
    source: str
    type: str
    payload: str
    metadata: str
    canonical: int
    broadcast: int
    received_at: str
    """In UTC, as SQLite stores times and PostgreSQL reads them."""
    size: int
    key: str | None
    digest: str | None
    severity: str | None
    stated_ms: int | None
    corrected_ms: int | None
    corrected_width_ms: int | None


MAX_CLOCK_ID = MAX_EVENT_ID - 2**50
"""No id is taken from a clock that is beyond this (the year 2219): ids must stay below 2**53."""
ROW_OVERHEAD = 64
"""Bytes of a row beside its texts, about: numbers, times and the entries of the indexes."""
CHANNEL = "tentaculo_events"
"""The channel of PostgreSQL's notifications that there are more events."""
TRIM_ROWS = 200
"""Events deleted in one transaction."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONLY_ROW = 1
_LOCK = 0x74656E746169
"""The PostgreSQL advisory lock of the event ids; the number is `tentai` in ASCII."""
UNWRITABLE = (TypeError, ValueError, OverflowError, RecursionError)
"""The errors of an event whose payload cannot be JSON."""
_KEYS_AT_ONCE = 500
"""Keys in one statement; SQLite takes 999 parameters at least."""
_ROWS_AT_ONCE = 64
"""Rows in one statement of SQLite, which are 960 parameters at most. The driver gives the interpreter's lock away twice for
each statement: the event loop then runs."""


_NAMES = ", ".join(EventRow._fields)
_SURE = EventRow._fields.index("key")
"""Columns that no row leaves empty; the others follow."""
_EMPTY = (None,) * (len(EventRow._fields) - _SURE)
_INSERT_JSON = text(
    f"INSERT INTO {events.name} ({_NAMES}) SELECT {_NAMES}"  # noqa: S608 - names of columns
    f" FROM json_populate_recordset(NULL::{events.name}, CAST(:rows AS json))"
)
# Literals: pg8000 exchanges one message with the server for a statement without parameters, and three for another.
_IS_ONLY_ROW = event_sequence.c.id == literal_column(str(_ONLY_ROW))
_NOTE_LAST = f"UPDATE {event_sequence.name} SET last_id = {{}}, total_bytes = {{}} WHERE id = {_ONLY_ROW}"  # noqa: S608
_LAST = (
    f"SELECT (SELECT last_id FROM {event_sequence.name} WHERE id = {_ONLY_ROW}),"  # noqa: S608
    f" (SELECT total_bytes FROM {event_sequence.name} WHERE id = {_ONLY_ROW}), (SELECT max(id) FROM {events.name})"
)
"""The last id that was given, the bytes that count, and the greatest id of a row; None where there is none."""


class EventRetention(msgspec.Struct, frozen=True):
    """Which events stay. Those of the gateway itself stay as long as its incidents, which they explain."""

    before: datetime | None
    """Those received earlier are deleted; None deletes none for its age, while the clock may be wrong."""
    most_bytes: int
    """While those of producers have more bytes, the oldest are deleted."""
    own_before: datetime | None = None
    """As `before`, for the gateway's own events, which are neither counted nor deleted for their size."""
    now: datetime | None = None
    """Events with a later receipt, from a time when the clock was ahead, stay; older ones behind them do not."""


def event_rows(new: Iterable[Event]) -> list[EventRow]:
    """The rows of events. Raises as `event_row` does. The events of a batch have one time of receipt."""
    rows, at, written = list[EventRow](), None, ""
    for event in new:
        if event.received_at is not at:
            at, written = event.received_at, _written(event.received_at)
        rows.append(_row(event, written))
    return rows


def event_row(event: Event) -> EventRow:
    """The row of an event. Raises an `UNWRITABLE` error where its payload cannot be JSON."""
    return _row(event, _written(event.received_at))


def _row(event: Event, received_at: str) -> EventRow:
    (source, source_bytes), (type_, type_bytes) = _name(event.source), _name(event.type)
    payload, metadata = _to_json(event.payload), _to_json(event.metadata) if event.metadata else b"{}"
    size = ROW_OVERHEAD + source_bytes + type_bytes + len(payload) + len(metadata)
    key, digest, severity, corrected = event.key, event.digest, event.severity, event.corrected
    if severity is not None:
        severity, severity_bytes = _name(severity)
        size += severity_bytes
    if key is not None:
        key = storable(key)
        size += len(key.encode()) + len(digest or "")
    ms, width_ms = (None, None) if corrected is None else (corrected.ms, corrected.width_ms)
    canonical, broadcast = 1 if event.canonical else 0, 1 if event.broadcast else 0
    text, more = payload.decode(), metadata.decode()
    return EventRow(
        *(event.id, source, type_, text, more, canonical, broadcast, received_at, size),
        *(key, digest, severity, event.stated_ms, ms, width_ms),
    )


@lru_cache(maxsize=512)
def _name(name: str) -> tuple[str, int]:
    """A source, type or severity as it is stored, and its bytes in UTF-8. Most events repeat few of them."""
    stored = storable(name)
    return stored, len(stored.encode())


def _written(received_at: datetime) -> str:
    """A time of receipt as `EventRow` has it, in a third of the time that `isoformat` takes."""
    since = received_at - _EPOCH
    return f"{_second(since.days, since.seconds)}.{since.microseconds:06d}"


@lru_cache(maxsize=8)
def _second(days: int, seconds: int) -> str:
    return (_EPOCH + timedelta(days, seconds)).isoformat(" ", "seconds")[:19]


def append_events(connection: Connection, rows: Sequence[EventRow]) -> list[StoredEvent]:
    """Store events under ids that are greater than every id before them, in the order of `rows`.

    The `id` of a row is the least id it may get: the time, unless an event of a later time has been stored. A row whose
    source and key are stored already is not stored again. On SQLite the transaction must have begun with BEGIN
    IMMEDIATE, so that no other process gives ids at the same time.
    """
    _lock_sequence(connection)
    last, size, stored = run_by_driver(connection, _LAST).fetchone()
    greatest = max(_sound(last), _sound(stored))
    known = _known_keys(connection, rows)
    results, new, added = list[StoredEvent](), list[tuple[Any, ...]](), 0
    for row in rows:
        key = row.key
        if key is not None and (row.source, key) in known:
            id_, digest = known[row.source, key]
            outcome = StoreOutcome.DUPLICATE if digest == row.digest else StoreOutcome.CONFLICT
            results.append(StoredEvent(id_, outcome))
            continue
        greatest += 1
        if greatest < row.id <= MAX_CLOCK_ID:
            greatest = row.id
        new.append((greatest, *row[1:]))
        added += _counted_bytes(row.source, row.size)
        results.append(StoredEvent(greatest, StoreOutcome.STORED))
        if key is not None:
            known[row.source, key] = (greatest, row.digest)
    if new:
        insert_events(connection, new)
        total = (_stored_bytes(connection) if size is None else size + added) if last is not None else added
        if last is None:
            _write_sequence(connection, is_new=True, last_id=greatest, total_bytes=total)
        _note_last(connection, greatest, total)
    return results


def insert_events(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Store rows, as `EventRow` has them, under the ids that they have. Raises `IntegrityError` where an id is taken."""
    if connection.dialect.name == "postgresql":
        # One parameter, since the driver exchanges messages for each row, while other processes wait for the lock.
        named = [dict(zip(EventRow._fields, row, strict=True)) for row in rows]
        connection.execute(_INSERT_JSON, {"rows": msgspec.json.encode(named).decode()})
        return
    # SQLAlchemy's own handling of each value takes longer than the insertion. No None is passed: the driver would
    # look for an adapter of each, which takes a tenth of the insertion.
    alike: dict[tuple[bool, ...], list[tuple[Any, ...]]] = {}
    for row in rows:
        if row[_SURE:] == _EMPTY:
            alike.setdefault((), []).append(row[:_SURE])
        else:
            has_value = tuple([value is not None for value in row])
            alike.setdefault(has_value, []).append(tuple(compress(row, has_value)))
    for has_value, values in alike.items():
        for start in range(0, len(values), _ROWS_AT_ONCE):
            some = values[start : start + _ROWS_AT_ONCE]
            run_by_driver(connection, _insertion(has_value, len(some)), tuple(chain.from_iterable(some)))


@lru_cache(maxsize=4 * _ROWS_AT_ONCE)
def _insertion(has_value: tuple[bool, ...], rows: int) -> str:
    names = tuple(compress(EventRow._fields, has_value)) or EventRow._fields[:_SURE]
    row = f"({', '.join('?' * len(names))})"
    # OR FAIL: SQLite need not remember the pages from before the statement. An error ends the whole transaction anyway.
    return f"INSERT OR FAIL INTO {events.name} ({', '.join(names)}) VALUES {', '.join([row] * rows)}"  # noqa: S608 - names of columns


def find_appended(connection: Connection, uncertain: Sequence[tuple[EventRow, StoredEvent]]) -> dict[int, StoredEvent]:
    """Which rows of `uncertain` are stored, by their Python identity: each has the result that its commit would have had.

    Where the connection is lost during a commit, it may be done or not. It held the lock of the sequence, so that it is
    decided once this transaction has that lock. Another process may have given its ids to other events since.
    """
    _lock_sequence(connection)
    stored = dict[int, RowMapping]()
    for start in range(0, len(uncertain), _KEYS_AT_ONCE):
        ids = [result.id for _, result in uncertain[start : start + _KEYS_AT_ONCE]]
        query = select(events).where(events.c.id.in_(ids))
        stored.update({row["id"]: row for row in connection.execute(query).mappings()})
    return {id(row): result for row, result in uncertain if result.id in stored and _is_same(row, stored[result.id])}


def _is_same(row: EventRow, stored: RowMapping) -> bool:
    """Whether a stored row has the values of `row`, whatever its id."""
    found = {**stored, "id": row.id, "received_at": _written(aware_utc(stored["received_at"]))}
    return row._asdict() == found


def last_event_id(connection: Connection) -> int:
    """The greatest id that an event ever had, 0 where there was none."""
    last, _, stored = run_by_driver(connection, _LAST).fetchone()
    return max(_sound(last), _sound(stored))


def _sound(last: object) -> int:
    """A last id as the database has it; 0 where there is none, or a damaged one, behind which no id could follow."""
    return last if isinstance(last, int) and 0 <= last <= MAX_EVENT_ID else 0


def trim_events(transaction: Transaction, kept: EventRetention) -> Iterator[None]:
    """Delete what `kept` does not keep, the oldest first, in short transactions; between two of them it yields."""
    position: int | None = 0
    while position is not None:
        with transaction() as connection:
            position = _trim_some(connection, kept, position)
        yield


def _trim_some(connection: Connection, kept: EventRetention, after: int) -> int | None:
    """Look at the next events behind the id `after`; returns the last id that was looked at, None at the end."""
    _lock_sequence(connection)
    total = connection.execute(select(event_sequence.c.total_bytes)).scalar()
    if total is None:
        total = _stored_bytes(connection)
    before = None if kept.before is None else naive_utc(kept.before)
    query = select(events.c.id, events.c.received_at, events.c.source, _row_bytes(connection))
    may_go = events.c.source != GATEWAY_NAME
    if kept.own_before is not None:
        may_go |= events.c.received_at < naive_utc(kept.own_before)
    query = query.where(events.c.id > after, may_go)
    now = None if kept.now is None else naive_utc(kept.now)
    gone, freed, is_over = list[int](), 0, True
    for id_, received_at, source, size in connection.execute(query.order_by(events.c.id).limit(TRIM_ROWS)):
        has_room = total - freed <= kept.most_bytes
        is_ahead = has_room and now is not None and received_at > now
        is_over = has_room and not is_ahead and (before is None or received_at >= before)
        if is_over:
            break
        after = id_
        if is_ahead:
            continue
        gone.append(id_)
        freed += _counted_bytes(source, size)
    if gone:
        connection.execute(delete(events).where(events.c.id.in_(gone)))
        # The few events of ours that are left there are read without the index.
        connection.execute(delete(event_blocks).where(event_blocks.c.last_id <= gone[-1]))
        connection.execute(update(event_sequence).values(total_bytes=max(total - freed, 0)))
    return None if is_over else after


def _lock_sequence(connection: Connection) -> None:
    """Give ids, and change the size of the log, in one transaction at a time. BEGIN IMMEDIATE does that on SQLite."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))


def name_log(connection: Connection, home: str, known: tuple[str, int]) -> str:
    """The random name of the log of events. It gets a new one where it has none, and where the database is a copy.

    `home` identifies the database that holds it; `known` is the name of a log with an id that was given in it. A backup
    that was restored has another home, or a smaller last id. Ids never go back: the next one is greater than both.
    """
    _lock_sequence(connection)
    columns = (event_sequence.c.name, event_sequence.c.home, event_sequence.c.last_id)
    row = connection.execute(select(*columns)).one_or_none()
    least = known[1] if row is not None and row.name == known[0] else 0
    if row is not None and row.name is not None and row.home == home and least <= _sound(row.last_id):
        return str(row.name)
    name = secrets.token_hex(6)
    last = max(last_event_id(connection), least)
    _write_sequence(connection, is_new=row is None, name=name, home=home, last_id=last)
    return name


def read_log_name(connection: Connection, home: str) -> str:
    """The name of a log that can only be read. That of a copy follows from its home, so that all processes say the same."""
    row = connection.execute(select(event_sequence.c.name, event_sequence.c.home)).one_or_none()
    if row is None or row.name is None:
        return hashlib.sha256(home.encode()).hexdigest()[:12]
    return str(row.name) if row.home == home else hashlib.sha256(f"{row.name} {home}".encode()).hexdigest()[:12]


def _write_sequence(connection: Connection, *, is_new: bool, **values: int | str) -> None:
    if is_new:
        connection.execute(insert(event_sequence).values(id=_ONLY_ROW, **values))
    else:
        connection.execute(update(event_sequence).where(_IS_ONLY_ROW).values(**values))


def _note_last(connection: Connection, last_id: int, total_bytes: int) -> None:
    """Write the last id that was given, and ring the bell of other machines where there may be some."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"{_NOTE_LAST.format(int(last_id), int(total_bytes))}; NOTIFY {CHANNEL}")
    else:
        run_by_driver(connection, _NOTE_LAST.format("?", "?"), (last_id, total_bytes))


def run_by_driver(connection: Connection, statement: str, values: Sequence[Any] = ()) -> Any:
    """The driver's cursor behind a statement. SQLAlchemy's part of one takes as long as three rows. Errors are its own."""
    driver: Any = connection.dialect.loaded_dbapi
    try:
        cursor: Any = connection.connection.cursor()
        cursor.execute(statement, values)
    except driver.Error as error:
        raise DBAPIError.instance(statement, None, error, driver.Error, dialect=connection.dialect) from error
    return cursor


def _known_keys(connection: Connection, rows: Sequence[EventRow]) -> dict[tuple[str, str], tuple[int, str | None]]:
    """Id and digest of the stored events that have the source and key of one of `rows`."""
    wanted = {(row.source, row.key) for row in rows if row.key is not None}
    keys = list({key for _, key in wanted})
    known = {}
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        some = set(keys[start : start + _KEYS_AT_ONCE])
        sources = list({source for source, key in wanted if key in some})[:_KEYS_AT_ONCE]
        query = select(events.c.source, events.c.key, events.c.id, events.c.digest)
        found = connection.execute(query.where(events.c.source.in_(sources), events.c.key.in_(some)))
        known.update({(source, key): (id_, digest) for source, key, id_, digest in found})
    return known


def _row_bytes(connection: Connection) -> ColumnElement[int]:
    texts = (events.c.source, events.c.type, events.c.payload, events.c.metadata)
    if connection.dialect.name == "sqlite":
        # Its octet_length is younger than the versions in use.
        lengths = [func.length(cast(column, LargeBinary)) for column in texts]
    else:
        lengths = [func.octet_length(column) for column in texts]
    return func.coalesce(events.c.size, ROW_OVERHEAD + lengths[0] + lengths[1] + lengths[2] + lengths[3])


def _stored_bytes(connection: Connection) -> int:
    """The bytes that count; reads the whole table, for a log that an older version wrote."""
    query = select(func.sum(_row_bytes(connection))).where(events.c.source != GATEWAY_NAME)
    total: int | None = connection.execute(query).scalar()
    return int(total or 0)


def _counted_bytes(source: str, size: int) -> int:
    """Those that count for the size of the log. The gateway's own events do not: they stay while that is exceeded, so that
    every other event would be deleted instead."""
    return 0 if source == GATEWAY_NAME else size


def _to_json(value: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        # A lone surrogate: JSON can carry it as an escape, UTF-8 cannot.
        return json.dumps(value).encode()
