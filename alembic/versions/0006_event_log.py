"""Make the table of events a log: keys of producers, severity, stated time and size of a row; the log's name and size.

The new columns are nullable: an event that an older version stored has no value there. The downgrade removes the
columns, the indexes and the notes, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

EVENTS = "tentaculo_events"
SEQUENCE = "tentaculo_event_sequence"
COLUMNS = (
    (EVENTS, "key", sa.Text),
    (EVENTS, "digest", sa.String(32)),
    (EVENTS, "severity", sa.Text),
    (EVENTS, "stated_ms", sa.BigInteger),
    (EVENTS, "size", sa.Integer),
    (SEQUENCE, "name", sa.String(32)),
    (SEQUENCE, "home", sa.Text),
    (SEQUENCE, "total_bytes", sa.BigInteger),
)
KEYS = "ix_tentaculo_events_source_key"
INDEXES = {
    "ix_tentaculo_events_source_id": ["source", "id"],
    "ix_tentaculo_events_received_at": ["received_at"],
}
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    for table, name, kind in COLUMNS:
        op.add_column(table, sa.Column(name, kind, nullable=True))
        op.execute(notes.insert().values(revision=revision, table_name=table, column_name=name))
    op.create_index(KEYS, EVENTS, ["source", "key"], unique=True)
    for name, columns in INDEXES.items():
        op.create_index(name, EVENTS, columns)


def downgrade() -> None:
    # What somebody has removed by hand already needs nothing.
    inspector = sa.inspect(op.get_bind())
    if inspector.has_table(EVENTS):
        present = {index["name"] for index in inspector.get_indexes(EVENTS)}
        for name in (*INDEXES, KEYS):
            if name in present:
                op.drop_index(name, EVENTS)
    for table, name, _ in reversed(COLUMNS):
        if inspector.has_table(table) and name in {column["name"] for column in inspector.get_columns(table)}:
            op.drop_column(table, name)
    op.execute(notes.delete().where(notes.c.revision == revision))
