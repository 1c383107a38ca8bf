"""Make or adopt copilot_runtime_services; make the tables of events and of notes.

`copilot_runtime_services` may be another product's. Then only the columns it lacks are added, each nullable; types,
defaults and rows stay as they are. What was added is noted, and the downgrade removes that and no more. A view of that
name, or a table without `id` or `service_name`, stays as it is; the gateway then writes no rows there.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op
from alembic.util import CommandError

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SERVICES = "copilot_runtime_services"
EVENTS = "tentaculo_events"
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def _service_columns() -> list[sa.Column]:
    return [
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("service_name", sa.String(128), nullable=False, unique=True),
        sa.Column("host", sa.String(128)),
        sa.Column("port", sa.Integer, nullable=False),
        sa.Column("health_url", sa.String(256)),
        sa.Column("status", sa.String(32)),
        sa.Column("http_code", sa.Integer),
        sa.Column("latency_ms", sa.Integer),
        sa.Column("endpoint_ok", sa.String(128)),
        sa.Column("snippet", sa.Text),
        sa.Column("last_check", sa.DateTime),
        sa.Column("checked_at", sa.DateTime),
        sa.Column("created_at", sa.DateTime),
    ]


def upgrade() -> None:
    if context.is_offline_mode():
        raise CommandError("This revision looks at the database it changes, so it cannot be written as SQL.")
    op.create_table(
        NOTES,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("revision", sa.String(32), nullable=False),
        sa.Column("table_name", sa.String(128), nullable=False),
        sa.Column("column_name", sa.String(128)),
    )
    inspector = sa.inspect(op.get_bind())
    if SERVICES in inspector.get_table_names():
        _adopt({column["name"] for column in inspector.get_columns(SERVICES)})
    # SQLite fails where it is asked for a view whose own tables are gone.
    elif SERVICES not in inspector.get_view_names() and not inspector.has_table(SERVICES):
        op.create_table(SERVICES, *_service_columns())
        _note(SERVICES)
    op.create_table(
        EVENTS,
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("canonical", sa.Boolean, nullable=False),
        sa.Column("broadcast", sa.Boolean, nullable=False),
        sa.Column("received_at", sa.DateTime, nullable=False),
    )
    op.create_index("ix_tentaculo_events_type_id", EVENTS, ["type", "id"])
    _note(EVENTS)
    _note(NOTES)


def downgrade() -> None:
    connection = op.get_bind()
    added = connection.execute(
        sa.select(notes.c.table_name, notes.c.column_name).where(notes.c.revision == revision).order_by(notes.c.id)
    ).all()
    # Backwards: the table of notes was noted last and would take the rest with it, but they are read already.
    for table, column in reversed(added):
        inspector = sa.inspect(connection)
        if not inspector.has_table(table):
            continue
        if column is None:
            op.drop_table(table)
        elif column in {found["name"] for found in inspector.get_columns(table)}:
            op.drop_column(table, column)


def _adopt(present: set[str]) -> None:
    if not {"id", "service_name"} <= present:
        return
    is_strict = _is_strict()
    for column in _service_columns():
        if column.name not in present:
            kind = column.type
            if is_strict and not isinstance(kind, sa.Integer):
                kind = sa.Text()
            op.add_column(SERVICES, sa.Column(column.name, kind, nullable=True))
            _note(SERVICES, column.name)


def _is_strict() -> bool:
    """Whether the table takes only SQLite's own types."""
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        return False
    listed = connection.exec_driver_sql(f"PRAGMA table_list({SERVICES})").mappings().all()
    return any(row.get("strict") for row in listed)


def _note(table: str, column: str | None = None) -> None:
    op.execute(notes.insert().values(revision=revision, table_name=table, column_name=column))
