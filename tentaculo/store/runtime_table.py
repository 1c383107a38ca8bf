"""`copilot_runtime_services`: one row per service, written in the words the fleet knows, in whatever shape it stands.

The table may be another product's, older than this one. So its columns are looked up, only those that exist are
written, rows are changed in place (ids, `created_at` and unknown columns stay), and rows under an alias or without a
name are never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnClause, Connection, DateTime, String, bindparam, column, func, inspect, select, table
from sqlalchemy.engine.interfaces import ReflectedIndex
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.types import TypeEngine

from tentaculo.model.health import BreakerState, Health, ProbeDetails, ServiceView, words_of
from tentaculo.store import tables
from tentaculo.store.errors import NOT_MIGRATED, StoreUnavailable
from tentaculo.store.tables import aware_utc, dialect_module, naive_utc, storable

KEY = "service_name"
# What the configuration knows of a service, and what only a probe can find out.
_FACTS = ("host", "port", "health_url", "status")
_FINDINGS = ("http_code", "latency_ms", "endpoint_ok", "snippet", "last_check", "checked_at")
# What must not stay of an earlier probe where a service is not probed any more.
_OUTDATED = ("http_code", "latency_ms", "endpoint_ok", "snippet")


def word_of(view: ServiceView) -> str:
    """The word of VX11 7.0 for a service's state: OK, BROKEN or UNKNOWN. A service whose breaker is open is BROKEN."""
    is_open = view.breaker.state is BreakerState.OPEN
    if is_open and view.health not in (Health.OFF, Health.MAINTENANCE):
        return words_of(Health.DOWN).truth
    return words_of(view.health).truth


def services_fault(connection: Connection) -> str | None:
    """Why what has the table's name cannot hold the rows, in one sentence; None where it can, or where there is none."""
    name, inspector = tables.services.name, inspect(connection)
    # SQLite has no columns of a view whose own tables are gone, and fails where it is asked for them.
    if name in inspector.get_view_names():
        return f"{name} is not a table but a view."
    if not inspector.has_table(name):
        return None
    found = inspector.get_table_names()
    if name not in found:
        other = next((table for table in found if table.lower() == name), None)
        return f"The table {other} is not called {name}, in lower case." if other else f"{name} is not a plain table."
    if not {"id", KEY} <= {column["name"] for column in inspector.get_columns(name)}:
        return f"The table {name} has no column id or {KEY}."
    keys: list[Sequence[str | None]] = [inspector.get_pk_constraint(name)["constrained_columns"]]
    keys += [unique["column_names"] for unique in inspector.get_unique_constraints(name)]
    keys += [index["column_names"] for index in inspector.get_indexes(name) if _is_whole_and_unique(index)]
    if [KEY] not in keys:
        return f"The table {name} has no UNIQUE constraint on {KEY}."
    return None


def _is_whole_and_unique(index: ReflectedIndex) -> bool:
    return bool(index["unique"]) and not any(key.endswith("_where") for key in index.get("dialect_options", {}))


class Written(msgspec.Struct, frozen=True):
    """What one write did: how many rows, and which columns the table has of those a row could fill."""

    rows: int
    columns: tuple[str, ...]


