"""Make the tables of state changes and of heartbeats; add the time in each state to history, and delivery to incidents.

The new columns are nullable: a row that an older version wrote has no value there. The downgrade removes the two tables,
the three columns and their notes, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATE_CHANGES = "tentaculo_state_changes"
HEARTBEATS = "tentaculo_heartbeats"
COLUMNS = (
    ("tentaculo_history", "available_ms", sa.BigInteger),
    ("tentaculo_history", "unavailable_ms", sa.BigInteger),
    ("tentaculo_incidents", "notified", sa.Text),
)
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    op.create_table(
        STATE_CHANGES,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("before", sa.String(16), nullable=False),
        sa.Column("after", sa.String(16), nullable=False),
        sa.Column("kind", sa.String(16)),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("changed_at", sa.DateTime, nullable=False),
    )
    op.create_index("ix_tentaculo_state_changes_service", STATE_CHANGES, ["service", "endpoint", "id"])
    op.create_table(
        HEARTBEATS,
        sa.Column("service", sa.Text, primary_key=True),
        sa.Column("received_at", sa.DateTime, nullable=False),
        sa.Column("body", sa.LargeBinary),
    )
    for table in (STATE_CHANGES, HEARTBEATS):
        op.execute(notes.insert().values(revision=revision, table_name=table, column_name=None))
    for table, name, kind in COLUMNS:
        op.add_column(table, sa.Column(name, kind, nullable=True))
        op.execute(notes.insert().values(revision=revision, table_name=table, column_name=name))


def downgrade() -> None:
    # A table or a column that somebody has removed by hand already needs nothing.
    inspector = sa.inspect(op.get_bind())
    for table in (HEARTBEATS, STATE_CHANGES):
        if inspector.has_table(table):
            op.drop_table(table)
    for table, name, _ in reversed(COLUMNS):
        if inspector.has_table(table) and name in {column["name"] for column in inspector.get_columns(table)}:
            op.drop_column(table, name)
    op.execute(notes.delete().where(notes.c.revision == revision))
