"""Make the table of the channels of alerts, and add what the channels did with each message to incidents.

The new column is nullable: a row that an older version wrote has no value there. The downgrade removes the table, the
column and their notes, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

CHANNELS = "tentaculo_alert_channels"
INCIDENTS, DELIVERIES = "tentaculo_incidents", "deliveries"
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    op.create_table(
        CHANNELS,
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("sent", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("last_sent_at", sa.DateTime),
        sa.Column("last_error_at", sa.DateTime),
        sa.Column("last_error", sa.Text, nullable=False),
    )
    op.execute(notes.insert().values(revision=revision, table_name=CHANNELS, column_name=None))
    op.add_column(INCIDENTS, sa.Column(DELIVERIES, sa.Text, nullable=True))
    op.execute(notes.insert().values(revision=revision, table_name=INCIDENTS, column_name=DELIVERIES))


def downgrade() -> None:
    # A table or a column that somebody has removed by hand already needs nothing.
    inspector = sa.inspect(op.get_bind())
    if inspector.has_table(CHANNELS):
        op.drop_table(CHANNELS)
    if inspector.has_table(INCIDENTS) and DELIVERIES in {one["name"] for one in inspector.get_columns(INCIDENTS)}:
        op.drop_column(INCIDENTS, DELIVERIES)
    op.execute(notes.delete().where(notes.c.revision == revision))