class RuntimeTable:
    """The table as it stands in one database: made by `find`, used on connections to that database only."""

    def __init__(self, types: Mapping[str, TypeEngine[Any]]) -> None:
        """`types` are the table's columns by name, with their types as reflected."""
        self._fit = {name: _fit(type_) for name, type_ in types.items()}
        self._facts = tuple(name for name in _FACTS if name in types)
        self._findings = tuple(name for name in _FINDINGS if name in types)
        self._outdated = tuple(name for name in _OUTDATED if name in types)
        columns: list[ColumnClause[Any]] = [
            column(c.name, String() if isinstance(c.type, DateTime) and not _is_time(types[c.name]) else c.type)
            for c in tables.services.c
            if c.name in types
        ]
        self._table = table(tables.services.name, *columns)
        # SQLAlchemy's own kind of text is none that every library takes for one.
        self.columns = tuple(str(one.name) for one in columns if one.name != "id")
        """The columns that are written, in the table's canonical order."""
        key = self._table.c[KEY]
        # Made once: one with the names in it leaves cycles, and the rows are written twice a second.
        self._of_names = select(key).where(key.in_(bindparam("names", expanding=True)))

    def __repr__(self) -> str:
        return f"<RuntimeTable: {', '.join(self._table.c.keys())}>"

    @classmethod
    def find(cls, connection: Connection) -> RuntimeTable:
        """Look the table's columns up. Raises `StoreUnavailable` where there is no table that can hold the rows."""
        if (fault := services_fault(connection)) is not None:
            raise StoreUnavailable(fault)
        try:
            found = inspect(connection).get_columns(tables.services.name)
        except NoSuchTableError:
            raise StoreUnavailable(NOT_MIGRATED) from None
        return cls({str(c["name"]): c["type"] for c in found})

    def write(self, connection: Connection, views: Iterable[ServiceView], now: datetime) -> Written:
        """Bring the rows of `views` up to date, within the caller's transaction.

        A service that has not been probed yet keeps what an earlier probe found. One that is not probed at all (off, or
        its requests decide) does not. `now` becomes `created_at` of new rows.
        """
        # In the order of their names, so that two writers cannot wait for each other's rows.
        rows = [(self._known_of(view), self._row(view, now)) for view in sorted(views, key=lambda v: v.name)]
        known = self._known(connection, [row[KEY] for _, row in rows])
        for names in (self._facts + self._findings, self._facts + self._outdated, self._facts):
            chosen = [row for known_names, row in rows if known_names == names]
            self._change(connection, [row for row in chosen if row[KEY] in known], names)
            self._insert(connection, [row for row in chosen if row[KEY] not in known], names)
        return Written(len(rows), self.columns)

    def end(self, connection: Connection, words: Mapping[str, str], snippet: str) -> None:
        """See `end_rows`."""
        if "status" not in self.columns:
            return
        c, status = self._table.c, self._fit["status"]
        values = dict.fromkeys(self._outdated) | {"status": words_of(Health.OFF).truth, "snippet": snippet}
        fitting = {name: self._fit[name](value) for name, value in values.items() if name in self.columns}
        # An open breaker makes the row of a service that its probes find up BROKEN.
        statement = self._table.update().where(
            c[KEY] == bindparam("the_key"), c["status"].in_((bindparam("word"), status(words_of(Health.DOWN).truth)))
        )
        parameters = [{"the_key": name, "word": status(word)} for name, word in sorted(words.items())]
        connection.execute(statement.values(fitting), parameters)

    def _known_of(self, view: ServiceView) -> tuple[str, ...]:
        """The columns that the view of a service says something about."""
        if _is_unprobed(view):
            return self._facts + self._outdated
        return self._facts if view.checked_at is None else self._facts + self._findings

    def _known(self, connection: Connection, names: Sequence[str]) -> set[str]:
        return set(connection.scalars(self._of_names, {"names": names}))

    def _change(self, connection: Connection, rows: list[dict[str, Any]], names: Sequence[str]) -> None:
        # A plain UPDATE where the row is there: ON CONFLICT would take a number from PostgreSQL's id sequence for each
        # probe, and a fleet of a thousand would use up the sequence's 31 bits within a year.
        if not rows or not names:
            return
        c = self._table.c
        values = {
            name: func.coalesce(bindparam(f"new_{name}", type_=c[name].type), c[name])
            if name == "health_url"
            else bindparam(f"new_{name}", type_=c[name].type)
            for name in names
        }
        statement = self._table.update().where(c[KEY] == bindparam("the_key")).values(values)
        parameters = [{"the_key": row[KEY]} | {f"new_{name}": row[name] for name in names} for row in rows]
        connection.execute(statement, parameters)

    def _insert(self, connection: Connection, rows: list[dict[str, Any]], names: Sequence[str]) -> None:
        if not rows:
            return
        insert = dialect_module(connection).insert(self._table)
        # Another writer may have been first since we looked; its row is then changed in place, never replaced.
        if names:
            statement = insert.on_conflict_do_update(
                index_elements=[KEY], set_={name: insert.excluded[name] for name in names}
            )
        else:
            statement = insert.on_conflict_do_nothing(index_elements=[KEY])
        connection.execute(statement, rows)

    def _row(self, view: ServiceView, now: datetime) -> dict[str, Any]:
        checked_at = None if view.checked_at is None else naive_utc(view.checked_at)
        status, is_unprobed = word_of(view), _is_unprobed(view)
        values: dict[str, Any] = {
            KEY: view.name,
            "host": view.host,
            "port": view.port,
            "health_url": view.health_url,
            "status": status,
            "http_code": None if is_unprobed else view.code,
            "latency_ms": None if is_unprobed else view.latency_ms,
            "endpoint_ok": view.endpoint if status == "OK" else None,
            "snippet": view.reason if is_unprobed else view.snippet,
            "last_check": checked_at,
            "checked_at": checked_at,
            "created_at": naive_utc(now),
        }
        return {name: self._fit[name](values[name]) for name in self.columns}


def _is_unprobed(view: ServiceView) -> bool:
    """Whether no probe finds anything out about a service: it is off, or its requests alone decide."""
    is_decided = view.health.is_healthy or view.health is Health.DOWN
    return view.health is Health.OFF or (view.checked_at is None and is_decided and not view.is_restored)


def end_rows(connection: Connection, words: Mapping[str, str], snippet: str) -> None:
    """Write `snippet` to the rows of services that are no longer configured, within the caller's transaction.

    `words` are the words of VX11 7.0 for their last states, by name. A row that says another one is left alone, as another
    producer has written it since; so is a table that cannot hold the rows.
    """
    try:
        found = RuntimeTable.find(connection)
    except StoreUnavailable:
        return
    found.end(connection, words, snippet)


_DETAILS = ("checked_at", "http_code", "latency_ms", "endpoint_ok", "snippet")


def read_details(connection: Connection) -> dict[str, ProbeDetails]:
    """What the last probe of each service found, by its name. Nothing where the table has not the columns for it."""
    try:
        types = {str(one["name"]): one["type"] for one in inspect(connection).get_columns(tables.services.name)}
    except NoSuchTableError:
        return {}
    if not {KEY, *_DETAILS} <= types.keys() or not _is_time(types["checked_at"]):
        return {}
    c = tables.services.c
    query = select(c[KEY], *(c[name] for name in _DETAILS)).where(c[KEY].is_not(None), c.checked_at.is_not(None))
    return {row[0]: ProbeDetails(aware_utc(row[1]), *row[2:]) for row in connection.execute(query)}


def _is_time(type_: TypeEngine[Any]) -> bool:
    return isinstance(type_, DateTime)


def _fit(type_: TypeEngine[Any]) -> Callable[[Any], Any]:
    """How a value is made to fit a column of `type_`: text is cut to its length, a time in a text column is spelled."""
    is_time = _is_time(type_)
    length = type_.length if isinstance(type_, String) else None

    def fit(value: Any) -> Any:
        if isinstance(value, str):
            return storable(value)[:length]
        if isinstance(value, datetime) and not is_time:
            return value.isoformat(" ", "microseconds")
        return value

    return fit
