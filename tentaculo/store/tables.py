"""The tables that the gateway reads and writes, and the form in which they hold values.

The migrations keep the history of the schema; this is its present state. `services` is another product's table where
one exists already: a migration then only adds the columns that it lacks, and its own types, defaults and further
columns stay as they were found. All times are naive UTC, since the fleet's own readers expect
`YYYY-MM-DD HH:MM:SS.ffffff`. Only `history`, `route_history`, `tickets` and `sessions`, which no other program reads, count
the seconds since 1970.
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from tentaculo.model.reason import MOST_LENGTH, Reason

metadata = MetaData()

VERSION_TABLE = "tentaculo_schema_version"
"""Alembic's table of the present revision. Its usual name, `alembic_version`, may be another product's."""

services = Table(
    "copilot_runtime_services",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("service_name", String(128), nullable=False, unique=True),
    Column("host", String(128)),
    Column("port", Integer, nullable=False),
    Column("health_url", String(256)),
    Column("status", String(32)),
    Column("http_code", Integer),
    Column("latency_ms", Integer),
    Column("endpoint_ok", String(128)),
    Column("snippet", Text),
    Column("last_check", DateTime),
    Column("checked_at", DateTime),
    Column("created_at", DateTime),
)

# The prefix keeps these apart from a fleet's own tables, which may include one named `events`.
events = Table(
    "tentaculo_events",
    metadata,
    # INTEGER on SQLite makes it the row's own key, without a second index; both hold the 53 bits of an event id.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("source", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("canonical", Boolean, nullable=False),
    Column("broadcast", Boolean, nullable=False),
    Column("received_at", DateTime, nullable=False),
    # The producer's own name of the event, and a hash of what it sent. All from here on is NULL in rows of older versions.
    Column("key", Text),
    Column("digest", String(32)),
    Column("severity", Text),
    Column("stated_ms", BigInteger),
    # Bytes of the row, for the limit of all rows.
    Column("size", Integer),
    # When it happened by our own clock, milliseconds since 1970: at most the width before. NULL where that is not known.
    Column("corrected_ms", BigInteger),
    Column("corrected_width_ms", Integer),
    Index("ix_tentaculo_events_type_id", "type", "id"),
    Index("ix_tentaculo_events_source_id", "source", "id"),
    Index("ix_tentaculo_events_received_at", "received_at"),
    # Only of events that have a severity or a key, as `migrate` says: the conditions here would load all dialects.
    Index("ix_tentaculo_events_severity_id", "severity", "id"),
    Index("ix_tentaculo_events_source_key", "source", "key", unique=True),
)

# One row: the greatest id that an event ever had. Rows of events may be deleted, so their ids alone do not say it.
event_sequence = Table(
    "tentaculo_event_sequence",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("last_id", BigInteger, nullable=False),
    # The random name of this log, and what identifies the database that it was given in: a copy gets a new name.
    Column("name", String(32)),
    Column("home", Text),
    # Bytes of the rows that producers sent. NULL until the first event is stored after an update.
    Column("total_bytes", BigInteger),
)

# One row for each block of events whose words have been looked at; `store/event_blocks.py` says what the bits mean.
event_blocks = Table(
    "tentaculo_event_blocks",
    metadata,
    # The last id of the block, and the one before its first.
    Column("last_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("after_id", BigInteger, nullable=False),
    # The name of the log that it was made of.
    Column("log", String(32), nullable=False),
    # NULL where its events may have any word.
    Column("bits", LargeBinary),
)

# What one service did in one span of time. The key keeps a service's rows of one span side by side, and SQLite stores
# them in its order (no rowid), so that a query reads neighbours; the index is for what concerns every service.
history = Table(
    "tentaculo_history",
    metadata,
    Column("service", Text, primary_key=True),
    # Seconds: a minute, an hour or a day, the latter two computed from the ones below them.
    Column("span", Integer, primary_key=True, autoincrement=False),
    # Its first second, counted from 1970 in UTC; a multiple of the span.
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("probes_ok", BigInteger, nullable=False),
    Column("probes_failed", BigInteger, nullable=False),
    # Histograms as `tentaculo.model.history` encodes them, empty where nothing was measured.
    Column("probes_latency", LargeBinary, nullable=False),
    Column("requests_ok", BigInteger, nullable=False),
    Column("requests_failed", BigInteger, nullable=False),
    Column("requests_latency", LargeBinary, nullable=False),
    # Milliseconds in which the service was up or degraded, and in which it was down. NULL in rows of older versions.
    Column("available_ms", BigInteger),
    Column("unavailable_ms", BigInteger),
    Index("ix_tentaculo_history_span_start", "span", "start"),
    sqlite_with_rowid=False,
)

# The requests of one route in one span of time, computed and kept as history is. A span without requests has no row.
route_history = Table(
    "tentaculo_route_history",
    metadata,
    Column("service", Text, primary_key=True),
    # The prefix of the route, behind its host where it has one.
    Column("route", Text, primary_key=True),
    Column("span", Integer, primary_key=True, autoincrement=False),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("requests_ok", BigInteger, nullable=False),
    Column("requests_failed", BigInteger, nullable=False),
    Index("ix_tentaculo_route_history_span_start", "span", "start"),
    sqlite_with_rowid=False,
)

incidents = Table(
    "tentaculo_incidents",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("root", Text, nullable=False),
    # A JSON list of names, the root first.
    Column("services", Text, nullable=False),
    Column("severity", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("started_at", DateTime, nullable=False),
    Column("seen_at", DateTime, nullable=False),
    Column("ended_at", DateTime),
    Column("ending", Text, nullable=False),
    Column("peak_error_rate", Float),
    Column("reopened", Integer, nullable=False),
    Column("part_of", BigInteger),
    Column("told", String(16), nullable=False),
    Column("told_at", DateTime),
    Column("told_services", Integer, nullable=False),
    # JSON: what each channel has delivered of it. NULL in rows of older versions.
    Column("notified", Text),
    # JSON: what the channels did with each message about it. NULL in rows of older versions.
    Column("deliveries", Text),
    # The reason as a code of `tentaculo.model.reason`, and its values as JSON. NULL in rows of older versions.
    Column("reason_code", String(64)),
    Column("reason_values", Text),
    # When the service last failed again; the requests of its minutes that failed, and the end of the last one counted.
    # NULL where there is none, and in rows of older versions.
    Column("reopened_at", DateTime),
    Column("failed_requests", BigInteger),
    Column("counted_until", DateTime),
    # The ending as a code and its values, as the reason.
    Column("ending_code", String(64)),
    Column("ending_values", Text),
    Index("ix_tentaculo_incidents_ended_at", "ended_at"),
)

# No foreign key: a note may be written before the incident itself has reached the database.
incident_notes = Table(
    "tentaculo_incident_notes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("incident", BigInteger, nullable=False),
    Column("written_at", DateTime, nullable=False),
    Column("author", Text, nullable=False),
    Column("text", Text, nullable=False),
    Index("ix_tentaculo_incident_notes_incident", "incident"),
)

# No foreign key, as with notes. The author is a label that the caller gave.
acknowledgements = Table(
    "tentaculo_acknowledgements",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("incident", BigInteger, nullable=False),
    Column("acknowledged_at", DateTime, nullable=False),
    Column("author", Text, nullable=False),
    Column("note", Text, nullable=False),
    Index("ix_tentaculo_acknowledgements_incident", "incident", "id"),
)

# No foreign key, as with notes.
mutes = Table(
    "tentaculo_mutes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("incident", BigInteger, nullable=False),
    Column("muted_at", DateTime, nullable=False),
    # NULL is until the incident ends.
    Column("until_at", DateTime),
    Column("author", Text, nullable=False),
    Index("ix_tentaculo_mutes_incident", "incident", "id"),
)

# One row for each channel of alerts, over all starts of the gateway.
alert_channels = Table(
    "tentaculo_alert_channels",
    metadata,
    Column("name", Text, primary_key=True),
    Column("sent", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("last_sent_at", DateTime),
    Column("last_error_at", DateTime),
    Column("last_error", Text, nullable=False),
)

maintenance = Table(
    "tentaculo_maintenance",
    metadata,
    Column("id", Integer, primary_key=True),
    # A JSON list of names; an empty one is every service.
    Column("services", Text, nullable=False),
    Column("starts_at", DateTime, nullable=False),
    Column("ends_at", DateTime, nullable=False),
    Column("reason", Text, nullable=False),
    Column("author", Text, nullable=False),
    Index("ix_tentaculo_maintenance_ends_at", "ends_at"),
)

# One row for each change of the state of a service, or of one of its endpoints.
state_changes = Table(
    "tentaculo_state_changes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("service", Text, nullable=False),
    # `host:port`, empty for the service itself.
    Column("endpoint", Text, nullable=False),
    Column("before", String(16), nullable=False),
    Column("after", String(16), nullable=False),
    # Why it is degraded, where that has a name.
    Column("kind", String(16)),
    Column("reason", Text, nullable=False),
    Column("changed_at", DateTime, nullable=False),
    # The reason as a code of `tentaculo.model.reason`, and its values as JSON. NULL in rows of older versions.
    Column("reason_code", String(64)),
    Column("reason_values", Text),
    Index("ix_tentaculo_state_changes_service", "service", "endpoint", "id"),
)

# The last heartbeat of each service, later by the time in which the gateway did not run since. Without a body the first
# one has not been received yet, and was awaited since then. The row of the gateway itself says when it last ran.
heartbeats = Table(
    "tentaculo_heartbeats",
    metadata,
    Column("service", Text, primary_key=True),
    Column("received_at", DateTime, nullable=False),
    Column("body", LargeBinary),
)

# One row for each ticket that was given and not yet used. The seconds since 1970 are those of the database's own clock,
# which all workers and machines share.
tickets = Table(
    "tentaculo_tickets",
    metadata,
    # SHA-256 of the ticket, in hex.
    Column("hash", Text, primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
    # The name of the process that gave it.
    Column("issued_by", Text, nullable=False),
    # The fingerprint of the token that it was given to. NULL in rows of older versions.
    Column("token", Text),
    Index("ix_tentaculo_tickets_expires_at", "expires_at"),
)

# One row for each session of the status pages. The seconds since 1970 are those of the database's own clock.
sessions = Table(
    "tentaculo_sessions",
    metadata,
    # SHA-256 of the session's id, in hex.
    Column("hash", Text, primary_key=True),
    # The fingerprint of the token that it was made with.
    Column("token", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # Written at most once a minute.
    Column("used_at", BigInteger, nullable=False),
)

# One row for each token that was used. The seconds since 1970 are those of the database's own clock.
token_uses = Table(
    "tentaculo_token_uses",
    metadata,
    # The fingerprint of the token.
    Column("token", Text, primary_key=True),
    # Written at most once a minute by each process.
    Column("used_at", BigInteger, nullable=False),
)

# One row for each early warning, with what became of it.
early_warnings = Table(
    "tentaculo_early_warnings",
    metadata,
    Column("service", Text, primary_key=True),
    Column("signal", String(64), primary_key=True),
    Column("opened_at", DateTime, primary_key=True),
    Column("rule", String(16), nullable=False),
    Column("level", Float, nullable=False),
    Column("usual", Float, nullable=False),
    Column("limit_value", Float, nullable=False),
    Column("since", DateTime, nullable=False),
    Column("per_minute", Float, nullable=False),
    Column("expected_at", DateTime),
    Column("earliest_at", DateTime),
    Column("latest_at", DateTime),
    Column("outcome", String(16), nullable=False),
    Column("ended_at", DateTime),
    Index("ix_tentaculo_early_warnings_opened_at", "opened_at"),
)

# One row for each value of a health response that early warnings follow, and for each five minutes of the last seven days.
gauges = Table(
    "tentaculo_gauges",
    metadata,
    Column("service", Text, primary_key=True),
    Column("signal", String(64), primary_key=True),
    # Seconds since 1970.
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("value", Float, nullable=False),
    Index("ix_tentaculo_gauges_start", "start"),
)

# One row at most: which machine probes and alerts for all on this database.
lease = Table(
    "tentaculo_lease",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    # The name of the machine.
    Column("holder", Text, nullable=False),
    # One more each time it is taken: what an earlier holder writes is refused.
    Column("epoch", BigInteger, nullable=False),
    # Milliseconds since 1970 by the clock of the database.
    Column("ends_ms", BigInteger, nullable=False),
)

# One row for each endpoint whose clock is known: its offset from the database's clock, in milliseconds.
clocks = Table(
    "tentaculo_clocks",
    metadata,
    Column("service", Text, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("low_ms", Float(53), nullable=False),
    Column("high_ms", Float(53), nullable=False),
    # When that was so, by the database's clock, in milliseconds since 1970.
    Column("at_ms", BigInteger, nullable=False),
)

schema_notes = Table(
    "tentaculo_schema_notes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("revision", String(32), nullable=False),
    Column("table_name", String(128), nullable=False),
    # The column that the revision added to a table it found; NULL where it made the whole table.
    Column("column_name", String(128)),
)


def naive_utc(moment: datetime) -> datetime:
    """`moment` as the database keeps it: UTC without a zone."""
    return (moment if moment.tzinfo is UTC else moment.astimezone(UTC)).replace(tzinfo=None)


def storable(value: str) -> str:
    """`value` without what a database refuses: NUL (PostgreSQL) and lone surrogates (both)."""
    if value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def encoded_reason(name: str, reason: Reason | None, most: int = MOST_LENGTH) -> dict[str, str | None]:
    """The columns of code and values beside the text column `name`: NULL where there is no code.

    Values of more than `most` characters leave the text only.
    """
    code, values = (None, None) if reason is None or not reason.code else (reason.code, reason.encode_values())
    if values is None or len(values) > most:
        code = values = None
    return {f"{name}_code": code, f"{name}_values": None if values is None else storable(values)}


def dialect_module(connection: Connection) -> Any:
    """The dialect's own module, which has the INSERT that knows ON CONFLICT. Only the one in use: each is megabytes."""
    return import_module(f"sqlalchemy.dialects.{connection.dialect.name}")


def aware_utc(moment: datetime) -> datetime:
    """The moment as UTC, of one read from the database, where it has no zone."""
    return moment.replace(tzinfo=UTC)
